"""The hot operations as differentiable torch operators: the only door to the kernels.

Each operation is a custom operator with a backward operator, which has a backward operator itself, so that losses on
forces train. The second backward has no derivative: third derivatives raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.library import Library, define, impl, infer_schema, register_autograd, register_fake

from macekit.errors import UsageError
from macekit.kernels.dispatch import backend_for
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure

P = ParamSpec("P")
R = TypeVar("R")
_LIBRARY = Library("macekit", "FRAGMENT")


def _operator(function: Callable[P, R]) -> Callable[P, R]:
    """The function as the operator `macekit::<name>`.

    Not `torch.library.custom_op`: the first call of such an operator imports torch's compiler, which takes seconds
    and writes to the environment.
    """
    name = f"macekit::{function.__name__}"
    define(name, infer_schema(function, mutates_args=()), lib=_LIBRARY, tags=(torch.Tag.pt2_compliant_tag,))
    impl(name, "default", function, lib=_LIBRARY)
    return cast(Callable[P, R], getattr(torch.ops.macekit, function.__name__).default)


@_operator
def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]; see `kernels.reference.edge_convolution`."""
    return backend_for(h).edge_convolution(h, y, radial, sender, receiver, key)


@_operator
def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to h, y and radial."""
    return backend_for(h).edge_convolution_backward(grad, h, y, radial, sender, receiver, key)


@_operator
def edge_convolution_backward2(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_radial: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    radial: Tensor,
    sender: Tensor,
    receiver: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the backward, with respect to grad, h, y and radial."""
    return backend_for(h).edge_convolution_backward2(
        tangent_h, tangent_y, tangent_radial, grad, h, y, radial, sender, receiver, key
    )


@_operator
def symmetric_contraction(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Equivariant polynomials, [N, M, K]; see `kernels.reference.symmetric_contraction`."""
    return backend_for(a).symmetric_contraction(a, coefficients, species, key)


@_operator
def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a and the coefficients."""
    return backend_for(a).symmetric_contraction_backward(grad, a, coefficients, species, key)


@_operator
def symmetric_contraction_backward2(
    tangent_a: Tensor | None,
    tangent_coefficients: Tensor | None,
    grad: Tensor,
    a: Tensor,
    coefficients: Tensor,
    species: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the backward, with respect to grad, a and the coefficients."""
    return backend_for(a).symmetric_contraction_backward2(
        tangent_a, tangent_coefficients, grad, a, coefficients, species, key
    )


@register_fake("macekit::edge_convolution", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    return h.new_empty(h.shape[0], ConvolutionStructure.from_key(key).dim_out, h.shape[2])


@register_fake("macekit::edge_convolution_backward", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(h), _like(y), _like(radial)


@register_fake("macekit::edge_convolution_backward2", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_radial: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    radial: Tensor,
    sender: Tensor,
    receiver: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like(grad), _like(h), _like(y), _like(radial)


@register_fake("macekit::symmetric_contraction", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    return a.new_empty(a.shape[0], ContractionStructure.from_key(key).dim_out, a.shape[2])


@register_fake("macekit::symmetric_contraction_backward", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> tuple[Tensor, Tensor]:
    return _like(a), _like(coefficients)


@register_fake("macekit::symmetric_contraction_backward2", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(
    tangent_a: Tensor | None,
    tangent_coefficients: Tensor | None,
    grad: Tensor,
    a: Tensor,
    coefficients: Tensor,
    species: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(grad), _like(a), _like(coefficients)


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the tensors and the key of an operator's call; gradients that are not there arrive as None."""
    ctx.save_for_backward(*inputs[:-1])
    ctx.key = inputs[-1]
    ctx.set_materialize_grads(False)


def _edge_convolution_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    h, y, radial, sender, receiver = ctx.saved_tensors
    gradients = edge_convolution_backward(grad.contiguous(), h, y, radial, sender, receiver, ctx.key)
    return (*gradients, None, None, None)


def _edge_convolution_backward_grad(
    ctx: Any, tangent_h: Tensor | None, tangent_y: Tensor | None, tangent_radial: Tensor | None
) -> tuple[Tensor | None, ...]:
    tangents = (tangent_h, tangent_y, tangent_radial)
    if all(tangent is None for tangent in tangents):
        return (None,) * 7
    grad, h, y, radial, sender, receiver = ctx.saved_tensors
    gradients = edge_convolution_backward2(*tangents, grad, h, y, radial, sender, receiver, ctx.key)
    return (*gradients, None, None, None)


def _symmetric_contraction_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    a, coefficients, species = ctx.saved_tensors
    return (*symmetric_contraction_backward(grad.contiguous(), a, coefficients, species, ctx.key), None, None)


def _symmetric_contraction_backward_grad(
    ctx: Any, tangent_a: Tensor | None, tangent_coefficients: Tensor | None
) -> tuple[Tensor | None, ...]:
    if tangent_a is None and tangent_coefficients is None:
        return (None,) * 5
    grad, a, coefficients, species = ctx.saved_tensors
    gradients = symmetric_contraction_backward2(
        tangent_a, tangent_coefficients, grad, a, coefficients, species, ctx.key
    )
    return (*gradients, None, None)


def _refuse_third_derivatives(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    raise UsageError(
        "a third derivative of a model was asked for; macekit's kernels are differentiable twice",
        "differentiate the second derivative by finite differences",
    )


register_autograd("macekit::edge_convolution", _edge_convolution_grad, setup_context=_save, lib=_LIBRARY)
register_autograd(
    "macekit::edge_convolution_backward", _edge_convolution_backward_grad, setup_context=_save, lib=_LIBRARY
)
register_autograd("macekit::symmetric_contraction", _symmetric_contraction_grad, setup_context=_save, lib=_LIBRARY)
register_autograd(
    "macekit::symmetric_contraction_backward", _symmetric_contraction_backward_grad, setup_context=_save, lib=_LIBRARY
)
register_autograd("macekit::edge_convolution_backward2", _refuse_third_derivatives, lib=_LIBRARY)
register_autograd("macekit::symmetric_contraction_backward2", _refuse_third_derivatives, lib=_LIBRARY)
