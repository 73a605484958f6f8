"""Products of features with one matrix per degree and class of atoms; see `model.matrices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from macekit.kernels import sweeps


class Grouped(NamedTuple):
    """Atoms in the order of their classes, and the components of the degrees of their features."""

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

    def product(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S x W, [N, sum of rows, K]."""
        return self._multiply(x, matrices, self.dim_out)

    def transposed(self, y: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S y Wᵀ, [N, dim_in, K]; zeros in rows without a matrix."""
        return self._multiply(y, [matrix.mT for matrix in matrices], self.dim_in)

    def outer(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """S Σ xᵀ y over pairs of features for every degree and class, [S, K, K] each."""
        matrices = []
        for first, rows in self._degrees():
            x, y = pairs[0]
            matrix = x.new_empty(len(self.counts), x.shape[2], y.shape[2])
            for number, start, count in self._classes():
                if not count:
                    matrix[number] = 0.0
                    continue
                for position, pair in enumerate(pairs):
                    left, right = (part[start : start + count, first : first + rows].flatten(0, 1) for part in pair)
                    beta = float(position > 0)
                    torch.addmm(matrix[number], left.T, right, beta=beta, alpha=self.scale, out=matrix[number])
            matrices.append(matrix)
        return tuple(matrices)

    def _multiply(self, x: Tensor, matrices: Sequence[Tensor], dim: int) -> Tensor:
        make = torch.empty if dim == self.dim_out else torch.zeros
        result = make(x.shape[0], dim, x.shape[2], dtype=x.dtype, device=x.device)
        by_component, target = x.transpose(0, 1), result.transpose(0, 1)  # [D, N, K]
        for (first, rows), matrix in zip(self._degrees(), matrices, strict=True):
            for number, start, count in self._classes():
                if count:
                    part = (slice(first, first + rows), slice(start, start + count))
                    each, out = matrix[number].expand(rows, *matrix.shape[1:]), target[part]
                    torch.baddbmm(out, by_component[part], each, beta=0.0, alpha=self.scale, out=out)
        return result

    def _degrees(self) -> list[tuple[int, int]]:
        """First row and number of rows of every degree."""
        return [(sum(self.rows[:degree]), rows) for degree, rows in enumerate(self.rows)]

    def _classes(self) -> list[tuple[int, int, int]]:
        """Number, first atom and number of atoms of every class."""
        return [(number, sum(self.counts[:number]), count) for number, count in enumerate(self.counts)]


def per_degree_and_class(x: Tensor, matrices: Sequence[Tensor], grouped: Grouped) -> Tensor:
    """S x W, with W by degree and the atom's class.

    Args:
        x: Features, [N, D, K]; rows beyond those of `grouped` are left out.
        matrices: One per degree, [S, K, K].
        grouped: Numbers of atoms of the classes and rows of the degrees.

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
