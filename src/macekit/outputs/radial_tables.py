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

from macekit.kernels.folded import FloatArray

SHORTEST = 1e-12
"""Å; where radial functions are evaluated in place of 0."""
CHECKS = 3
"""Points between knots where the error is measured."""


class PiecewiseTable(NamedTuple):
    """Polynomials between knots and their largest error between the knots."""

    coefficients: FloatArray
    """[G + 1, n + 1, F]: powers of the place −1/2 ... 1/2 between two knots; last, beyond the cutoff, a row of 0."""
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
    middles: FloatArray = np.asarray((np.arange(knots) + 0.5) * step, dtype=np.float64)
    coefficients = _pieces(function, middles, step, degree)
    value_error, slope_error = _errors(function, coefficients, middles, step)
    beyond = torch.zeros_like(coefficients[:1])
    return PiecewiseTable(torch.cat([coefficients, beyond]).numpy(), value_error, slope_error)


def _pieces(function: Callable[[Tensor], Tensor], middles: FloatArray, step: float, degree: int) -> Tensor:
    """Powers of the polynomials of intervals with these middles, [C, n + 1, F]."""
    distances = torch.as_tensor((middles[:, None] + _points(degree) * step).ravel().clip(min=SHORTEST))
    values = function(distances).reshape(len(middles), degree + 1, -1)
    return torch.einsum("kj,gjf->gkf", torch.as_tensor(_interpolation(degree)), values)


def _errors(
    function: Callable[[Tensor], Tensor], coefficients: Tensor, middles: FloatArray, step: float
) -> tuple[float, float]:
    """Largest differences of values and slopes to a table of twice as many knots, in every eighth interval."""
    degree = coefficients.shape[1] - 1
    chosen = np.arange(1 % len(middles), len(middles), 8)
    halves = torch.arange(2).repeat(len(chosen))  # which half of the interval
    finer = _pieces(function, (middles[chosen][:, None] + np.array([-0.25, 0.25]) * step).ravel(), step / 2, degree)
    places = (torch.arange(CHECKS, dtype=torch.float64) + 0.5) / CHECKS - 0.5  # within a half
    within = (places + halves[:, None] - 0.5) / 2.0  # within the interval, [2 C, CHECKS]
    coarse = coefficients[chosen].repeat_interleave(2, dim=0)
    exact, slope = _evaluated(finer, places.expand(len(halves), -1))
    found, found_slope = _evaluated(coarse, within)
    largest = max(float(exact.abs().max()), 1e-300), max(2.0 * float(slope.abs().max()), 1e-300)
    return float((found - exact).abs().max()) / largest[0], float((found_slope - 2.0 * slope).abs().max()) / largest[1]


def _evaluated(coefficients: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes [C, P, F] of polynomials [C, n + 1, F] at places [C, P]."""
    orders = range(coefficients.shape[1])
    powers = torch.stack([places**k for k in orders], dim=1)  # [C, n + 1, P]
    slopes = torch.stack([k * places ** max(k - 1, 0) for k in orders], dim=1)
    return torch.einsum("ckp,ckf->cpf", powers, coefficients), torch.einsum("ckp,ckf->cpf", slopes, coefficients)


def _points(degree: int) -> FloatArray:
    return -0.5 * np.cos(np.pi * np.arange(degree + 1) / degree)


@cache
def _interpolation(degree: int) -> FloatArray:
    """Matrix from values at the points to powers, [n + 1, n + 1]."""
    powers = _points(degree)[:, None] ** np.arange(degree + 1)
    return np.asarray(np.linalg.inv(powers))
