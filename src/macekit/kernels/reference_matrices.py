"""Products of features with matrices in pure torch: a part of `kernels.reference`.

Features [N, ...] are rows of numbers, one row per atom. A block is some atoms, a degree's place in the rows of input
and output, and the matrix [C, C'] that takes one to the other, the same for each of the degree's components:

    y = s x W,    x = s y Wᵀ,    W = s Σ xᵀ y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

PLANS_KEPT = 512
"""Of numbers of atoms and their classes; every batch has its own."""


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


@dataclass(frozen=True, eq=False)
class MatrixPlan:
    """The blocks of one map of features, and sizes that follow from them."""

    blocks: tuple[MatrixBlock, ...]
    """No two of them have a matrix, or a place in the rows, in common."""
    atoms: int
    """N."""
    shape_in: tuple[int, ...]
    """Of the features of one atom."""
    shape_out: tuple[int, ...]
    """Of the result of one atom."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the tensors with the matrices, [fan_in, fan_out] or [S, fan_in, fan_out] each."""

    @cached_property
    def work(self) -> int:
        """Multiplications."""
        return sum((b.end - b.begin) * b.components * b.fan_in * b.fan_out for b in self.blocks)

    def empty_features(self, like: Tensor, transposed: bool) -> Tensor:
        """Features for the result of `matrix_products`, zeros where blocks do not cover all of them."""
        shape = self.shape_in if transposed else self.shape_out
        make = like.new_empty if self._covers[transposed] else like.new_zeros
        return make(self.atoms, *shape)

    def empty_matrices(self, like: Tensor) -> tuple[Tensor, ...]:
        """Tensors for the result of `matrix_gradients`, zeros where some matrices have no block."""
        make = like.new_empty if self._covers[2] else like.new_zeros
        return tuple(make(shape) for shape in self.shapes)

    @cached_property
    def _covers(self) -> tuple[bool, bool, bool]:
        """Whether blocks cover all of the output, of the input, and of the matrices."""
        rows_out = sum((b.end - b.begin) * b.components * b.fan_out for b in self.blocks)
        rows_in = sum((b.end - b.begin) * b.components * b.fan_in for b in self.blocks)
        matrices = sum(math.prod(shape[:-2]) for shape in self.shapes)
        return (
            rows_out == self.atoms * math.prod(self.shape_out),
            rows_in == self.atoms * math.prod(self.shape_in),
            len(self.blocks) == matrices,
        )


def matrix_products(x: Tensor, matrices: Sequence[Tensor], plan: MatrixPlan, transposed: bool) -> Tensor:
    """S x W for all blocks, or S x Wᵀ.

    Args:
        x: Features, [N, *shape_in], or [N, *shape_out].
        matrices: In the shapes of the plan.
        plan: What is multiplied by what.
        transposed: Whether x is at the output of the matrices.

    Returns:
        [N, *shape_out], or [N, *shape_in]; zeros where no block is.
    """
    x, matrices = x.contiguous(), [matrix.contiguous() for matrix in matrices]
    result = plan.empty_features(x, transposed)
    for block in plan.blocks:
        source, target = (
            (block.of_output(x), block.of_input(result)) if transposed else (block.of_input(x), block.of_output(result))
        )
        matrix = block.matrix_of(matrices)
        each = (matrix.T if transposed else matrix).expand(block.components, -1, -1)
        torch.baddbmm(target, source, each, beta=0.0, alpha=block.scale, out=target)
    return result


def matrix_gradients(pairs: Sequence[tuple[Tensor, Tensor]], plan: MatrixPlan) -> tuple[Tensor, ...]:
    """S Σ xᵀ y over pairs of features of input and output.

    Args:
        pairs: Features [N, *shape_in] and [N, *shape_out]; at least one pair.
        plan: What is multiplied by what.

    Returns:
        Tensors of the plan's shapes; zeros in matrices without a block.
    """
    pairs = [(x.contiguous(), y.contiguous()) for x, y in pairs]
    matrices = plan.empty_matrices(pairs[0][0])
    for block in plan.blocks:
        matrix, beta = block.matrix_of(matrices), 0.0
        for x, y in pairs:  # component by component: a copy of all of them would cost more than the product
            for left, right in zip(block.of_input(x).unbind(), block.of_output(y).unbind(), strict=True):
                torch.addmm(matrix, left.T, right, beta=beta, alpha=block.scale, out=matrix)
                beta = 1.0
    return matrices


def _view(rows: Tensor, first: int, fan: int, count: int) -> Tensor:
    width = math.prod(rows.shape[1:])
    return rows.as_strided((count, rows.shape[0], fan), (fan, width, 1), rows.storage_offset() + first)
