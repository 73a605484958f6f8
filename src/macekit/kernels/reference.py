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
from functools import cache

import torch
from torch import Tensor

from macekit.kernels.structure import ContractionStructure, ConvolutionStructure, Path, coupling_matrix

CHUNK_ELEMENTS = 1 << 20
"""Size of the largest temporary of a chunk, in numbers (4 MiB in float32): it should stay in the cache."""


def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K].

    Args:
        h: Features of the senders, [N, D_in, K].
        y: Spherical harmonics of the edges, [E, L].
        radial: Radial functions, [E, P, K].
        sender: Sender of every edge, int64 [E].
        receiver: Receiver of every edge, int64 [E].
        key: Name of a `ConvolutionStructure`.
    """
    structure = ConvolutionStructure.from_key(key)
    coupling = coupling_matrix(key, y.dtype, y.device)
    out = h.new_zeros(h.shape[0], structure.dim_out, h.shape[2])
    for edges in _chunks(y.shape[0], structure.dim_out * h.shape[2]):
        h_edges, weights, matrices = h.index_select(0, sender[edges]), radial[edges], y[edges] @ coupling
        messages = []
        for path in structure.paths:
            weighted = weights[:, path.index, None] * h_edges[:, structure.rows_in(path.l_in)]  # [E, 2l_in+1, K]
            messages.append(_apply(_matrix(structure, matrices, path), weighted))  # [E, 2l_out+1, K]
        out.index_add_(0, receiver[edges], _join(structure, messages))
    return out


def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients ([N, D_in, K], [E, L], [E, P, K]) of ⟨grad, A⟩ with respect to h, y and radial."""
    structure = ConvolutionStructure.from_key(key)
    coupling = coupling_matrix(key, y.dtype, y.device)
    grad_h, grad_y, grad_radial = h.new_zeros(h.shape), y.new_empty(y.shape), radial.new_empty(radial.shape)
    for edges in _chunks(y.shape[0], structure.dim_out * h.shape[2]):
        h_edges, weights, matrices = h.index_select(0, sender[edges]), radial[edges], y[edges] @ coupling
        grad_edges = grad.index_select(0, receiver[edges])
        to_h, to_matrices = torch.zeros_like(h_edges), []
        for path in structure.paths:
            rows, weight = structure.rows_in(path.l_in), weights[:, path.index, None]
            grad_out = _split(structure, grad_edges, path)
            pulled = _apply(_matrix(structure, matrices, path).mT, grad_out)  # [E, 2l_in+1, K]
            to_matrices.append(torch.bmm(grad_out, (weight * h_edges[:, rows]).mT).flatten(1))
            grad_radial[edges, path.index] = (pulled * h_edges[:, rows]).sum(1)
            to_h[:, rows].addcmul_(pulled, weight)
        grad_h.index_add_(0, sender[edges], to_h)
        grad_y[edges] = torch.cat(to_matrices, dim=1) @ coupling.T
    return grad_h, grad_y, grad_radial


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
    structure = ConvolutionStructure.from_key(key)
    coupling = coupling_matrix(key, y.dtype, y.device)
    out, out_h = grad.new_zeros(grad.shape), h.new_zeros(h.shape)
    out_y, out_radial = y.new_empty(y.shape), radial.new_empty(radial.shape)
    for edges in _chunks(y.shape[0], structure.dim_out * h.shape[2]):
        h_edges, weights, matrices = h.index_select(0, sender[edges]), radial[edges], y[edges] @ coupling
        grad_edges = grad.index_select(0, receiver[edges])
        dh_edges = torch.zeros_like(h_edges) if tangent_h is None else tangent_h.index_select(0, sender[edges])
        d_weights = None if tangent_radial is None else tangent_radial[edges]
        d_matrices = None if tangent_y is None else tangent_y[edges] @ coupling
        to_h, to_matrices, messages = torch.zeros_like(h_edges), [], []
        for path in structure.paths:
            rows, weight = structure.rows_in(path.l_in), weights[:, path.index, None]
            grad_out, matrix = _split(structure, grad_edges, path), _matrix(structure, matrices, path)
            pulled = _apply(matrix.mT, grad_out)  # [E, 2l_in+1, K]
            moved = weight * dh_edges[:, rows]  # the tangent of R h at fixed Y
            to_radial = pulled * dh_edges[:, rows]
            if d_weights is not None:
                moved = moved.addcmul(d_weights[:, path.index, None], h_edges[:, rows])
                to_h[:, rows].addcmul_(pulled, d_weights[:, path.index, None])
            message = _apply(matrix, moved)
            if d_matrices is not None:
                d_matrix = _matrix(structure, d_matrices, path)
                d_pulled = _apply(d_matrix.mT, grad_out)
                message = message + _apply(d_matrix, weight * h_edges[:, rows])
                to_radial = to_radial.addcmul(d_pulled, h_edges[:, rows])
                to_h[:, rows].addcmul_(d_pulled, weight)
            messages.append(message)
            to_matrices.append(torch.bmm(grad_out, moved.mT).flatten(1))
            out_radial[edges, path.index] = to_radial.sum(1)
        out.index_add_(0, receiver[edges], _join(structure, messages))
        out_h.index_add_(0, sender[edges], to_h)
        out_y[edges] = torch.cat(to_matrices, dim=1) @ coupling.T
    return out, out_h, out_y, out_radial


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
    for atoms, s in _atoms_by_species(species, structure.num_terms * a.shape[2]):
        for terms, factors, collect in _terms(key, a.dtype, a.device):
            monomials = _product([a[atoms].index_select(1, factor) for factor in factors])  # [N, T, K]
            out[atoms] += collect @ (monomials * coefficients[s, terms])
    return out


def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients ([N, D, K], [S, T, K]) of ⟨grad, B⟩ with respect to a and the coefficients."""
    structure = ContractionStructure.from_key(key)
    grad_a, grad_coefficients = a.new_zeros(a.shape), coefficients.new_zeros(coefficients.shape)
    for atoms, s in _atoms_by_species(species, structure.num_terms * a.shape[2]):
        a_chunk, grad_chunk, to_a = a[atoms], grad[atoms], torch.zeros_like(a[atoms])
        for terms, factors, collect in _terms(key, a.dtype, a.device):
            values = [a_chunk.index_select(1, factor) for factor in factors]
            others = _leave_one_out(values)
            grad_terms = collect.T @ grad_chunk  # [N, T, K]
            grad_coefficients[s, terms] += (grad_terms * values[0] * others[0]).sum(0)
            weighted = grad_terms * coefficients[s, terms]
            for factor, other in zip(factors, others, strict=True):
                to_a.index_add_(1, factor, weighted * other)
        grad_a[atoms] = to_a
    return grad_a, grad_coefficients


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
    out, out_a = grad.new_zeros(grad.shape), a.new_zeros(a.shape)
    out_coefficients = coefficients.new_zeros(coefficients.shape)
    for atoms, s in _atoms_by_species(species, structure.num_terms * a.shape[2]):
        a_chunk, grad_chunk, to_a = a[atoms], grad[atoms], torch.zeros_like(a[atoms])
        da_chunk = torch.zeros_like(a_chunk) if tangent_a is None else tangent_a[atoms]
        for terms, factors, collect in _terms(key, a.dtype, a.device):
            values = [a_chunk.index_select(1, factor) for factor in factors]
            d_values = [da_chunk.index_select(1, factor) for factor in factors]
            others, d_others = _leave_one_out(values), _leave_one_out_tangents(values, d_values)
            d_monomials = _inner(d_values, others)
            grad_terms = collect.T @ grad_chunk
            d_terms = coefficients[s, terms] * d_monomials
            if tangent_coefficients is not None:
                d_terms = d_terms.addcmul(tangent_coefficients[s, terms], values[0] * others[0])
            out[atoms] += collect @ d_terms
            out_coefficients[s, terms] += (grad_terms * d_monomials).sum(0)
            for factor, other, d_other in zip(factors, others, d_others, strict=True):
                change = coefficients[s, terms] * d_other
                if tangent_coefficients is not None:
                    change = change.addcmul(tangent_coefficients[s, terms], other)
                to_a.index_add_(1, factor, grad_terms * change)
        out_a[atoms] = to_a
    return out, out_a, out_coefficients


def _chunks(count: int, elements_each: int) -> Iterator[slice]:
    size = max(1, CHUNK_ELEMENTS // max(elements_each, 1))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _atoms_by_species(species: Tensor, elements_each: int) -> Iterator[tuple[Tensor, int]]:
    """Indices of atoms of one species, in chunks, with the species."""
    for s in torch.unique(species).tolist():
        atoms = torch.nonzero(species == s).squeeze(1)
        for part in _chunks(len(atoms), elements_each):
            yield atoms[part], s


def _apply(matrices: Tensor, features: Tensor) -> Tensor:
    """Matrix of every edge times its features, [E, R, C] [E, C, K] → [E, R, K]; a sum of few outer products."""
    if matrices.shape[2] == 1:
        return matrices * features
    return torch.bmm(matrices, features)


def _matrix(structure: ConvolutionStructure, matrices: Tensor, path: Path) -> Tensor:
    """Σ_{m₂} C Y of a path for every edge, [E, 2l_out+1, 2l_in+1]."""
    return matrices[:, structure.columns(path)].reshape(-1, 2 * path.l_out + 1, 2 * path.l_in + 1)


def _split(structure: ConvolutionStructure, out: Tensor, path: Path) -> Tensor:
    """Rows of one path of the output, [E, 2l_out+1, K]."""
    rows = structure.rows_out(path.l_out)
    return out[:, rows.start + path.index_in_degree : rows.stop : len(structure.paths_to(path.l_out))]


def _join(structure: ConvolutionStructure, messages: Sequence[Tensor]) -> Tensor:
    """The output from the messages of all paths: the inverse of `_split`."""
    blocks = [
        torch.stack([messages[path.index] for path in structure.paths_to(degree)], dim=2).flatten(1, 2)
        for degree in structure.degrees_out()
    ]
    return torch.cat(blocks, dim=1)


@cache
def _terms(key: str, dtype: torch.dtype, device: torch.device) -> list[tuple[slice, list[Tensor], Tensor]]:
    """For every product: its range of terms, the component of each factor [ν][T], and the sums over terms [M, T]."""
    structure = ContractionStructure.from_key(key)
    found = []
    start = 0
    for product in structure.products:
        count = len(product.outputs)
        factors = [torch.as_tensor(column, device=device) for column in product.factors.T.copy()]
        collect = torch.zeros(structure.dim_out, count, dtype=dtype, device=device)
        rows = torch.as_tensor(product.outputs, device=device) + structure.row_out(product.degree)
        collect[rows, torch.arange(count, device=device)] = 1.0
        found.append((slice(start, start + count), factors, collect))
        start += count
    return found


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
