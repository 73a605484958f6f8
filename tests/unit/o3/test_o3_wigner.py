"""Wigner 3j symbols and spherical harmonics against e3nn, and against what they must satisfy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from macekit.o3 import clebsch_gordan, wigner_3j
from macekit.o3.spherical_harmonics import spherical_harmonics
from oracles import e3nn_o3, rotation_matrix, wigner_d
from tolerances import Tolerance, assert_close

TRIPLES = [(a, b, c) for a, b in product(range(5), repeat=2) for c in range(abs(a - b), min(a + b, 6) + 1)]


def test_wigner_3j_is_e3nns() -> None:
    o3 = e3nn_o3()
    for degrees in TRIPLES:
        expected = o3.wigner_3j(*degrees, dtype=torch.float64)
        assert_close(torch.tensor(wigner_3j(*degrees)), expected, Tolerance.ORACLE, f"3j {degrees}")


def test_wigner_3j_is_invariant() -> None:
    for degrees in TRIPLES:
        tensor = torch.tensor(wigner_3j(*degrees))
        turned = torch.einsum("abc,xa,yb,zc->xyz", tensor, *(wigner_d(l, rotation_matrix(4)) for l in degrees))
        assert_close(turned, tensor, Tolerance.F64, f"3j {degrees}, rotated")
        assert abs(float(tensor.norm()) - 1.0) < 1e-12


def test_clebsch_gordan_is_normalised() -> None:
    """Component normalisation: orthonormal rows, so that coupled components have unit variance."""
    for a, b, c in TRIPLES:
        matrix = clebsch_gordan(a, b, c).reshape(-1, 2 * c + 1)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(2 * c + 1), atol=1e-12)


def test_wigner_3j_cannot_be_changed_or_misused() -> None:
    with pytest.raises(ValueError, match="read-only"):
        wigner_3j(1, 1, 2)[0, 0, 0] = 1.0
    with pytest.raises(ValueError, match=r"wigner_3j\(1, 1, 3\): expected"):
        wigner_3j(1, 1, 3)


def unit_vectors(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    return torch.nn.functional.normalize(torch.cat([random, axes]), dim=1)


@pytest.mark.parametrize("l", range(7))
def test_spherical_harmonics_are_e3nns(l: int) -> None:
    """On the sphere; off it both are the same homogeneous polynomials up to multiples of r², which we divide out."""
    o3 = e3nn_o3()
    found = spherical_harmonics(unit_vectors(20), 6)[:, l * l : (l + 1) ** 2]
    expected = o3.spherical_harmonics(l, unit_vectors(20), normalize=False, normalization="component")
    assert_close(found, expected, Tolerance.F64, f"Y_{l}")
    assert_close(found.square().sum(1), torch.full((26,), 2.0 * l + 1, dtype=torch.float64), Tolerance.F64, "norm")


@pytest.mark.parametrize("max_ell", [1, 3, 6])
def test_derivatives_of_spherical_harmonics(max_ell: int) -> None:
    """First and second derivatives by the vector, through the normalisation, as e3nn's."""
    o3 = e3nn_o3()
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn((max_ell + 1) ** 2, generator=generator, dtype=torch.float64)
    degrees = list(range(max_ell + 1))

    def ours() -> torch.Tensor:
        return spherical_harmonics(vectors / vectors.norm(dim=1, keepdim=True), max_ell)

    def theirs() -> torch.Tensor:
        return o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")

    results = []
    for function in (ours, theirs):
        (first,) = torch.autograd.grad((function() @ weights).sum(), vectors, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), vectors)
        results.append((first.detach(), second))
    assert_close(results[0][0], results[1][0], Tolerance.F64, "first derivative")
    assert_close(results[0][1], results[1][1], Tolerance.F64, "second derivative")


def test_spherical_harmonics_parity_and_degree_zero() -> None:
    vectors = unit_vectors(5)
    plus, minus = spherical_harmonics(vectors, 4), spherical_harmonics(-vectors, 4)
    signs = torch.cat([torch.full((2 * l + 1,), (-1.0) ** l, dtype=torch.float64) for l in range(5)])
    assert_close(minus, plus * signs, Tolerance.SUM, "parity")
    assert torch.equal(spherical_harmonics(vectors, 0), torch.ones(len(vectors), 1, dtype=torch.float64))
    assert spherical_harmonics(vectors[:0], 3).shape == (0, 16)


@pytest.mark.parametrize("length", [1.0, 1e-8, 1e-12, 0.0])
def test_spherical_harmonics_are_finite_at_no_distance(length: float) -> None:
    """Through the path of the model: the length is bounded from below before it divides."""
    from macekit.model.backbone import SHORTEST_EDGE

    vectors = (length * unit_vectors(3)).requires_grad_()
    lengths = vectors.square().sum(1).clamp(min=SHORTEST_EDGE**2).sqrt()
    values = spherical_harmonics(vectors / lengths[:, None], 3)
    (first,) = torch.autograd.grad(values.cos().sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), vectors)
    assert bool(values.isfinite().all() and first.isfinite().all() and second.isfinite().all())
