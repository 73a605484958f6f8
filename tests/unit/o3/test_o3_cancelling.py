"""Terms that cancel in exact couplings: those that chains of slightly wrong 3j symbols have, and no others."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from macekit.o3 import cache as disk
from macekit.o3 import symmetric_product, wigner_3j, with_cancelling_terms

CASES = [(2, 0, 3, 0), (2, 1, 3, 2), (2, 2, 3, 16), (1, 2, 4, 1), (2, 0, 4, 5), (1, 1, 4, 0), (3, 2, 2, 0)]
"""Highest degree, degree of the output, order, and the number of terms that cancel."""


def terms_of_chains(max_ell: int, degree: int, order: int) -> set[tuple[int, ...]]:
    """Terms of all chains of 3j symbols, each entry of which is wrong by a millionth."""
    generator = np.random.default_rng(3)
    found: set[tuple[int, ...]] = set()
    for degrees in product(range(max_ell + 1), repeat=order):
        chains = [(degrees[0], np.eye(2 * degrees[0] + 1))]
        for l in degrees[1:]:
            chains = [
                (coupled, np.tensordot(chain, wrong(wigner_3j(left, l, coupled), generator), axes=(-1, 0)))
                for left, chain in chains
                for coupled in range(abs(left - l), left + l + 1)
            ]
        for coupled, chain in chains:
            if coupled != degree or (sum(degrees) - degree) % 2:
                continue
            sums: dict[tuple[int, ...], float] = {}
            for entry, value in np.ndenumerate(chain):
                factors = sorted(l * l + m for l, m in zip(degrees, entry, strict=False))
                sums[entry[-1], *factors] = sums.get((entry[-1], *factors), 0.0) + value
            found |= {term for term, value in sums.items() if abs(value) > 1e-10}
    return found


def wrong(symbols: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    symbols = np.where(np.abs(symbols) < 1e-12, 0.0, symbols)
    return symbols * (1.0 + 1e-6 * generator.normal(size=symbols.shape))


@pytest.mark.parametrize(("max_ell", "degree", "order", "number"), CASES)
def test_the_terms_are_those_of_chains(max_ell: int, degree: int, order: int, number: int) -> None:
    basis, every = symmetric_product(max_ell, degree, order), with_cancelling_terms(max_ell, degree, order)
    terms = list(map(tuple, np.column_stack([every.outputs, every.factors]).tolist()))
    assert len(terms) - len(basis.outputs) == number
    assert len(set(terms)) == len(terms)
    assert set(terms) == terms_of_chains(max_ell, degree, order)


def test_the_basis_comes_first_and_the_others_are_not_in_it() -> None:
    basis, every = symmetric_product(2, 2, 3), with_cancelling_terms(2, 2, 3)
    size = len(basis.outputs)
    for name in ("outputs", "factors", "coefficients"):
        assert np.array_equal(getattr(every, name)[:size], getattr(basis, name))
    assert every.num_functions == basis.num_functions
    assert not every.coefficients[size:].any()
    assert np.all(np.diff(every.factors, axis=1) >= 0)


def test_the_terms_are_kept_on_disk() -> None:
    fresh = with_cancelling_terms(2, 1, 3)
    stored = disk.load("cancelling-terms-v1-2-1-3", ("terms",))
    assert stored is not None
    assert np.array_equal(stored["terms"][:, 0], fresh.outputs[-2:])
    with_cancelling_terms.cache_clear()
    assert np.array_equal(with_cancelling_terms(2, 1, 3).factors, fresh.factors)
