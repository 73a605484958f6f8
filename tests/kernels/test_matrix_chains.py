"""Products of pairs of matrices and their gradients, by every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from macekit.kernels.backend import Backend

TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6}
each_precision = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])
SHAPES = [
    (1, 16, 16, 1),
    (64, 16, 32, 4),
    (7, 29, 16, 3),
    (40, 64, 160, 2),
    (5, 16, 19, 2),
    (6, 3, 5, 1),
    (9, 16, 16, None),
]
"""A, B, C, and S or None for a single matrix: those that fill whole registers, and others."""


def waves(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).add(1.0).pow(1.5).sin().view(shape)


def pair(shape: tuple[int, int, int, int | None]) -> tuple[Tensor, Tensor, Tensor]:
    """Both matrices, and a gradient by their product."""
    rows, inner, columns, several = shape
    batch = () if several is None else (several,)
    return waves(rows, inner), waves(*batch, inner, columns).cos(), waves(*batch, rows, columns)


def assert_close(found: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    assert found is not None
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    allowed = TOLERANCES[dtype] * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=allowed)


@each_precision
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_and_gradients(backend: Backend, shape: tuple[int, int, int, int | None], dtype: torch.dtype) -> None:
    one, two, grad = pair(shape)
    low = [tensor.to(dtype) for tensor in (one, two, grad)]
    (product,) = backend.matrix_chains(low[:1], low[1:2])
    assert_close(product, torch.einsum("ab,...bc->...ac", one, two), dtype)
    to_one, to_two = backend.matrix_chains_backward(low[:1], low[1:2], low[2:], [True, True])
    by_one = torch.einsum("...ac,...bc->...ab", grad, two)
    assert_close(to_one, by_one if by_one.dim() == 2 else by_one.sum(0), dtype)
    assert_close(to_two, torch.einsum("ab,...ac->...bc", one, grad), dtype)


@pytest.mark.parametrize("wanted", [[True, False, False, True], [False, True, True, False], [False] * 4], ids=str)
def test_several_pairs_and_what_is_asked_for(backend: Backend, wanted: list[bool]) -> None:
    pairs = [pair((48, 16, 16, 4)), pair((96, 16, 16, 4))]
    ones, twos, grads = ([each[n] for each in pairs] for n in range(3))
    whole = backend.matrix_chains_backward(ones, twos, grads, [True] * 4)
    for found, expected, is_wanted in zip(
        backend.matrix_chains_backward(ones, twos, grads, wanted), whole, wanted, strict=True
    ):
        assert (found is not None) == is_wanted
        assert found is None or torch.equal(found, expected)  # type: ignore[arg-type]


def test_input_may_be_in_any_order_and_is_not_changed(backend: Backend) -> None:
    one, two, grad = pair((20, 16, 32, 3))
    turned = [one.T.contiguous().T, two.mT.contiguous().mT, grad.mT.contiguous().mT]
    before = [tensor.clone() for tensor in turned]
    assert_close(
        backend.matrix_chains(turned[:1], turned[1:2])[0], torch.einsum("ab,sbc->sac", one, two), torch.float64
    )
    found = backend.matrix_chains_backward(turned[:1], turned[1:2], turned[2:], [True, True])
    for each, expected in zip(found, backend.matrix_chains_backward([one], [two], [grad], [True, True]), strict=True):
        assert expected is not None
        assert_close(each, expected, torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(before, turned, strict=True))


@each_precision
def test_numbers_do_not_depend_on_threads(dtype: torch.dtype) -> None:
    cpu = pytest.importorskip("macekit.kernels.cpu", reason="no compiler", exc_type=ImportError)
    pairs = [[tensor.to(dtype) for tensor in pair((640, 128, 128, several))] for several in (3, 2)]
    ones, twos, grads = ([each[n] for each in pairs] for n in range(3))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            products = cpu.matrix_chains(ones, twos)
            found.append([*products, *cpu.matrix_chains_backward(ones, twos, grads, [True] * 4)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))
