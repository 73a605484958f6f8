"""Products of features with one matrix per degree and class of atoms; see `model.matrices`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from macekit.kernels import sweeps


class Grouped(NamedTuple):
    """Atoms by class, and the components of the degrees of their features."""

    order: Tensor
    """Atoms sorted by class, int64 [N]."""
    counts: tuple[int, ...]
    """Number of atoms of every class, [S]."""
    rows: tuple[int, ...]
    """Rows of every degree in the features [N, D, K], in order; further rows at the end have no matrix."""
    dim_in: int
    """D."""
    scale: float = 1.0
    """Factor of all matrices."""

    @property
    def dim_out(self) -> int:
        """Rows of the result."""
        return sum(self.rows)

    def sorted_blocks(self, x: Tensor) -> list[Tensor]:
        """Copies [N, 2l+1, K] of the degrees, atoms in the order of their classes."""
        blocks = x.split([*self.rows, x.shape[1] - sum(self.rows)], dim=1)[: len(self.rows)]
        return [block.index_select(0, self.order) for block in blocks]

    def of_classes(self, block: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Classes that have atoms, and their part of a sorted block as a matrix [n (2l+1), K]."""
        start = 0
        for number, count in enumerate(self.counts):
            if count:
                yield number, block[start : start + count].view(-1, block.shape[2])
            start += count

    def product(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S x W in the atoms' own order, [N, sum of rows, K]."""
        return self._multiply(x, matrices, self.dim_out)

    def transposed(self, y: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S y Wᵀ in the atoms' own order, [N, dim_in, K]; zeros in rows without a matrix."""
        return self._multiply(y, [matrix.mT for matrix in matrices], self.dim_in)

    def outer(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """S Σ xᵀ y over pairs of features for every degree and class, [S, K, K] each."""
        blocks = [(self.sorted_blocks(x), self.sorted_blocks(y)) for x, y in pairs]
        matrices = []
        for degree in range(len(self.rows)):
            like, width = blocks[0][0][degree], blocks[0][1][degree].shape[2]
            matrix = like.new_empty(len(self.counts), like.shape[2], width)
            for number, count in enumerate(self.counts):
                if not count:
                    matrix[number] = 0.0
            for position, (left, right) in enumerate(blocks):
                parts = zip(self.of_classes(left[degree]), self.of_classes(right[degree]), strict=True)
                beta = float(position > 0)
                for (number, one), (_, other) in parts:
                    torch.addmm(matrix[number], one.T, other, beta=beta, alpha=self.scale, out=matrix[number])
            matrices.append(matrix)
        return tuple(matrices)

    def _multiply(self, x: Tensor, matrices: Sequence[Tensor], dim: int) -> Tensor:
        make = torch.empty if dim == sum(self.rows) else torch.zeros
        result = make(x.shape[0], dim, x.shape[2], dtype=x.dtype, device=x.device)
        start = 0
        for block, matrix, rows in zip(self.sorted_blocks(x), matrices, self.rows, strict=True):
            mapped = torch.empty_like(block)
            for (number, source), (_, target) in zip(self.of_classes(block), self.of_classes(mapped), strict=True):
                torch.addmm(target, source, matrix[number], beta=0.0, alpha=self.scale, out=target)
            result[:, start : start + rows].index_copy_(0, self.order, mapped)
            start += rows
        return result


def per_degree_and_class(x: Tensor, matrices: Sequence[Tensor], grouped: Grouped) -> Tensor:
    """S x W, with W by degree and the atom's class.

    Args:
        x: Features, [N, D, K]; rows beyond those of `grouped` are left out.
        matrices: One per degree, [S, K, K].
        grouped: Classes of the atoms and rows of the degrees.

    Returns:
        [N, sum of rows, K]; differentiable to any order.
    """
    result: Tensor = _Apply.apply(x, grouped, *matrices)  # type: ignore[no-untyped-call]
    return result


class _Apply(torch.autograd.Function):
    """y = s x W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grouped: Grouped, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(x, *matrices)
        ctx.grouped = grouped
        return grouped.product(x, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *matrices = ctx.saved_tensors
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _ApplyTransposed.apply(grads[0], ctx.grouped, *matrices)  # type: ignore[no-untyped-call]
        return to_x, None, *_to_matrices(ctx.needs_input_grad[2:], x, grads[0], ctx.grouped)


class _ApplyTransposed(torch.autograd.Function):
    """x = s y Wᵀ."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, grouped: Grouped, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(y, *matrices)
        ctx.grouped = grouped
        return grouped.transposed(y, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, *matrices = ctx.saved_tensors
        to_y = _Apply.apply(grads[0], ctx.grouped, *matrices) if ctx.needs_input_grad[0] else None  # type: ignore[no-untyped-call]
        return to_y, None, *_to_matrices(ctx.needs_input_grad[2:], grads[0], y, ctx.grouped)


class _Outer(torch.autograd.Function):
    """W = s xᵀ y for every degree and class, [S, K, K] each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, grouped: Grouped) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, y)
        ctx.grouped = grouped
        return grouped.outer([(x, y)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        to_x = _ApplyTransposed.apply(y, ctx.grouped, *grads)  # type: ignore[no-untyped-call]
        return to_x, _Apply.apply(x, ctx.grouped, *grads), None  # type: ignore[no-untyped-call]


def _to_matrices(wanted: Sequence[bool], x: Tensor, y: Tensor, grouped: Grouped) -> tuple[Tensor | None, ...]:
    """Gradients by the matrices, where the pass in progress is for weights."""
    if not (any(wanted) and sweeps.current().weights):
        return (None,) * len(wanted)
    found: tuple[Tensor, ...] = _Outer.apply(x, y, grouped)  # type: ignore[no-untyped-call]
    return found
