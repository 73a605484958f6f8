"""Monomials that coupling trees reach and that cancel: the rounding of couplings in float32 leaves some of them.

A coupling tree is a chain of 3j symbols. Its entries for different orders of the same factors may add up to zero, and
entries may be sums that vanish; the members of our basis do not have such monomials. In a file with couplings that
were computed in float32 both are zero to eight digits alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from macekit.o3 import cache as disk
from macekit.o3.symmetric_product import IntArray, SymmetricProduct, symmetric_product
from macekit.o3.wigner import wigner_3j

VERSION = 1
"""Of the monomials and of the layout on disk; weights of imported models refer to their order."""
ZERO = 1e-12
"""3j symbols below are zero: the smallest others are 1e-3."""

Pattern = NDArray[np.bool_]


@cache
def with_cancelling_terms(max_ell: int, degree: int, order: int) -> SymmetricProduct:
    """The basis of `symmetric_product` with the terms that cancel in it, whose coefficients are zero.

    Args:
        max_ell: Highest degree of the features; each of 0 ... max_ell occurs once, with natural parity.
        degree: Degree L of the output.
        order: Number ν of factors.

    Returns:
        Its terms are those of the basis, then the others.
    """
    product = symmetric_product(max_ell, degree, order)
    name = f"cancelling-terms-v{VERSION}-{max_ell}-{degree}-{order}"
    stored = disk.load(name, ("terms",))
    terms = _cancelling(product, max_ell) if stored is None else stored["terms"]
    if stored is None:
        disk.store(name, {"terms": terms})
    empty = np.zeros((len(terms), product.num_functions))
    return replace(
        product,
        factors=np.concatenate([product.factors, terms[:, 1:]]),
        outputs=np.concatenate([product.outputs, terms[:, 0]]),
        coefficients=np.concatenate([product.coefficients, empty]),
    )


def _cancelling(product: SymmetricProduct, max_ell: int) -> IntArray:
    """Output component and ascending factors of the terms, [T, 1 + ν]."""
    found = _terms((), {}, max_ell, product.order, product.degree)
    known = np.column_stack([product.outputs, product.factors])
    members = set(map(tuple, known.tolist()))
    others = sorted(term for term in found if term not in members)
    return np.array(others, dtype=np.int64).reshape(-1, 1 + product.order)


def _terms(
    degrees: tuple[int, ...], reached: dict[int, Pattern], max_ell: int, order: int, degree: int
) -> set[tuple[int, ...]]:
    """Terms of all trees that start with these degrees."""
    if len(degrees) < order:
        found: set[tuple[int, ...]] = set()
        for l in range(max_ell + 1):
            further = _coupled(reached, l) if degrees else {l: np.eye(2 * l + 1, dtype=bool)}
            found |= _terms((*degrees, l), further, max_ell, order, degree)
        return found
    if degree not in reached or (sum(degrees) - degree) % 2:
        return set()
    rows, outputs = np.nonzero(reached[degree])
    sizes = [2 * l + 1 for l in degrees]
    factors = np.stack(np.unravel_index(rows, sizes), axis=1) + np.array([l * l for l in degrees])
    terms = np.unique(np.column_stack([outputs, np.sort(factors, axis=1)]), axis=0)
    return set(map(tuple, terms.tolist()))


def _coupled(reached: dict[int, Pattern], l: int) -> dict[int, Pattern]:
    """Which entries [Π(2l_s+1), 2l'+1] chains of 3j symbols reach with a further factor, by their degree l'."""
    found: dict[int, Pattern] = {}
    for left, pattern in reached.items():
        for coupled in range(abs(left - l), left + l + 1):
            symbols = np.abs(wigner_3j(left, l, coupled)).reshape(2 * left + 1, -1) > ZERO
            entries = (pattern.astype(np.float32) @ symbols.astype(np.float32) > 0).reshape(-1, 2 * coupled + 1)
            found[coupled] = found[coupled] | entries if coupled in found else entries
    return found
