"""Products of features with one matrix per degree, or per degree and class of atoms, differentiable to any order.

Features [N, D, C] are rows of numbers, one row per atom, in which the components of a degree follow each other. A
`Span` says where a degree is in the rows of the input and of the output. Three functions are each other's derivatives:

    y = s x W,    x = s y Wᵀ,    W = s xᵀ y,

with a factor s that costs nothing (`kernels.reference_matrices`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from macekit.kernels import sweeps
from macekit.kernels.dispatch import backend_for
from macekit.kernels.reference_matrices import PLANS_KEPT, MatrixBlock, MatrixPlan


class Span(NamedTuple):
    """One degree in the rows of input and output."""

    first_in: int
    """Position of its first number in a row of the input."""
    fan_in: int
    """Numbers of one component there."""
    first_out: int
    """Position of its first number in a row of the output."""
    fan_out: int
    """Numbers of one component there."""
    components: int
    """2l + 1."""
    scale: float = 1.0
    """Factor of the matrix."""


class Layout(NamedTuple):
    """How the degrees lie in input and output, and which atoms have the same matrices."""

    spans: tuple[Span, ...]
    """In the order of the matrices."""
    shape_in: tuple[int, ...]
    """Of the features of one atom."""
    shape_out: tuple[int, ...]
    """Of the result of one atom."""
    counts: tuple[int, ...] | None = None
    """Number of atoms of every class, which follow each other: matrices are [S, fan_in, fan_out]. None: all atoms have
    the same, [fan_in, fan_out]."""

    @property
    def dim_out(self) -> int:
        """Rows of the result."""
        return self.shape_out[0]

    def plan(self, atoms: int) -> MatrixPlan:
        """What is multiplied by what where there are so many atoms."""
        return _plan(self, atoms)

    def product(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S x W, [N, *shape_out]; zeros where no span is."""
        return backend_for(x).matrix_products(x, matrices, self.plan(x.shape[0]), False)

    def transposed(self, y: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S y Wᵀ, [N, *shape_in]; zeros where no span is."""
        return backend_for(y).matrix_products(y, matrices, self.plan(y.shape[0]), True)

    def outer(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """S Σ xᵀ y over pairs of features x [N, *shape_in] and y [N, *shape_out], one tensor of matrices per span."""
        x = pairs[0][0]
        return backend_for(x).matrix_gradients(pairs, self.plan(x.shape[0]))


@lru_cache(maxsize=PLANS_KEPT)
def _plan(layout: Layout, atoms: int) -> MatrixPlan:
    """Every span of every class that has atoms."""
    blocks, begin = [], 0
    for number, count in enumerate((atoms,) if layout.counts is None else layout.counts):
        if count:
            blocks += [MatrixBlock(n, number, begin, begin + count, *span) for n, span in enumerate(layout.spans)]
        begin += count
    classes = () if layout.counts is None else (len(layout.counts),)
    shapes = tuple((*classes, span.fan_in, span.fan_out) for span in layout.spans)
    return MatrixPlan(tuple(blocks), atoms, layout.shape_in, layout.shape_out, shapes)


def per_degree(x: Tensor, matrices: Sequence[Tensor], layout: Layout) -> Tensor:
    """S x W for every degree.

    Args:
        x: Features, [N, *shape_in].
        matrices: One tensor per span, [fan_in, fan_out] or [S, fan_in, fan_out].
        layout: Where the degrees are.

    Returns:
        [N, *shape_out]; differentiable to any order.
    """
    result: Tensor = _Apply.apply(x, layout, False, *matrices)  # type: ignore[no-untyped-call]
    return result


class _Apply(torch.autograd.Function):
    """y = s x W, or x = s y Wᵀ."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, layout: Layout, transposed: bool, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(features, *matrices)
        ctx.layout, ctx.transposed = layout, transposed
        return (layout.transposed if transposed else layout.product)(features, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, *matrices = ctx.saved_tensors
        (grad,) = grads
        wanted = ctx.needs_input_grad[3:]
        to_features, to_matrices = None, (None,) * len(wanted)
        if ctx.needs_input_grad[0]:
            to_features = _Apply.apply(grad, ctx.layout, not ctx.transposed, *matrices)  # type: ignore[no-untyped-call]
        if any(wanted) and sweeps.current().weights:
            x, y = (grad, features) if ctx.transposed else (features, grad)
            to_matrices = _Outer.apply(x, y, ctx.layout)  # type: ignore[no-untyped-call]
        return to_features, None, None, *to_matrices


class _Outer(torch.autograd.Function):
    """W = s xᵀ y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, y)
        ctx.layout = layout
        return layout.outer([(x, y)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        to_x = _Apply.apply(y, ctx.layout, True, *grads)  # type: ignore[no-untyped-call]
        return to_x, _Apply.apply(x, ctx.layout, False, *grads), None  # type: ignore[no-untyped-call]


def all_chained(ones: Sequence[Tensor], twos: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Products of pairs of matrices (`kernels.reference_chains`) as one operation, differentiable once."""
    found: tuple[Tensor, ...] = _Chained.apply(len(ones), *ones, *twos)  # type: ignore[no-untyped-call]
    return found


class _Chained(torch.autograd.Function):
    """Products of pairs of matrices."""

    @staticmethod
    def forward(ctx: Any, count: int, *matrices: Tensor) -> tuple[Tensor, ...]:
        ctx.count = count
        ctx.save_for_backward(*matrices)
        return backend_for(matrices[-1]).matrix_chains(matrices[:count], matrices[count:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count, matrices, wanted = ctx.count, ctx.saved_tensors, ctx.needs_input_grad[1:]
        backend = backend_for(matrices[-1])
        return None, *backend.matrix_chains_backward(matrices[:count], matrices[count:], grads, wanted)
