"""Radial basis: Bessel functions under a polynomial envelope, evaluated in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bessel_basis(lengths: Tensor, cutoff: float, num_bessel: int) -> Tensor:
    """√(2/r_c) sin(nπ r/r_c)/r for n = 1 ... num_bessel (arXiv 2003.03123, eq. 7).

    Args:
        lengths: Edge lengths, float64 [E], Å, positive.
        cutoff: r_c, Å.
        num_bessel: Number of functions.

    Returns:
        Float64 [E, num_bessel].
    """
    order = torch.arange(1, num_bessel + 1, dtype=lengths.dtype, device=lengths.device)
    r = lengths[:, None]
    return math.sqrt(2.0 / cutoff) * torch.sin(order * (math.pi / cutoff) * r) / r


def polynomial_envelope(lengths: Tensor, cutoff: float, power: int) -> Tensor:
    """Smooth step from 1 at r = 0 to 0 at the cutoff with two vanishing derivatives (arXiv 2003.03123, eq. 8).

    Args:
        lengths: Edge lengths, float64 [E], Å.
        cutoff: Å.
        power: p.

    Returns:
        Float64 [E].
    """
    p = float(power)
    x = lengths / cutoff
    envelope = (
        1.0
        - (p + 1.0) * (p + 2.0) / 2.0 * x.pow(power)
        + p * (p + 2.0) * x.pow(power + 1)
        - p * (p + 1.0) / 2.0 * x.pow(power + 2)
    )
    return torch.where(x < 1.0, envelope, torch.zeros_like(envelope))
