"""The hot operations as differentiable torch operators: the only door to the kernels.

Each operation is a custom operator with a backward operator, which has a backward operator itself, so that losses on
forces train. The second backward has no derivative: third derivatives raise.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.library import custom_op

from macekit.kernels.dispatch import backend_for
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure


@custom_op("macekit::edge_convolution", mutates_args=())
def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]; see `kernels.reference.edge_convolution`."""
    return backend_for(h).edge_convolution(h, y, radial, sender, receiver, key)


@custom_op("macekit::edge_convolution_backward", mutates_args=())
def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to h, y and radial."""
    return backend_for(h).edge_convolution_backward(grad, h, y, radial, sender, receiver, key)


@custom_op("macekit::edge_convolution_backward2", mutates_args=())
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


@custom_op("macekit::symmetric_contraction", mutates_args=())
def symmetric_contraction(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Equivariant polynomials, [N, M, K]; see `kernels.reference.symmetric_contraction`."""
    return backend_for(a).symmetric_contraction(a, coefficients, species, key)


@custom_op("macekit::symmetric_contraction_backward", mutates_args=())
def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a and the coefficients."""
    return backend_for(a).symmetric_contraction_backward(grad, a, coefficients, species, key)


@custom_op("macekit::symmetric_contraction_backward2", mutates_args=())
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


@edge_convolution.register_fake
def _(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    return h.new_empty(h.shape[0], ConvolutionStructure.from_key(key).dim_out, h.shape[2])


@edge_convolution_backward.register_fake
def _(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(h), _like(y), _like(radial)


@edge_convolution_backward2.register_fake
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


@symmetric_contraction.register_fake
def _(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    return a.new_empty(a.shape[0], ContractionStructure.from_key(key).dim_out, a.shape[2])


@symmetric_contraction_backward.register_fake
def _(grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> tuple[Tensor, Tensor]:
    return _like(a), _like(coefficients)


@symmetric_contraction_backward2.register_fake
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
    return (*edge_convolution_backward(grad.contiguous(), *ctx.saved_tensors, ctx.key), None, None, None)


def _edge_convolution_backward_grad(
    ctx: Any, tangent_h: Tensor | None, tangent_y: Tensor | None, tangent_radial: Tensor | None
) -> tuple[Tensor | None, ...]:
    tangents = (tangent_h, tangent_y, tangent_radial)
    if all(tangent is None for tangent in tangents):
        return (None,) * 7
    return (*edge_convolution_backward2(*tangents, *ctx.saved_tensors, ctx.key), None, None, None)


def _symmetric_contraction_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    return (*symmetric_contraction_backward(grad.contiguous(), *ctx.saved_tensors, ctx.key), None, None)


def _symmetric_contraction_backward_grad(
    ctx: Any, tangent_a: Tensor | None, tangent_coefficients: Tensor | None
) -> tuple[Tensor | None, ...]:
    if tangent_a is None and tangent_coefficients is None:
        return (None,) * 5
    return (
        *symmetric_contraction_backward2(tangent_a, tangent_coefficients, *ctx.saved_tensors, ctx.key),
        None,
        None,
    )


edge_convolution.register_autograd(_edge_convolution_grad, setup_context=_save)
edge_convolution_backward.register_autograd(_edge_convolution_backward_grad, setup_context=_save)
symmetric_contraction.register_autograd(_symmetric_contraction_grad, setup_context=_save)
symmetric_contraction_backward.register_autograd(_symmetric_contraction_backward_grad, setup_context=_save)
