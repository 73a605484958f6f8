"""The hot operations as differentiable torch operators: the only door to the kernels.

Each operation is a custom operator with a backward operator, which has a backward operator itself, so that losses on
forces train. The second backward has no derivative: third derivatives raise.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.library import register_autograd, register_fake

from macekit.kernels import sweeps
from macekit.kernels.dispatch import contraction_backend, convolution_backend
from macekit.kernels.operators import LIBRARY, fresh, operator, refuse_third_derivatives, save
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure


@operator
def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]; see `kernels.reference.edge_convolution`."""
    return convolution_backend(h, key).edge_convolution(h, y, radial, sender, receiver, key)


@operator
def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to h, y and radial."""
    return convolution_backend(h, key).edge_convolution_backward(grad, h, y, radial, sender, receiver, key)


@operator
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
    return convolution_backend(h, key).edge_convolution_backward2(
        tangent_h, tangent_y, tangent_radial, grad, h, y, radial, sender, receiver, key
    )


@operator
def symmetric_contraction(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Equivariant polynomials, [N, M, K]; see `kernels.reference.symmetric_contraction`."""
    return contraction_backend(a, key).symmetric_contraction(a, coefficients, species, key)


@operator
def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, weights: bool = True
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a and, where `weights`, the coefficients."""
    return contraction_backend(a, key).symmetric_contraction_backward(grad, a, coefficients, species, key, weights)


@operator
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
    return contraction_backend(a, key).symmetric_contraction_backward2(
        tangent_a, tangent_coefficients, grad, a, coefficients, species, key
    )


@register_fake("macekit::edge_convolution", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    return h.new_empty(h.shape[0], ConvolutionStructure.from_key(key).dim_out, h.shape[2])


@register_fake("macekit::edge_convolution_backward", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    return fresh(h), fresh(y), fresh(radial)


@register_fake("macekit::edge_convolution_backward2", lib=LIBRARY)  # type: ignore[untyped-decorator]
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
    return fresh(grad), fresh(h), fresh(y), fresh(radial)


@register_fake("macekit::symmetric_contraction", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    return a.new_empty(a.shape[0], ContractionStructure.from_key(key).dim_out, a.shape[2])


@register_fake("macekit::symmetric_contraction_backward", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, weights: bool = True
) -> tuple[Tensor, Tensor]:
    return fresh(a), fresh(coefficients) if weights else coefficients.new_empty(0)


@register_fake("macekit::symmetric_contraction_backward2", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    tangent_a: Tensor | None,
    tangent_coefficients: Tensor | None,
    grad: Tensor,
    a: Tensor,
    coefficients: Tensor,
    species: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return fresh(grad), fresh(a), fresh(coefficients)


def _edge_convolution_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    h, y, radial, sender, receiver = ctx.saved_tensors
    gradients = edge_convolution_backward(grad.contiguous(), h, y, radial, sender, receiver, *ctx.rest)
    return (*gradients, None, None, None)


def _edge_convolution_backward_grad(
    ctx: Any, tangent_h: Tensor | None, tangent_y: Tensor | None, tangent_radial: Tensor | None
) -> tuple[Tensor | None, ...]:
    tangents = (tangent_h, tangent_y, tangent_radial)
    if all(tangent is None for tangent in tangents):
        return (None,) * 7
    grad, h, y, radial, sender, receiver = ctx.saved_tensors
    gradients = edge_convolution_backward2(*tangents, grad, h, y, radial, sender, receiver, *ctx.rest)
    return (*gradients, None, None, None)


def _symmetric_contraction_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    a, coefficients, species = ctx.saved_tensors
    weights = sweeps.current().weights
    (key,) = ctx.rest
    gradients = symmetric_contraction_backward(grad.contiguous(), a, coefficients, species, key, weights)
    return (gradients[0], gradients[1] if weights else None, None, None)


def _symmetric_contraction_backward_grad(
    ctx: Any, tangent_a: Tensor | None, tangent_coefficients: Tensor | None
) -> tuple[Tensor | None, ...]:
    if tangent_a is None and tangent_coefficients is None:
        return (None,) * 6
    grad, a, coefficients, species = ctx.saved_tensors
    key, weights = ctx.rest
    tangent_coefficients = tangent_coefficients if weights else None
    gradients = symmetric_contraction_backward2(tangent_a, tangent_coefficients, grad, a, coefficients, species, key)
    return (*gradients, None, None, None)


register_autograd("macekit::edge_convolution", _edge_convolution_grad, setup_context=save, lib=LIBRARY)
register_autograd(
    "macekit::edge_convolution_backward", _edge_convolution_backward_grad, setup_context=save, lib=LIBRARY
)
register_autograd("macekit::symmetric_contraction", _symmetric_contraction_grad, setup_context=save, lib=LIBRARY)
register_autograd(
    "macekit::symmetric_contraction_backward", _symmetric_contraction_backward_grad, setup_context=save, lib=LIBRARY
)
register_autograd("macekit::edge_convolution_backward2", refuse_third_derivatives, lib=LIBRARY)
register_autograd("macekit::symmetric_contraction_backward2", refuse_third_derivatives, lib=LIBRARY)
