"""Symmetric products of equivariant features as sparse polynomials: the generalised coupling of MACE, reduced.

MACE (arXiv 2206.07697, eq. 10-11) contracts ν copies of the same features A with generalised Clebsch-Gordan
coefficients. Because the copies are equal, only the part that is symmetric under exchange of the factors survives:
polynomials in the components of A. This module finds an orthonormal basis of these polynomials. It has 8 members
where the coupling trees number 23 (0e out of degrees 0-3 at ν = 3), and the same span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from macekit.o3 import cache as disk
from macekit.o3.wigner import Array, clebsch_gordan

IntArray = NDArray[np.int64]
VERSION = 1
"""Of the basis and of the layout on disk; weights of trained models refer to this basis."""


@dataclass(frozen=True, slots=True)
class SymmetricProduct:
    """A basis of equivariant polynomials of one order in features of degrees 0 ... max_ell.

    Every polynomial maps components x of the features to an irrep of degree `degree`:
    P_f(x)_M = Σ_t [outputs_t = M] coefficients[t, f] Π_s x[factors[t, s]].
    """

    degree: int
    """Degree L of the output; its parity is natural."""
    factors: IntArray
    """Ascending component indices of every monomial, [T, ν]; degree l starts at l²."""
    outputs: IntArray
    """Component M of the output a term adds to, [T], ascending."""
    coefficients: Array
    """Coefficient of every term in every basis polynomial, [T, F]."""
    num_paths: int
    """Number of coupling trees, the size of MACE's redundant basis; sets the scale of initial weights."""

    @property
    def order(self) -> int:
        """Correlation order ν."""
        return int(self.factors.shape[1])

    @property
    def num_functions(self) -> int:
        """Number F of independent polynomials."""
        return int(self.coefficients.shape[1])


@cache
def symmetric_product(max_ell: int, degree: int, order: int) -> SymmetricProduct:
    """The basis for one output degree and one order, from the disk cache or computed.

    Args:
        max_ell: Highest degree of the features; each of 0 ... max_ell occurs once, with natural parity.
        degree: Degree L of the output.
        order: Number ν of factors.
    """
    name = f"symmetric-product-v{VERSION}-{max_ell}-{degree}-{order}"
    stored = disk.load(name, ("factors", "outputs", "coefficients", "num_paths"))
    if stored is None:
        computed = _compute(max_ell, degree, order)
        stored = {
            "factors": computed.factors,
            "outputs": computed.outputs,
            "coefficients": computed.coefficients,
            "num_paths": np.array(computed.num_paths),
        }
        disk.store(name, stored)
    arrays = {key: stored[key] for key in ("factors", "outputs", "coefficients")}
    return SymmetricProduct(degree=degree, num_paths=int(stored["num_paths"]), **arrays)


@cache
def tree_matrix(max_ell: int, degree: int, order: int) -> Array:
    """The coupling trees of MACE as sums over the members of the basis, [trees, F], with orthonormal columns.

    A tree couples the factors from left to right; every order of the degrees has trees of its own, most of which agree
    or vanish once equal factors commute. Arguments as for `symmetric_product`.
    """
    basis = symmetric_product(max_ell, degree, order)
    terms = zip(basis.factors.tolist(), basis.outputs.tolist(), strict=True)
    row_of = {(*factors, output): row for row, (factors, output) in enumerate(terms)}
    members = np.vstack([basis.coefficients, np.zeros(basis.num_functions)])  # the last for what no member has
    rows = []
    for degrees in product(range(max_ell + 1), repeat=order):
        if (sum(degrees) - degree) % 2:
            continue
        monomials, position = _monomials(degrees)
        places = [[row_of.get((*m, output), -1) for output in range(2 * degree + 1)] for m in monomials.tolist()]
        weighted = members[np.array(places)] * _multiplicity(monomials)[:, None, None]  # [U, 2L+1, F]
        for tree in _coupling_trees(degrees, degree):
            polynomial = _as_polynomial(tree, position, len(monomials))
            rows.append(np.tensordot(polynomial, weighted, axes=2) / np.sqrt((2 * degree + 1) * np.vdot(tree, tree)))
    return np.array(rows).reshape(-1, basis.num_functions)


def _compute(max_ell: int, degree: int, order: int) -> SymmetricProduct:
    factors, outputs, blocks = [], [], []
    num_paths = 0
    for degrees in combinations_with_replacement(range(max_ell + 1), order):
        if (sum(degrees) - degree) % 2:
            continue
        monomials, position = _monomials(degrees)
        trees = [_as_polynomial(tensor, position, len(monomials)) for tensor in _coupling_trees(degrees, degree)]
        num_paths += len(trees) * factorial(order) // prod(factorial(count) for count in Counter(degrees).values())
        basis = _orthonormal(trees, _multiplicity(monomials))  # [F, U, 2L+1]
        if len(basis) == 0:
            continue
        rows, components = np.nonzero(np.any(basis != 0.0, axis=0))
        factors.append(monomials[rows])
        outputs.append(components)
        blocks.append(basis[:, rows, components].T)  # [terms, F]
    coefficients = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        coefficients[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    all_factors = np.concatenate(factors) if factors else np.zeros((0, order), dtype=np.int64)
    all_outputs = np.concatenate(outputs) if outputs else np.zeros(0, dtype=np.int64)
    ascending = np.lexsort((*all_factors.T[::-1], all_outputs))
    return SymmetricProduct(
        degree=degree,
        factors=all_factors[ascending],
        outputs=all_outputs[ascending].astype(np.int64),
        coefficients=coefficients[ascending],
        num_paths=num_paths,
    )


def _coupling_trees(degrees: tuple[int, ...], degree: int) -> Iterator[Array]:
    """Tensors [Π(2l_s+1), 2L+1] of all ways to couple the degrees from left to right."""
    partial = [(degrees[0], np.eye(2 * degrees[0] + 1))]
    for l in degrees[1:]:
        partial = [
            (coupled, np.tensordot(tensor, clebsch_gordan(left, l, coupled), axes=(-1, 0)) / sqrt(2 * left + 1))
            for left, tensor in partial
            for coupled in range(abs(left - l), left + l + 1)
        ]
    return (tensor.reshape(-1, 2 * degree + 1) for coupled, tensor in partial if coupled == degree)


def _monomials(degrees: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Distinct ascending monomials [U, ν] in components of these degrees, and that of each product [Π(2l_s+1)]."""
    components = [np.arange(l * l, (l + 1) ** 2) for l in degrees]
    ordered = np.stack(np.meshgrid(*components, indexing="ij"), axis=-1).reshape(-1, len(degrees))
    monomials, position = np.unique(np.sort(ordered, axis=1), axis=0, return_inverse=True)
    return monomials.astype(np.int64), position.reshape(-1).astype(np.int64)


def _as_polynomial(tensor: Array, position: IntArray, num_monomials: int) -> Array:
    """Coefficients [U, 2L+1] of a tensor [Π(2l_s+1), 2L+1] once equal factors commute."""
    polynomial = np.zeros((num_monomials, tensor.shape[1]))
    np.add.at(polynomial, position, tensor)
    return polynomial


def _orthonormal(polynomials: list[Array], multiplicity: Array) -> Array:
    """Gram-Schmidt in the order of the coupling trees, so that the basis is the same on every machine.

    The inner product is that of the symmetric tensors, Σ c d α!/ν! over monomials with exponents α; members have
    squared norm 2L + 1, as coupling coefficients of component normalisation do.

    Returns:
        Coefficients of the members, [F, U, 2L+1].
    """
    weights = np.sqrt(multiplicity)[:, None]
    basis: list[Array] = []
    for polynomial in polynomials:
        vector = polynomial * weights
        before = max(1.0, float(np.linalg.norm(vector)))
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for member in basis:
                vector = vector - np.vdot(member, vector) * member
        norm = float(np.linalg.norm(vector))
        if norm > 1e-8 * before:
            basis.append(vector / norm)
    members = np.array([sqrt(member.shape[1]) * member / weights for member in basis])
    members[np.abs(members) < 1e-12] = 0.0
    return members


def _multiplicity(monomials: IntArray) -> Array:
    """α!/ν! of every monomial: one over the number of distinct orderings of its factors."""
    order = monomials.shape[1]
    counts = [prod(factorial(count) for count in Counter(row).values()) for row in monomials.tolist()]
    return np.array(counts, dtype=np.float64) / factorial(order)
