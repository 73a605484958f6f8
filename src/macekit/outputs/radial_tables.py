"""Radial functions as piecewise polynomials, and how far these are from them.

Between two knots a function is the polynomial through its values at the Chebyshev-Lobatto points, which include both
ends: the pieces join, and no derivative of the function is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from macekit.kernels.engine import FloatArray

SHORTEST = 1e-7
"""Å; where radial functions are evaluated in place of 0."""
CHECKS = 3
"""Points between knots where the error is measured."""


class PiecewiseTable(NamedTuple):
    """Polynomials between knots and their largest error between the knots."""

    coefficients: FloatArray
    """[G + 1, n + 1, F]: powers of the position −1/2 ... 1/2 between two knots; the last row, beyond the cutoff, is 0."""
    value_error: float
    """Relative to the largest value of all functions."""
    slope_error: float
    """Relative to the largest slope of all functions."""


def piecewise(function: Callable[[Tensor], Tensor], cutoff: float, knots: int, degree: int) -> PiecewiseTable:
    """Tabulate functions of the distance.

    Args:
        function: From distances, float64 [D], to values, float64 [D, F].
        cutoff: Å; the functions end here.
        knots: Number G of intervals of equal length.
        degree: Degree n of the polynomials.
    """
    step = cutoff / knots
    points = _points(degree)
    middles = (np.arange(knots) + 0.5) * step
    distances = torch.as_tensor((middles[:, None] + points * step).ravel().clip(min=SHORTEST))
    values = function(distances).reshape(knots, degree + 1, -1)
    coefficients = torch.einsum("kj,gjf->gkf", torch.as_tensor(_interpolation(degree)), values)
    value_error, slope_error = _errors(function, coefficients, middles, step)
    beyond = torch.zeros_like(coefficients[:1])
    return PiecewiseTable(torch.cat([coefficients, beyond]).numpy(), value_error, slope_error)


def _errors(
    function: Callable[[Tensor], Tensor], coefficients: Tensor, middles: FloatArray, step: float
) -> tuple[float, float]:
    """Largest errors of values and slopes at points between the knots, in every eighth interval."""
    degree = coefficients.shape[1] - 1
    chosen = np.arange(1, len(middles), 8) if len(middles) > 8 else np.arange(len(middles))
    places = torch.as_tensor((np.arange(CHECKS) + 0.5) / CHECKS - 0.5)  # within an interval
    distances = (torch.as_tensor(middles[chosen])[:, None] + places * step).flatten().clamp(min=SHORTEST)
    exact, slope = torch.func.jvp(function, (distances,), (torch.ones_like(distances),))
    powers = torch.stack([places**k for k in range(degree + 1)])  # [n + 1, C]
    slopes = torch.stack([k * places ** max(k - 1, 0) for k in range(degree + 1)]) / step
    found = torch.einsum("kc,gkf->gcf", powers, coefficients[chosen]).reshape(exact.shape)
    found_slope = torch.einsum("kc,gkf->gcf", slopes, coefficients[chosen]).reshape(exact.shape)
    return _relative(found, exact), _relative(found_slope, slope)


def _relative(found: Tensor, exact: Tensor) -> float:
    largest = float(exact.abs().max())
    return float((found - exact).abs().max()) / largest if largest > 0.0 else 0.0


def _points(degree: int) -> FloatArray:
    return -0.5 * np.cos(np.pi * np.arange(degree + 1) / degree)


@cache
def _interpolation(degree: int) -> FloatArray:
    """Matrix from values at the points to powers, [n + 1, n + 1]."""
    powers = _points(degree)[:, None] ** np.arange(degree + 1)
    return np.asarray(np.linalg.inv(powers))
