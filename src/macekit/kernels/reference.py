"""The two hot operations in pure torch: the definition that every other backend must reproduce.

Letters: N atoms, E edges, K channels, P paths, D components, S species, T terms, L spherical-harmonic components.

**Edge convolution** (arXiv 2206.07697, eq. 8), for every path p = (l_in, l_sh, l_out):

    A[i, (p, m₃), k] = Σ_{e: j→i} R[e, p, k] Σ_{m₁ m₂} C^p_{m₁ m₂ m₃} h[j, m₁, k] Y[e, m₂]

It is linear in h, Y and R. With S = ⟨g, A⟩ the backward returns ∂S/∂(h, Y, R), and the second backward the gradient of
Φ = ⟨h', ∂S/∂h⟩ + ⟨Y', ∂S/∂Y⟩ + ⟨R', ∂S/∂R⟩, which is again a sum of the same products.

**Symmetric contraction** (eq. 10-11) as a sparse polynomial:

    B[i, M, k] = Σ_{t ∈ M} c[z_i, t, k] Π_s A[i, f_ts, k]

Everything runs in chunks of edges or atoms, so that temporaries stay small and nothing per edge and channel is kept.
Results are contiguous whatever the strides of the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from macekit.kernels.structure import (
    ContractionStructure,
    ConvolutionStructure,
    contraction_tables,
    convolution_tables,
)

CHUNK_ELEMENTS = 1 << 20
"""Size of the largest temporary of a chunk, in numbers (4 MiB in float32): it should stay in the cache."""


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


def symmetric_contraction(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Equivariant polynomials of the atomic basis, [N, M, K].

    Args:
        a: Atomic basis, [N, D, K].
        coefficients: Coefficient of every term, [S, T, K].
        species: Row of `coefficients` of every atom, int64 [N].
        key: Name of a `ContractionStructure`.
    """
    structure = ContractionStructure.from_key(key)
    out = a.new_zeros(a.shape[0], structure.dim_out, a.shape[2])
    for atoms in _chunks(a.shape[0], structure.num_terms * a.shape[2]):
        for order in contraction_tables(key, a.dtype, a.device):
            monomials = _product([a[atoms].index_select(1, factor) for factor in order.factors])  # [N, T, K]
            weights = coefficients[:, order.terms].index_select(0, species[atoms])  # [N, T, K]
            out[atoms] += order.collect @ (weights * monomials)
    return out


def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients ([N, D, K], [S, T, K]) of ⟨grad, B⟩ with respect to a and the coefficients."""
    structure = ContractionStructure.from_key(key)
    to_a, to_coefficients = a.new_zeros(a.shape), coefficients.new_zeros(coefficients.shape)
    for atoms in _chunks(a.shape[0], structure.num_terms * a.shape[2]):
        for order in contraction_tables(key, a.dtype, a.device):
            values = [a[atoms].index_select(1, factor) for factor in order.factors]
            others = _leave_one_out(values)
            grad_terms = order.collect.T @ grad[atoms]  # [N, T, K]
            to_coefficients[:, order.terms].index_add_(0, species[atoms], grad_terms * values[0] * others[0])
            weighted = grad_terms * coefficients[:, order.terms].index_select(0, species[atoms])
            for factor, other in zip(order.factors, others, strict=True):
                to_a[atoms].index_add_(1, factor, weighted * other)
    return to_a, to_coefficients


def symmetric_contraction_backward2(
    tangent_a: Tensor | None,
    tangent_coefficients: Tensor | None,
    grad: Tensor,
    a: Tensor,
    coefficients: Tensor,
    species: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ⟨a', ∂S/∂a⟩ + ⟨c', ∂S/∂c⟩ by grad, a and the coefficients; a tangent of None is zero."""
    structure = ContractionStructure.from_key(key)
    out, to_a, to_coefficients = (
        grad.new_zeros(grad.shape),
        a.new_zeros(a.shape),
        coefficients.new_zeros(coefficients.shape),
    )
    da = a.new_zeros(a.shape) if tangent_a is None else tangent_a
    for atoms in _chunks(a.shape[0], structure.num_terms * a.shape[2]):
        for order in contraction_tables(key, a.dtype, a.device):
            values = [a[atoms].index_select(1, factor) for factor in order.factors]
            d_values = [da[atoms].index_select(1, factor) for factor in order.factors]
            others, d_others = _leave_one_out(values), _leave_one_out_tangents(values, d_values)
            d_monomials = _inner(d_values, others)  # [N, T, K]
            grad_terms = order.collect.T @ grad[atoms]
            weights = coefficients[:, order.terms].index_select(0, species[atoms])
            d_terms = weights * d_monomials
            d_weights = None
            if tangent_coefficients is not None:
                d_weights = tangent_coefficients[:, order.terms].index_select(0, species[atoms])
                d_terms = d_terms.addcmul(d_weights, values[0] * others[0])
            out[atoms] += order.collect @ d_terms
            to_coefficients[:, order.terms].index_add_(0, species[atoms], grad_terms * d_monomials)
            weighted = grad_terms * weights
            for factor, other, d_other in zip(order.factors, others, d_others, strict=True):
                change = weighted * d_other
                if d_weights is not None:
                    change = change.addcmul(grad_terms * d_weights, other)
                to_a[atoms].index_add_(1, factor, change)
    return out, to_a, to_coefficients


def _chunks(count: int, elements_each: int) -> Iterator[slice]:
    size = max(1, CHUNK_ELEMENTS // max(elements_each, 1))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _edge_chunks(structure: ConvolutionStructure, h: Tensor, y: Tensor) -> Iterator[slice]:
    columns = len(structure.path_of_column())
    return _chunks(y.shape[0], structure.dim_out * max(columns, h.shape[2]))


def _product(values: Sequence[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = result * value
    return result


def _leave_one_out(values: Sequence[Tensor]) -> list[Tensor]:
    """Product of all values but one, for every one."""
    if len(values) == 1:
        return [torch.ones_like(values[0])]
    return [_product([*values[:skip], *values[skip + 1 :]]) for skip in range(len(values))]


def _leave_one_out_tangents(values: Sequence[Tensor], d_values: Sequence[Tensor]) -> list[Tensor]:
    """Tangents of `_leave_one_out` along d_values."""
    if len(values) == 1:
        return [torch.zeros_like(values[0])]
    tangents = []
    for skip in range(len(values)):
        rest, d_rest = [*values[:skip], *values[skip + 1 :]], [*d_values[:skip], *d_values[skip + 1 :]]
        tangents.append(_inner(d_rest, _leave_one_out(rest)))
    return tangents


def _inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Σ_s left_s right_s."""
    total = left[0] * right[0]
    for one, other in zip(left[1:], right[1:], strict=True):
        total = total.addcmul(one, other)
    return total
