"""Coefficients of splines in C++; see `kernels.splines`, which defines them."""

from __future__ import annotations

import torch
from torch import Tensor

from macekit.kernels import _core, splines
from macekit.kernels.cpu_arguments import plain

FEWEST_KNOTS = 5
"""What the conditions at both ends take."""


def spline_filter(numbers: Tensor, transposed: bool) -> Tensor:
    """From values at G knots, [G, U], to coefficients, [G + 2, U], or the transpose."""
    rows, width = numbers.shape
    knots, found = (rows - 2, rows - 2) if transposed else (rows, rows + 2)
    if knots < FEWEST_KNOTS:
        return splines.spline_filter(numbers, transposed)
    numbers = plain("numbers", numbers, (rows, width), numbers.dtype)
    result = numbers.new_empty(found, width)
    twice = numbers.dtype == torch.float64
    _core.spline_filter(twice, transposed, knots, width, numbers.data_ptr(), result.data_ptr())
    return result
