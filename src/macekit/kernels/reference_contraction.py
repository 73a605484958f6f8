"""The symmetric contraction in pure torch; see `kernels.reference`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from macekit.kernels.structure import ContractionStructure, contraction_tables

CHUNK_ELEMENTS = 1 << 20
"""Size of the largest temporary of a chunk, in numbers (4 MiB in float32): it should stay in the cache."""


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
    for atoms in chunks(a.shape[0], structure.num_terms * a.shape[2]):
        for order in contraction_tables(key, a.dtype, a.device):
            monomials = _product([a[atoms].index_select(1, factor) for factor in order.factors])  # [N, T, K]
            weights = coefficients[:, order.terms].index_select(0, species[atoms])  # [N, T, K]
            out[atoms] += order.collect @ (weights * monomials)
    return out


def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, weights: bool = True
) -> tuple[Tensor, Tensor]:
    """Gradients ([N, D, K], [S, T, K]) of ⟨grad, B⟩ by a and the coefficients; these are empty unless `weights`."""
    structure = ContractionStructure.from_key(key)
    to_a, to_coefficients = a.new_zeros(a.shape), coefficients.new_zeros(coefficients.shape)
    for atoms in chunks(a.shape[0], structure.num_terms * a.shape[2]):
        for order in contraction_tables(key, a.dtype, a.device):
            values = [a[atoms].index_select(1, factor) for factor in order.factors]
            others = _leave_one_out(values)
            grad_terms = order.collect.T @ grad[atoms]  # [N, T, K]
            to_coefficients[:, order.terms].index_add_(0, species[atoms], grad_terms * values[0] * others[0])
            weighted = grad_terms * coefficients[:, order.terms].index_select(0, species[atoms])
            for factor, other in zip(order.factors, others, strict=True):
                to_a[atoms].index_add_(1, factor, weighted * other)
    return to_a, to_coefficients if weights else coefficients.new_empty(0)


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
    for atoms in chunks(a.shape[0], structure.num_terms * a.shape[2]):
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


def chunks(count: int, elements_each: int) -> Iterator[slice]:
    """Ranges of edges or atoms whose temporaries have about `CHUNK_ELEMENTS` numbers."""
    size = max(1, CHUNK_ELEMENTS // max(elements_each, 1))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


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
