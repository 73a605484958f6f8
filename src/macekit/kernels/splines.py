"""Cubic B-splines on evenly spaced knots, as the tables of radial functions use them.

With G knots r_g = first + g · step there are G + 2 coefficients, and between knots g and g + 1

    f(r) = Σ_q w_q(u) c[g + q],   u = (r − r_g)/step,   q = 0 ... 3,

which is twice continuously differentiable. Beyond the last knot f is zero; before the first it is constant.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS_PER_EDGE = 4
SMALLEST = 1e-18
"""Below this an entry of the prefilter is zero: it does not count in float64, and denormal numbers are slow."""


def spline_weights(
    lengths: Tensor, num_rows: int, first: float, step: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """First row of every distance, and its weights with their first two derivatives.

    Args:
        lengths: Distances, float64 [E], Å.
        num_rows: G + 2.
        first: Distance of the first knot, Å.
        step: Distance between knots, Å.

    Returns:
        int64 [E], and three float64 [E, 4].
    """
    t = (lengths - first) / step
    beyond, before = t >= num_rows - ROWS_PER_EDGE + 1, t < 0.0
    row = torch.where(beyond | before, 0.0, t).floor()
    u = torch.where(before, 0.0, t - row)
    o = 1.0 - u
    value = torch.stack([o**3, 3 * u**3 - 6 * u**2 + 4, 3 * o**3 - 6 * o**2 + 4, u**3], dim=1) / 6.0
    slope = torch.stack([-(o**2), 3 * u**2 - 4 * u, -3 * o**2 + 4 * o, u**2], dim=1) / (2.0 * step)
    curvature = torch.stack([o, 3 * u - 2, 3 * o - 2, u], dim=1) / step**2
    flat = (beyond | before)[:, None]
    return row.long(), (
        value.masked_fill(beyond[:, None], 0.0),
        slope.masked_fill(flat, 0.0),
        curvature.masked_fill(flat, 0.0),
    )


def interpolated(table: Tensor, row: Tensor, weights: Tensor) -> Tensor:
    """Σ_q weights[e, q] table[row[e] + q], [E, P, K]."""
    total = table.new_zeros(row.shape[0], *table.shape[1:])
    for q in range(ROWS_PER_EDGE):
        total += weights[:, q, None, None].to(table.dtype) * table.index_select(0, row + q)
    return total


def spread(table: Tensor, row: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """The transpose of `interpolated`: values [E, P, K] to the rows of the table."""
    total = table.new_zeros(table.shape)
    for q in range(ROWS_PER_EDGE):
        total.index_add_(0, row + q, weights[:, q, None, None].to(table.dtype) * values)
    return total


@cache
def prefilter(num_knots: int) -> NDArray[np.float64]:
    """Matrix [G + 2, G] from values at the knots to coefficients.

    The spline goes through the values; its third derivative is continuous at the second knot (so the end of the
    range costs no accuracy), and its slope is zero at the last knot, where an envelope has taken the function to zero.
    """
    conditions = np.zeros((num_knots + 2, num_knots + 2))
    conditions[0, :5] = [-1.0, 4.0, -6.0, 4.0, -1.0]
    conditions[-1, -3:] = [-1.0, 0.0, 1.0]
    for knot in range(num_knots):
        conditions[knot + 1, knot : knot + 3] = [1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0]
    inverse: NDArray[np.float64] = np.array(np.linalg.inv(conditions)[:, 1:-1], dtype=np.float64)
    inverse[np.abs(inverse) < SMALLEST] = 0.0
    return inverse


def spline_filter(numbers: Tensor, transposed: bool) -> Tensor:
    """From values at G knots, [G, U], to coefficients, [G + 2, U], or by the transpose from [G + 2, U] to [G, U].

    In the precision of the numbers, and differentiable.
    """
    knots = numbers.shape[0] - 2 if transposed else numbers.shape[0]
    matrix = prefilter_tensor(knots, numbers.dtype, numbers.device)
    return (matrix.T if transposed else matrix) @ numbers


@cache
def prefilter_tensor(num_knots: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`prefilter` as a tensor, made once for each precision and device."""
    with torch.inference_mode(False):  # it is kept, and must serve training as well
        return torch.as_tensor(prefilter(num_knots), dtype=dtype, device=device)
