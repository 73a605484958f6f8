"""Products of features with matrices in pure torch: a part of `kernels.reference`.

Features [N, ...] are rows of numbers, one row per atom. A block is some atoms, a degree's place in the rows of input
and output, and the matrix [C, C'] that takes one to the other, the same for each of the degree's components:

    y = s x W,    x = s y Wᵀ,    W = s Σ xᵀ y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class MatrixBlock(NamedTuple):
    """Features of some atoms that one matrix is for."""

    matrix: int
    """Position of the tensor with the matrix among those of the call."""
    number: int
    """Position of the matrix in that tensor, 0 where it is nothing else."""
    begin: int
    """First atom."""
    end: int
    """One after the last atom."""
    first_in: int
    """Position of the first number in a row of the input."""
    fan_in: int
    """Numbers of one component there."""
    first_out: int
    """Position of the first number in a row of the output."""
    fan_out: int
    """Numbers of one component there."""
    components: int
    """2l + 1."""
    scale: float
    """Factor of the matrix."""

    def of_input(self, x: Tensor) -> Tensor:
        """The block in contiguous features x [N, ...], a view [2l+1, atoms, fan_in]."""
        return _view(x[self.begin : self.end], self.first_in, self.fan_in, self.components)

    def of_output(self, y: Tensor) -> Tensor:
        """The block in a contiguous result y [N, ...], a view [2l+1, atoms, fan_out]."""
        return _view(y[self.begin : self.end], self.first_out, self.fan_out, self.components)

    def matrix_of(self, tensors: Sequence[Tensor]) -> Tensor:
        """The matrix, a view [fan_in, fan_out]."""
        return tensors[self.matrix].view(-1, self.fan_in, self.fan_out)[self.number]


def matrix_products(
    x: Tensor, matrices: Sequence[Tensor], blocks: Sequence[MatrixBlock], shape: tuple[int, ...], transposed: bool
) -> Tensor:
    """S x W for all blocks, or S x Wᵀ.

    Args:
        x: Features, [N, ...].
        matrices: [fan_in, fan_out], or [S, fan_in, fan_out] each.
        blocks: No two of them have places of the result in common.
        shape: Of the result of one atom.
        transposed: Whether x is at the output of the matrices.

    Returns:
        [N, *shape]; zeros where no block is.
    """
    x, matrices = x.contiguous(), [matrix.contiguous() for matrix in matrices]
    result = empty_result(x, blocks, shape, transposed)
    for block in blocks:
        source, target = (
            (block.of_output(x), block.of_input(result)) if transposed else (block.of_input(x), block.of_output(result))
        )
        matrix = block.matrix_of(matrices)
        each = (matrix.T if transposed else matrix).expand(block.components, -1, -1)
        torch.baddbmm(target, source, each, beta=0.0, alpha=block.scale, out=target)
    return result


def matrix_gradients(
    pairs: Sequence[tuple[Tensor, Tensor]], blocks: Sequence[MatrixBlock], shapes: Sequence[tuple[int, ...]]
) -> tuple[Tensor, ...]:
    """S Σ xᵀ y over pairs of features of input and output.

    Args:
        pairs: Features [N, ...] of both; at least one pair.
        blocks: No two of them have the same matrix.
        shapes: Of the tensors with the matrices.

    Returns:
        Tensors of these shapes; zeros in matrices without a block.
    """
    pairs = [(x.contiguous(), y.contiguous()) for x, y in pairs]
    matrices = tuple(pairs[0][0].new_zeros(shape) for shape in shapes)
    for block in blocks:
        matrix = block.matrix_of(matrices)
        for x, y in pairs:  # component by component: a copy of all of them would cost more than the product
            for left, right in zip(block.of_input(x).unbind(), block.of_output(y).unbind(), strict=True):
                torch.addmm(matrix, left.T, right, alpha=block.scale, out=matrix)
    return matrices


def empty_result(x: Tensor, blocks: Sequence[MatrixBlock], shape: tuple[int, ...], transposed: bool) -> Tensor:
    """A result for `matrix_products`, zeros where blocks do not cover all of it."""
    fans = (block.fan_in if transposed else block.fan_out for block in blocks)
    covered = sum((b.end - b.begin) * b.components * fan for b, fan in zip(blocks, fans, strict=True))
    make = torch.empty if covered == x.shape[0] * math.prod(shape) else torch.zeros
    return make(x.shape[0], *shape, dtype=x.dtype, device=x.device)


def _view(rows: Tensor, first: int, fan: int, count: int) -> Tensor:
    width = math.prod(rows.shape[1:])
    return rows.as_strided((count, rows.shape[0], fan), (fan, width, 1), rows.storage_offset() + first)
