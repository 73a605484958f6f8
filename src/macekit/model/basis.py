"""Radial bases and the polynomial envelope, evaluated in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bessel_basis(lengths: Tensor, cutoff: float, num_bessel: int, frequencies: Tensor | None = None) -> Tensor:
    """√(2/r_c) sin(nπ r/r_c)/r for n = 1 ... num_bessel (arXiv 2003.03123, eq. 7).

    Args:
        lengths: Edge lengths, float64 [E], Å, positive.
        cutoff: r_c, Å.
        num_bessel: Number of functions.
        frequencies: 1/Å, float64 [num_bessel], where they are not nπ/r_c.

    Returns:
        Float64 [E, num_bessel].
    """
    if frequencies is None:
        frequencies = _orders(num_bessel, lengths) * (math.pi / cutoff)
    r = lengths[:, None]
    return math.sqrt(2.0 / cutoff) * torch.sin(frequencies * r) / r


def gaussian_basis(lengths: Tensor, cutoff: float, num_bessel: int, given: Tensor | None = None) -> Tensor:
    """exp(−(r − r_n)²/2s²), the centres r_n from 0 to the cutoff and s their distance.

    Args:
        lengths: Edge lengths, float64 [E], Å.
        cutoff: Å.
        num_bessel: Number of functions, at least 2.
        given: Centres, Å, float64 [num_bessel], where they are not evenly spaced; then s, where it is another.

    Returns:
        Float64 [E, num_bessel].
    """
    width: float | Tensor = cutoff / (num_bessel - 1)
    centres = (_orders(num_bessel, lengths) - 1.0) * width if given is None else given[:num_bessel]
    if given is not None and len(given) > num_bessel:
        width = given[num_bessel]
    return torch.exp(-0.5 / width**2 * (lengths[:, None] - centres).square())


def chebyshev_basis(lengths: Tensor, cutoff: float, num_bessel: int, _: Tensor | None = None) -> Tensor:
    """Chebyshev polynomials T_1 ... T_n of the distance as it is; meant for transformed distances.

    Args:
        lengths: Edge lengths, float64 [E].
        cutoff: Not used.
        num_bessel: Number of functions.

    Returns:
        Float64 [E, num_bessel].
    """
    values = [torch.ones_like(lengths), lengths]
    for _order in range(2, num_bessel + 1):
        values.append(2.0 * lengths * values[-1] - values[-2])
    return torch.stack(values[1 : num_bessel + 1], dim=1)


def _orders(count: int, like: Tensor) -> Tensor:
    return torch.arange(1, count + 1, dtype=like.dtype, device=like.device)


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
