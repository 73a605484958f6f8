"""Tables of radial functions and the gradients of their matrices, by every backend."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from macekit.kernels import splines
from macekit.kernels.backend import Backend
from macekit.kernels.radial_layers import RadialLayers

TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6}
WIDTHS = [(8, 64, 64, 64, 48), (10, 16, 32), (3, 64, 16, 160), (1, 16, 16), (5, 20, 32), (8, 16, 19), (4, 7)]
"""Those that fill whole registers, and others."""
each_precision = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])


def waves(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).add(1.0).pow(1.5).sin().view(shape)


def layers_of(widths: tuple[int, ...], knots: int, envelope: bool = False) -> RadialLayers:
    """Float64 layers of these widths."""
    matrices = tuple(waves(a, b) for a, b in pairwise(widths))
    factors = tuple(1.5 / math.sqrt(matrix.shape[0]) for matrix in matrices)
    return RadialLayers(waves(knots, widths[0]), waves(knots, 1).cos() if envelope else None, matrices, factors)


def converted(layers: RadialLayers, dtype: torch.dtype) -> RadialLayers:
    return RadialLayers(
        layers.basis.to(dtype),
        None if layers.envelope is None else layers.envelope.to(dtype),
        tuple(matrix.to(dtype) for matrix in layers.matrices),
        layers.factors,
    )


def expected_table(layers: RadialLayers) -> Tensor:
    """The definition, with the matrix of the spline conditions."""
    x = layers.basis
    for matrix, factor in zip(layers.matrices[:-1], layers.factors, strict=False):
        z = factor * (x @ matrix)
        x = z / (1.0 + torch.exp(-z))
    if layers.envelope is not None:
        x = x * layers.envelope
    return torch.as_tensor(splines.prefilter(x.shape[0])) @ x @ (layers.factors[-1] * layers.matrices[-1])


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    allowed = TOLERANCES[dtype] * max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found.double(), expected.detach(), rtol=0.0, atol=allowed)


@each_precision
@pytest.mark.parametrize("envelope", [False, True], ids=["plain", "envelope"])
@pytest.mark.parametrize("knots", [3, 4, 5, 6, 64, 257])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_values_and_gradients(
    backend: Backend, widths: tuple[int, ...], knots: int, envelope: bool, dtype: torch.dtype
) -> None:
    layers = layers_of(widths, knots, envelope)
    table, kept = backend.radial_table(converted(layers, dtype))
    tracked = layers._replace(matrices=tuple(matrix.requires_grad_() for matrix in layers.matrices))
    expected = expected_table(tracked)
    assert_close(table, expected, dtype)
    grad = waves(*expected.shape).cos()
    wanted = torch.autograd.grad(expected, tracked.matrices, grad)
    given = converted(layers._replace(matrices=tuple(m.detach() for m in layers.matrices)), dtype)
    for found, one in zip(backend.radial_table_backward(grad.to(dtype), given, kept), wanted, strict=True):
        assert_close(found, one, dtype)


def test_input_may_be_in_any_order_and_is_not_changed(backend: Backend) -> None:
    plain = layers_of((8, 32, 16), 9, envelope=True)
    turned = RadialLayers(
        plain.basis.T.contiguous().T,
        plain.envelope,
        tuple(matrix.T.contiguous().T for matrix in plain.matrices),
        plain.factors,
    )
    before = [tensor.clone() for tensor in (turned.basis, *turned.matrices)]
    table, kept = backend.radial_table(plain)
    found, also_kept = backend.radial_table(turned)
    assert_close(found, table, torch.float64)
    grad = waves(*table.shape[::-1]).T
    gradients = backend.radial_table_backward(grad, turned, also_kept)
    for one, other in zip(gradients, backend.radial_table_backward(grad.clone(), plain, kept), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, (turned.basis, *turned.matrices), strict=True))


@each_precision
def test_activations_of_any_size(backend: Backend, dtype: torch.dtype) -> None:
    """z / (1 + exp(-z)) from where it vanishes to where it is z, and its slope, to rounding."""
    far = torch.tensor([-1e4, -600.0, 0.0, 1e4], dtype=torch.float64)
    z = torch.cat([torch.linspace(-30.0, 30.0, 96, dtype=torch.float64), far])
    knots, matrices = len(z), (torch.ones(1, 16, dtype=dtype), torch.eye(16, dtype=dtype))
    layers = RadialLayers(z[:, None].to(dtype), None, matrices, (1.0, 1.0))
    table, kept = backend.radial_table(layers)
    exact = layers.basis.double().expand(knots, 16)
    values = exact * torch.sigmoid(exact)
    assert_close(kept[-1], torch.as_tensor(splines.prefilter(knots)) @ values, dtype)
    assert_close(table, torch.as_tensor(splines.prefilter(knots)) @ values, dtype)
    gradients = backend.radial_table_backward(torch.ones_like(table), layers, kept)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_what_is_no_number_stays_so(backend: Backend) -> None:
    layers = layers_of((8, 16, 16), 9)
    layers.basis[4, 2] = math.nan
    table, _ = backend.radial_table(layers)
    assert bool(table.isnan().any())


@each_precision
def test_numbers_do_not_depend_on_threads(dtype: torch.dtype) -> None:
    cpu = pytest.importorskip("macekit.kernels.cpu", reason="no compiler", exc_type=ImportError)
    layers = converted(layers_of((8, 64, 64, 64, 640), 385), dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            table, kept = cpu.radial_table(layers)
            found.append([table, *kept, *cpu.radial_table_backward(table.cos(), layers, kept)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))


def test_splines_go_through_the_values() -> None:
    """At the knots the spline has 1/6, 4/6, 1/6 of the coefficients around them."""
    matrix = splines.prefilter(64)
    values = np.sin(np.arange(64.0))
    c = matrix @ values
    np.testing.assert_allclose((c[:-2] + 4.0 * c[1:-1] + c[2:]) / 6.0, values, atol=1e-12)


@each_precision
@pytest.mark.parametrize("width", [0, 1, 3, 64])
@pytest.mark.parametrize("knots", [3, 4, 5, 6, 7, 64, 257])
def test_the_filter_is_the_inverse_of_the_conditions(knots: int, width: int, dtype: torch.dtype) -> None:
    matrix = torch.as_tensor(splines.prefilter(knots))
    values, numbers = waves(knots, width).to(dtype), waves(knots + 2, width).cos().to(dtype)
    for found, expected in (
        (splines.spline_filter(values, False), matrix @ values.double()),
        (splines.spline_filter(numbers, True), matrix.T @ numbers.double()),
    ):
        assert (found.dtype, found.shape) == (dtype, expected.shape)
        allowed = (1e-13 if dtype == torch.float64 else 2e-6) * max(1.0, float(expected.abs().max()) if width else 0.0)
        torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=allowed)
