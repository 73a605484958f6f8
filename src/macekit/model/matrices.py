"""Products of features with one matrix per degree, differentiable to any order, without copies of the features.

Features [N, D, C] are rows of numbers, one row per atom, in which the components of a degree follow each other. A
`Span` says where a degree is in the rows of the input and of the output. Three functions are each other's derivatives:

    y = s x W,    x = s y Wᵀ,    W = s xᵀ y,

with a factor s that costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from macekit.kernels import sweeps


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

    def of_input(self, x: Tensor) -> Tensor:
        """The degree in contiguous features x [N, ...], a view [2l+1, N, fan_in]."""
        return _components(x, self.first_in, self.fan_in, self.components)

    def of_output(self, y: Tensor) -> Tensor:
        """The degree in a contiguous result y [N, ...], a view [2l+1, N, fan_out]."""
        return _components(y, self.first_out, self.fan_out, self.components)


class Layout(NamedTuple):
    """How the degrees lie in input and output."""

    spans: tuple[Span, ...]
    """In the order of the matrices."""
    shape_in: tuple[int, ...]
    """Of the features of one atom."""
    shape_out: tuple[int, ...]
    """Of the result of one atom."""

    @property
    def dim_out(self) -> int:
        """Rows of the result."""
        return self.shape_out[0]

    def product(self, x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S x W, [N, *shape_out]; zeros where no span is."""
        x = x.contiguous()
        y = _empty(x, self.shape_out, covered=sum(span.components * span.fan_out for span in self.spans))
        for span, matrix in zip(self.spans, matrices, strict=True):
            each, target = matrix.expand(span.components, *matrix.shape), span.of_output(y)
            torch.baddbmm(target, span.of_input(x), each, beta=0.0, alpha=span.scale, out=target)
        return y

    def transposed(self, y: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """S y Wᵀ, [N, *shape_in]; zeros where no span is."""
        y = y.contiguous()
        x = _empty(y, self.shape_in, covered=sum(span.components * span.fan_in for span in self.spans))
        for span, matrix in zip(self.spans, matrices, strict=True):
            each, target = matrix.T.expand(span.components, *matrix.T.shape), span.of_input(x)
            torch.baddbmm(target, span.of_output(y), each, beta=0.0, alpha=span.scale, out=target)
        return x

    def outer(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """S Σ xᵀ y over pairs of features x [N, *shape_in] and y [N, *shape_out], one matrix per span."""
        pairs = [(x.contiguous(), y.contiguous()) for x, y in pairs]
        matrices = []
        for span in self.spans:
            matrix = pairs[0][0].new_empty(span.fan_in, span.fan_out)
            beta = 0.0
            for x, y in pairs:  # component by component: a copy of all of them would cost more than the product
                for left, right in zip(span.of_input(x).unbind(), span.of_output(y).unbind(), strict=True):
                    torch.addmm(matrix, left.T, right, beta=beta, alpha=span.scale, out=matrix)
                    beta = 1.0
            matrices.append(matrix)
        return tuple(matrices)


def per_degree(x: Tensor, matrices: Sequence[Tensor], layout: Layout) -> Tensor:
    """S x W for every degree.

    Args:
        x: Features, [N, *shape_in].
        matrices: One per span, [fan_in, fan_out].
        layout: Where the degrees are.

    Returns:
        [N, *shape_out]; differentiable to any order.
    """
    result: Tensor = _Apply.apply(x, layout, *matrices)  # type: ignore[no-untyped-call]
    return result


class _Apply(torch.autograd.Function):
    """y = s x W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(x, *matrices)
        ctx.layout = layout
        return layout.product(x, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *matrices = ctx.saved_tensors
        to_x = _ApplyTransposed.apply(grads[0], ctx.layout, *matrices) if ctx.needs_input_grad[0] else None  # type: ignore[no-untyped-call]
        return to_x, None, *_to_matrices(ctx.needs_input_grad[2:], x, grads[0], ctx.layout)


class _ApplyTransposed(torch.autograd.Function):
    """x = s y Wᵀ."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, layout: Layout, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(y, *matrices)
        ctx.layout = layout
        return layout.transposed(y, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, *matrices = ctx.saved_tensors
        to_y = _Apply.apply(grads[0], ctx.layout, *matrices) if ctx.needs_input_grad[0] else None  # type: ignore[no-untyped-call]
        return to_y, None, *_to_matrices(ctx.needs_input_grad[2:], grads[0], y, ctx.layout)


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
        return _ApplyTransposed.apply(y, ctx.layout, *grads), _Apply.apply(x, ctx.layout, *grads), None  # type: ignore[no-untyped-call]


def _empty(like: Tensor, shape: tuple[int, ...], *, covered: int) -> Tensor:
    """Features of as many atoms, zeros where the spans do not cover all of them."""
    make = torch.empty if covered == math.prod(shape) else torch.zeros
    return make(like.shape[0], *shape, dtype=like.dtype, device=like.device)


def _components(x: Tensor, first: int, fan: int, count: int) -> Tensor:
    width = x.numel() // max(x.shape[0], 1)
    return x.as_strided((count, x.shape[0], fan), (fan, width, 1), x.storage_offset() + first)


def _to_matrices(wanted: Sequence[bool], x: Tensor, y: Tensor, layout: Layout) -> tuple[Tensor | None, ...]:
    """Gradients by the matrices, where the pass in progress is for weights."""
    if not (any(wanted) and sweeps.current().weights):
        return (None,) * len(wanted)
    found: tuple[Tensor, ...] = _Outer.apply(x, y, layout)  # type: ignore[no-untyped-call]
    return found
