"""The hot operations in pure torch: the definition that every other backend must reproduce.

Letters: N atoms, E edges, K channels, P paths, D components, S species, T terms, L spherical-harmonic components.

**Edge convolution** (arXiv 2206.07697, eq. 8), for every path p = (l_in, l_sh, l_out):

    A[i, (p, m₃), k] = Σ_{e: j→i} R[e, p, k] Σ_{m₁ m₂} C^p_{m₁ m₂ m₃} h[j, m₁, k] Y[e, m₂]

It is linear in h, Y and R. With S = ⟨g, A⟩ the backward returns ∂S/∂(h, Y, R), and the second backward the gradient of
Φ = ⟨h', ∂S/∂h⟩ + ⟨Y', ∂S/∂Y⟩ + ⟨R', ∂S/∂R⟩, which is again a sum of the same products.

**Table convolution**: the same with R[e, p, k] = Σ_q w_q(r_e) T[g(r_e) + q, p, k], cubic B-splines of the distance with
coefficients T (`kernels.splines`), differentiable by the distances and by T. A' is its tangent along (h', Y', r').

**Symmetric contraction** (eq. 10-11) as a sparse polynomial:

    B[i, M, k] = Σ_{t ∈ M} c[z_i, t, k] Π_s A[i, f_ts, k]

Everything else runs in chunks of edges or atoms, so that temporaries stay small and nothing per edge and channel is
kept. Results are contiguous whatever the strides of the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from macekit.kernels.layer_parts import LayerParts, LayerSweeps
from macekit.kernels.reference_chains import matrix_chains, matrix_chains_backward
from macekit.kernels.reference_contraction import (
    chunks,
    symmetric_contraction,
    symmetric_contraction_backward,
    symmetric_contraction_backward2,
)
from macekit.kernels.reference_harmonics import (
    edge_harmonics,
    edge_harmonics_backward,
    edge_harmonics_tangent,
)
from macekit.kernels.reference_matrices import matrix_gradients, matrix_products
from macekit.kernels.reference_radial import radial_table, radial_table_backward
from macekit.kernels.reference_readouts import readout_sweeps
from macekit.kernels.splines import interpolated, spline_weights, spread
from macekit.kernels.structure import ConvolutionStructure, convolution_tables
from macekit.kernels.table_edges import TableEdges, Tangents

__all__ = [
    "edge_convolution",
    "edge_convolution_backward",
    "edge_convolution_backward2",
    "edge_harmonics",
    "edge_harmonics_backward",
    "edge_harmonics_tangent",
    "layer_sweeps",
    "matrix_chains",
    "matrix_chains_backward",
    "matrix_gradients",
    "matrix_products",
    "radial_table",
    "radial_table_backward",
    "readout_sweeps",
    "symmetric_contraction",
    "symmetric_contraction_backward",
    "symmetric_contraction_backward2",
    "table_convolution",
    "table_convolution_backward",
    "table_convolution_backward2",
    "table_convolution_tangent",
    "table_convolution_weights",
]


def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K].

    For every edge this is one matrix, made of the harmonics, times the weighted features of its sender. The columns
    of the matrix are the paths with the components m₁ of their input, its rows the output (`ConvolutionStructure`).

    Args:
        h: Features of the senders, [N, D_in, K].
        y: Spherical harmonics of the edges, [E, L].
        radial: Radial functions, [E, P, K].
        sender: Sender of every edge, int64 [E].
        receiver: Receiver of every edge, int64 [E].
        key: Name of a `ConvolutionStructure`.
    """
    structure, tables = ConvolutionStructure.from_key(key), convolution_tables(key, y.dtype, y.device)
    h_columns = h.index_select(1, tables.input_of_column)  # [N, C, K]
    out = h.new_zeros(h.shape[0], structure.dim_out, h.shape[2])
    for edges in _edge_chunks(structure, h, y):
        inputs = h_columns.index_select(0, sender[edges])  # [E, C, K]
        weights = radial[edges].index_select(1, tables.path_of_column)  # [E, C, K]
        matrices = (y[edges] @ tables.coupling).view(-1, structure.dim_out, tables.num_columns)  # [E, D_out, C]
        out.index_add_(0, receiver[edges], torch.bmm(matrices, weights * inputs))
    return out


def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients ([N, D_in, K], [E, L], [E, P, K]) of ⟨grad, A⟩ with respect to h, y and radial."""
    structure, tables = ConvolutionStructure.from_key(key), convolution_tables(key, y.dtype, y.device)
    h_columns = h.index_select(1, tables.input_of_column)  # [N, C, K]
    to_h, to_y, to_radial = torch.zeros_like(h_columns), y.new_empty(y.shape), radial.new_zeros(radial.shape)
    for edges in _edge_chunks(structure, h, y):
        inputs = h_columns.index_select(0, sender[edges])
        weights = radial[edges].index_select(1, tables.path_of_column)
        matrices = (y[edges] @ tables.coupling).view(-1, structure.dim_out, tables.num_columns)
        grad_edges = grad.index_select(0, receiver[edges])  # [E, D_out, K]
        pulled = torch.bmm(matrices.mT, grad_edges)  # [E, C, K]
        to_y[edges] = torch.bmm(grad_edges, (weights * inputs).mT).flatten(1) @ tables.coupling.T
        to_radial[edges] = to_radial[edges].index_add(1, tables.path_of_column, pulled * inputs)
        to_h.index_add_(0, sender[edges], pulled * weights)
    return h.new_zeros(h.shape).index_add_(1, tables.input_of_column, to_h), to_y, to_radial


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
    """Gradients of Φ with respect to grad, h, y and radial, in their shapes; a tangent of None is zero."""
    structure, tables = ConvolutionStructure.from_key(key), convolution_tables(key, y.dtype, y.device)
    shape = (-1, structure.dim_out, tables.num_columns)
    h_columns = h.index_select(1, tables.input_of_column)  # [N, C, K]
    dh_columns = h.new_zeros(h.shape) if tangent_h is None else tangent_h
    dh_columns = dh_columns.index_select(1, tables.input_of_column)
    out, to_h = grad.new_zeros(grad.shape), torch.zeros_like(h_columns)
    to_y, to_radial = y.new_empty(y.shape), radial.new_zeros(radial.shape)
    for edges in _edge_chunks(structure, h, y):
        inputs, d_inputs = h_columns.index_select(0, sender[edges]), dh_columns.index_select(0, sender[edges])
        weights = radial[edges].index_select(1, tables.path_of_column)
        matrices = (y[edges] @ tables.coupling).view(shape)
        grad_edges = grad.index_select(0, receiver[edges])
        pulled = torch.bmm(matrices.mT, grad_edges)  # [E, C, K]
        moved = weights * d_inputs  # tangent of the weighted features, [E, C, K]
        for_radial = pulled * d_inputs
        if tangent_radial is not None:
            d_weights = tangent_radial[edges].index_select(1, tables.path_of_column)
            moved = moved.addcmul(d_weights, inputs)
            to_h.index_add_(0, sender[edges], pulled * d_weights)
        message = torch.bmm(matrices, moved)
        if tangent_y is not None:
            d_matrices = (tangent_y[edges] @ tables.coupling).view(shape)
            d_pulled = torch.bmm(d_matrices.mT, grad_edges)
            message = message.baddbmm(d_matrices, weights * inputs)
            for_radial = for_radial.addcmul(d_pulled, inputs)
            to_h.index_add_(0, sender[edges], d_pulled * weights)
        out.index_add_(0, receiver[edges], message)
        to_radial[edges] = to_radial[edges].index_add(1, tables.path_of_column, for_radial)
        to_y[edges] = torch.bmm(grad_edges, moved.mT).flatten(1) @ tables.coupling.T
    return out, h.new_zeros(h.shape).index_add_(1, tables.input_of_column, to_h), to_y, to_radial


def table_convolution(edges: TableEdges) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K], with radial functions out of a table."""
    row, (value, _, _) = _weights(edges)
    return edge_convolution(*_with_radial(edges, interpolated(edges.table, row, value)))


def table_convolution_backward(
    grad: Tensor, edges: TableEdges, geometry: bool, weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ with respect to h, y, lengths and table.

    Those by y and lengths are empty tensors unless `geometry`, that by the table is empty unless `weights`.
    """
    y, lengths, table = edges.y, edges.lengths, edges.table
    row, (value, slope, _) = _weights(edges)
    given = _with_radial(edges, interpolated(table, row, value))
    to_h, to_y, to_radial = edge_convolution_backward(grad, *given)
    to_lengths = (to_radial * interpolated(table, row, slope)).sum((1, 2)).to(lengths.dtype)
    to_table = spread(table, row, value, to_radial) if weights else table.new_empty(0)
    return (to_h, to_y, to_lengths, to_table) if geometry else (to_h, y.new_empty(0), lengths.new_empty(0), to_table)


def table_convolution_backward2(
    tangents: Tangents, tangent_table: Tensor | None, grad: Tensor, edges: TableEdges, geometry: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Φ with respect to grad, h, y, lengths and table; a tangent of None is zero.

    Φ = ⟨h', ∂S/∂h⟩ + ⟨y', ∂S/∂y⟩ + ⟨r', ∂S/∂r⟩ + ⟨T', ∂S/∂T⟩. Those by y and lengths are empty unless `geometry`.
    """
    y, lengths, table = edges.y, edges.lengths, edges.table
    tangent_h, tangent_y, tangent_lengths = tangents
    row, (value, slope, curvature) = _weights(edges)
    rate = (torch.zeros_like(lengths) if tangent_lengths is None else tangent_lengths)[:, None]
    radial, tangent_radial = interpolated(table, row, value), interpolated(table, row, rate * slope)
    tangent_slope = interpolated(table, row, rate * curvature)
    if tangent_table is not None:
        tangent_radial = tangent_radial + interpolated(tangent_table, row, value)
        tangent_slope = tangent_slope + interpolated(tangent_table, row, slope)
    given = (grad, *_with_radial(edges, radial))
    out, to_h, to_y, to_radial = edge_convolution_backward2(tangent_h, tangent_y, tangent_radial, *given)
    to_tangent = edge_convolution_backward(*given)[2]  # gradient of Φ by the tangent of the radial functions
    to_table = spread(table, row, value, to_radial) + spread(table, row, rate * slope, to_tangent)
    if not geometry:
        return out, to_h, y.new_empty(0), lengths.new_empty(0), to_table
    to_lengths = to_radial * interpolated(table, row, slope) + to_tangent * tangent_slope
    return out, to_h, to_y, to_lengths.sum((1, 2)).to(lengths.dtype), to_table


def table_convolution_tangent(tangents: Tangents, edges: TableEdges) -> Tensor:
    """The tangent A' of the messages along those of h, y and lengths, [N, D_out, K]."""
    h = edges.h
    any_grad = h.new_zeros(h.shape[0], ConvolutionStructure.from_key(edges.key).dim_out, h.shape[2])
    return table_convolution_backward2(tangents, None, any_grad, edges, False)[0]


def table_convolution_weights(
    grad: Tensor, tangent_grad: Tensor, tangents: Tangents, edges: TableEdges
) -> tuple[Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ + ⟨tangent_grad, A'⟩ with respect to h and table."""
    to_h, _, _, to_table = table_convolution_backward(grad, edges, False, True)
    moved = table_convolution_backward2(tangents, None, tangent_grad, edges, False)
    return to_h + moved[1], to_table + moved[4]


def layer_sweeps(parts: LayerParts, dtype: torch.dtype) -> LayerSweeps | None:
    """None: the parts of a layer are called one by one."""
    return None


def _weights(edges: TableEdges) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    return spline_weights(edges.lengths, edges.table.shape[0], edges.first, edges.step)


def _with_radial(edges: TableEdges, radial: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, str]:
    """Arguments of the convolution with these radial functions, [E, P, K]."""
    return edges.h, edges.y, radial, edges.sender, edges.receiver, edges.key


def _edge_chunks(structure: ConvolutionStructure, h: Tensor, y: Tensor) -> Iterator[slice]:
    columns = len(structure.path_of_column())
    return chunks(y.shape[0], structure.dim_out * max(columns, h.shape[2]))
