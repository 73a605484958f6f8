"""The edge convolution with a table of radial functions as a differentiable torch operator; see `kernels.ops`.

Its backward operators are told what is asked for, by the sweep in progress (`kernels.sweeps`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.library import register_autograd, register_fake

from macekit.kernels import sweeps
from macekit.kernels.dispatch import table_backend
from macekit.kernels.operators import LIBRARY, fresh, operator, refuse_third_derivatives, save
from macekit.kernels.structure import ConvolutionStructure
from macekit.kernels.table_edges import TableEdges


@operator
def table_convolution(
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]; see `kernels.reference.table_convolution`."""
    edges = TableEdges(h, y, lengths, table, sender, receiver, first, step, key)
    return table_backend(h, key).table_convolution(edges)


@operator
def table_convolution_backward(
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
    weights: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to h, y, lengths and table; those not asked for are empty."""
    edges = TableEdges(h, y, lengths, table, sender, receiver, first, step, key)
    return table_backend(h, key).table_convolution_backward(grad, edges, geometry, weights)


@operator
def table_convolution_backward2(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    tangent_table: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the backward, with respect to grad, h, y, lengths and table."""
    edges = TableEdges(h, y, lengths, table, sender, receiver, first, step, key)
    tangents = tangent_h, tangent_y, tangent_lengths
    return table_backend(h, key).table_convolution_backward2(tangents, tangent_table, grad, edges, geometry)


@register_fake("macekit::table_convolution", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> Tensor:
    return h.new_empty(h.shape[0], ConvolutionStructure.from_key(key).dim_out, h.shape[2])


@register_fake("macekit::table_convolution_backward", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
    weights: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return fresh(h), *_gradients(y, lengths, table, geometry, weights)


@register_fake("macekit::table_convolution_backward2", lib=LIBRARY)  # type: ignore[untyped-decorator]
def _(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    tangent_table: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return fresh(grad), fresh(h), *_gradients(y, lengths, table, geometry, True)


def _gradients(
    y: Tensor, lengths: Tensor, table: Tensor, geometry: bool, weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    to_y, to_lengths = (fresh(y), fresh(lengths)) if geometry else (y.new_empty(0), lengths.new_empty(0))
    return to_y, to_lengths, fresh(table) if weights else table.new_empty(0)


def _table_convolution_grad(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 9
    wanted, (first, step, key) = sweeps.current(), ctx.rest
    h, y, lengths, table, sender, receiver = ctx.saved_tensors
    to_h, to_y, to_lengths, to_table = table_convolution_backward(
        grad.contiguous(), h, y, lengths, table, sender, receiver, first, step, key, wanted.geometry, wanted.weights
    )
    geometry = (to_y, to_lengths) if wanted.geometry else (None, None)
    return (to_h, *geometry, to_table if wanted.weights else None, *(None,) * 5)


def _table_convolution_backward_grad(
    ctx: Any,
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    tangent_table: Tensor | None,
) -> tuple[Tensor | None, ...]:
    first, step, key, had_geometry, had_weights = ctx.rest
    if not had_geometry:
        tangent_y = tangent_lengths = None
    if not had_weights:
        tangent_table = None
    if tangent_h is None and tangent_y is None and tangent_lengths is None and tangent_table is None:
        return (None,) * 12
    tangents = tangent_h, tangent_y, tangent_lengths, tangent_table
    grad, h, y, lengths, table, sender, receiver = ctx.saved_tensors
    geometry = sweeps.current().geometry
    out, to_h, to_y, to_lengths, to_table = table_convolution_backward2(
        *tangents, grad, h, y, lengths, table, sender, receiver, first, step, key, geometry
    )
    return (out, to_h, *((to_y, to_lengths) if geometry else (None, None)), to_table, *(None,) * 7)


register_autograd("macekit::table_convolution", _table_convolution_grad, setup_context=save, lib=LIBRARY)
register_autograd(
    "macekit::table_convolution_backward", _table_convolution_backward_grad, setup_context=save, lib=LIBRARY
)
register_autograd("macekit::table_convolution_backward2", refuse_third_derivatives, lib=LIBRARY)
