"""From values at knots to coefficients of splines, and the transpose, by every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from macekit.kernels import splines
from macekit.kernels.backend import Backend

TOLERANCES = {torch.float64: 1e-13, torch.float32: 2e-6}


def waves(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).add(1.0).pow(1.5).sin().view(shape)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    allowed = TOLERANCES[dtype] * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=allowed)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])
@pytest.mark.parametrize("width", [0, 1, 3, 64])
@pytest.mark.parametrize("knots", [3, 4, 5, 6, 7, 64, 257])
def test_it_is_the_inverse_of_the_conditions(backend: Backend, knots: int, width: int, dtype: torch.dtype) -> None:
    matrix = torch.as_tensor(splines.prefilter(knots))
    values, numbers = waves(knots, width).to(dtype), waves(knots + 2, width).cos().to(dtype)
    assert_close(backend.spline_filter(values, False), matrix @ values.double(), dtype)
    assert_close(backend.spline_filter(numbers, True), matrix.T @ numbers.double(), dtype)


def test_input_may_be_in_any_order_and_is_not_changed(backend: Backend) -> None:
    values = waves(5, 16)
    kept = values.clone()
    assert_close(backend.spline_filter(values.T, False), backend.spline_filter(values.T.clone(), False), torch.float64)
    assert_close(backend.spline_filter(values.T, True), backend.spline_filter(values.T.clone(), True), torch.float64)
    assert torch.equal(values, kept)
