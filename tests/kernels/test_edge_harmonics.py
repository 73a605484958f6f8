"""Harmonics and distances of edges, and the products with their Jacobian, against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from macekit.kernels import reference
from macekit.kernels.backend import Backend

SHORTEST = 1e-3
EDGES = 19
"""More than stand side by side in the kernel, with a remainder."""


@pytest.fixture
def vectors() -> Tensor:
    """The first two are shorter than the shortest that counts."""
    found = torch.randn(EDGES, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found[0] = 0.0
    found[1] *= 0.1 * SHORTEST
    return found.requires_grad_()


def waves(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).add(1.0).sqrt().sin().view(shape)


@pytest.mark.parametrize("max_ell", range(6))
def test_products_with_the_jacobian_are_those_of_autograd(backend: Backend, vectors: Tensor, max_ell: int) -> None:
    to_harmonics, to_lengths, change = waves(EDGES, (max_ell + 1) ** 2), waves(EDGES).cos(), waves(EDGES, 3).cos()
    expected = reference.edge_harmonics(vectors, SHORTEST, max_ell, torch.float64)
    found = backend.edge_harmonics(vectors.detach(), SHORTEST, max_ell, torch.float64)
    torch.testing.assert_close(found, tuple(each.detach() for each in expected), rtol=1e-13, atol=1e-13)
    total = (expected[0] * to_harmonics).sum() + (expected[1] * to_lengths).sum()
    (pulled,) = torch.autograd.grad(total, vectors)
    given = vectors.detach(), SHORTEST, max_ell
    torch.testing.assert_close(
        backend.edge_harmonics_backward(to_harmonics, to_lengths, *given), pulled, rtol=1e-12, atol=1e-12
    )
    moved = backend.edge_harmonics_tangent(change, *given, torch.float64)
    along = (moved[0] * to_harmonics).sum() + (moved[1] * to_lengths).sum()
    torch.testing.assert_close(along, (pulled * change).sum(), rtol=1e-12, atol=1e-12)


def test_precision_is_that_of_the_harmonics_alone(backend: Backend, vectors: Tensor) -> None:
    given = vectors.detach(), SHORTEST, 3
    harmonics, lengths = backend.edge_harmonics(*given, torch.float32)
    assert (harmonics.dtype, lengths.dtype) == (torch.float32, torch.float64)
    exact, _ = backend.edge_harmonics(*given, torch.float64)
    torch.testing.assert_close(harmonics, exact.float(), rtol=0.0, atol=0.0)
    pulled = backend.edge_harmonics_backward(harmonics, lengths, *given)
    expected = backend.edge_harmonics_backward(harmonics.double(), lengths, *given)
    torch.testing.assert_close(pulled, expected, rtol=1e-14, atol=1e-14)


def test_no_edges(backend: Backend) -> None:
    none = torch.zeros(0, 3, dtype=torch.float64)
    harmonics, lengths = backend.edge_harmonics(none, SHORTEST, 2, torch.float32)
    assert harmonics.shape == (0, 9)
    assert lengths.shape == (0,)
    assert backend.edge_harmonics_backward(harmonics, lengths, none, SHORTEST, 2).shape == (0, 3)
    assert backend.edge_harmonics_tangent(none, none, SHORTEST, 2, torch.float32)[0].shape == (0, 9)


def test_threads_give_the_same_bits(backend: Backend, vectors: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    given = vectors.detach(), SHORTEST, 3
    to_harmonics, to_lengths, change = waves(EDGES, 16), waves(EDGES).cos(), waves(EDGES, 3).cos()

    def results() -> list[Tensor]:
        found = [*backend.edge_harmonics(*given, torch.float32)]
        found += backend.edge_harmonics_tangent(change, *given, torch.float64)
        return [*found, backend.edge_harmonics_backward(to_harmonics, to_lengths, *given)]

    expected, before = results(), torch.get_num_threads()
    if backend is not reference:
        monkeypatch.setattr("macekit.kernels.cpu_arguments.WORK_PER_THREAD", 1)
    try:
        for threads in (1, 2, 7, 40):  # more than edges as well
            torch.set_num_threads(threads)
            assert all(torch.equal(one, other) for one, other in zip(results(), expected, strict=True)), threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("max_ell", [0, 3])
def test_what_is_no_number_stays(backend: Backend, vectors: Tensor, max_ell: int) -> None:
    given = vectors.detach().clone()
    given[4, 1] = torch.nan
    _, lengths = backend.edge_harmonics(given, SHORTEST, max_ell, torch.float32)
    assert lengths.isnan().nonzero().flatten().tolist() == [4]
