"""The symmetric product: counts, equivariance, the span of the coupling trees, and its disk cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from macekit.o3 import SymmetricProduct, clebsch_gordan, symmetric_product
from macekit.o3 import cache as disk
from macekit.o3.symmetric_product import _compute
from oracles import rotation_matrix, wigner_d

compute = _compute


@pytest.mark.parametrize(("degree", "functions", "paths"), [(0, 8, 23), (1, 12, 51), (2, 14, 65)])
def test_counts_at_third_order(degree: int, functions: int, paths: int) -> None:
    found = symmetric_product(3, degree, 3)
    assert found.num_functions == functions
    assert found.num_paths == paths
    assert found.order == 3


def test_numbers_of_terms() -> None:
    """94 terms make 0e, and 316 more make 1o, where dense tensors have 94,208 and 626,688 entries."""
    terms = [sum(len(symmetric_product(3, degree, order).outputs) for order in (1, 2, 3)) for degree in (0, 1)]
    assert terms == [94, 316]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_layout(degree: int, order: int) -> None:
    found = compute(2, degree, order)
    assert np.all(np.diff(found.factors, axis=1) >= 0), "factors ascend"
    assert np.all(np.diff(found.outputs) >= 0), "outputs ascend"
    rows = np.column_stack([found.outputs, found.factors])
    assert len(np.unique(rows, axis=0)) == len(rows), "a term occurs twice"
    assert np.all(np.any(found.coefficients != 0.0, axis=1)), "a term without use"
    assert found.factors.dtype == found.outputs.dtype == np.int64
    parity = np.floor(np.sqrt(found.factors)).astype(int).sum(axis=1) % 2
    assert np.all(parity == degree % 2)


def evaluate(polynomials: SymmetricProduct, x: np.ndarray) -> np.ndarray:
    """Values [samples, functions, 2L+1] at features [samples, components]."""
    terms = np.prod(x[:, polynomials.factors], axis=2)  # [samples, T]
    values = np.zeros((len(x), polynomials.num_functions, 2 * polynomials.degree + 1))
    for t, component in enumerate(polynomials.outputs):
        values[:, :, component] += terms[:, t, None] * polynomials.coefficients[t]
    return values


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_equivariance(degree: int, order: int) -> None:
    polynomials = symmetric_product(3, degree, order)
    x = np.random.default_rng(order).normal(size=(4, 16))
    for seed in range(3):
        turn = [wigner_d(l, rotation_matrix(seed)).numpy() for l in range(4)]
        turned = np.concatenate([x[:, l * l : (l + 1) ** 2] @ turn[l].T for l in range(4)], axis=1)
        expected = evaluate(polynomials, x) @ turn[degree].T
        np.testing.assert_allclose(evaluate(polynomials, turned), expected, atol=1e-10)
    signs = np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in range(4)])
    np.testing.assert_allclose(
        evaluate(polynomials, x * signs), (-1.0) ** degree * evaluate(polynomials, x), atol=1e-12
    )


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("order", [2, 3])
def test_span_is_that_of_the_symmetrised_coupling_trees(degree: int, order: int) -> None:
    """Trees over all ordered degrees, evaluated at equal arguments, which symmetrises them."""
    x = np.random.default_rng(3).normal(size=(120, 9))
    blocks = [x[:, l * l : (l + 1) ** 2] for l in range(3)]
    trees = []
    for degrees in product(range(3), repeat=order):
        partial = [(degrees[0], blocks[degrees[0]])]
        for l in degrees[1:]:
            partial = [
                (c, np.einsum("abc,na,nb->nc", clebsch_gordan(left, l, c), value, blocks[l]))
                for left, value in partial
                for c in range(abs(left - l), left + l + 1)
            ]
        natural = sum(degrees) % 2 == degree % 2
        trees += [value.ravel() for c, value in partial if c == degree and natural]
    polynomials = symmetric_product(2, degree, order)
    ours = evaluate(polynomials, x).transpose(1, 0, 2).reshape(polynomials.num_functions, -1)
    assert len(trees) == polynomials.num_paths
    ranks = [np.linalg.matrix_rank(m, tol=1e-8) for m in (ours, np.array(trees), np.vstack([ours, *trees]))]
    assert ranks == [polynomials.num_functions] * 3


def test_members_are_orthonormal() -> None:
    """In the inner product of symmetric tensors: as random polynomials of unit variance, none favoured."""
    polynomials = symmetric_product(2, 1, 3)
    weights = np.array([_orderings(row) for row in polynomials.factors.tolist()])
    gram = polynomials.coefficients.T @ (polynomials.coefficients / weights[:, None])
    np.testing.assert_allclose(gram, 3.0 * np.eye(len(gram)), atol=1e-10)


def _orderings(row: list[int]) -> int:
    return len(set(product(row, repeat=len(row))) & {tuple(p) for p in _permutations(row)})


def _permutations(row: list[int]) -> Iterator[tuple[int, ...]]:
    from itertools import permutations

    return permutations(row)


def same(one: SymmetricProduct, other: SymmetricProduct) -> bool:
    return (
        np.array_equal(one.factors, other.factors)
        and np.array_equal(one.outputs, other.outputs)
        and np.array_equal(one.coefficients, other.coefficients)
        and (one.degree, one.num_paths) == (other.degree, other.num_paths)
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(disk, "directory", lambda: tmp_path / "cache")
    symmetric_product.cache_clear()
    yield tmp_path / "cache"
    symmetric_product.cache_clear()


def again() -> SymmetricProduct:
    symmetric_product.cache_clear()
    return symmetric_product(2, 0, 3)


def test_cache_round_trip(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = again()
    (file,) = cache.iterdir()
    assert file.suffix == ".npz"
    monkeypatch.setattr(
        sys.modules["macekit.o3.symmetric_product"], "_compute", None
    )  # a second computation would fail
    assert same(again(), first)


def test_damaged_cache_is_recomputed(cache: Path) -> None:
    """Flipped bits, also in the flags of the archive; truncation; other content; missing arrays."""
    first = again()
    (file,) = cache.iterdir()
    content = file.read_bytes()
    generator = np.random.default_rng(0)
    headers = [i for i in range(len(content) - 1) if content[i : i + 2] == b"PK"]
    positions = [*generator.integers(len(content), size=60), *(h + k for h in headers for k in range(14))]
    damages = []
    for position in positions:
        damaged = bytearray(content)
        damaged[min(position, len(content) - 1)] ^= 1 << int(generator.integers(8))
        damages.append(bytes(damaged))
    damages += [b"", content[:40], content[:-30], b"text", b"\x93NUMPY\x01\x00", content + content]
    for damage in damages:
        file.write_bytes(damage)
        assert same(again(), first)
    np.savez(file, factors=first.factors)
    assert same(again(), first)
    assert same(again(), first)


def test_unwritable_cache(cache: Path) -> None:
    """A file where the directory should be: as unwritable as it gets, also for root."""
    cache.write_text("not a directory")
    assert same(again(), compute(2, 0, 3))


def test_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = (
        "import os\nfrom macekit.o3 import cache\n"
        f"os.environ.update(MACEKIT_CACHE='', XDG_CACHE_HOME={str(tmp_path)!r})\n"
        f"assert str(cache.directory()) == {str(tmp_path / 'macekit')!r}\n"
        f"os.environ.update(MACEKIT_CACHE={str(tmp_path / 'own')!r})\n"
        f"assert str(cache.directory()) == {str(tmp_path / 'own')!r}\n"
        "del os.environ['MACEKIT_CACHE'], os.environ['XDG_CACHE_HOME']\n"
        "assert cache.directory().parts[-2:] == ('.cache', 'macekit')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
