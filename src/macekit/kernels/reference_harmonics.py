"""Distances and spherical harmonics of edges in pure torch: a part of `kernels.reference`.

Of vectors v [E, 3], with r = max(|v|, shortest) and Y of the directions v / r; and the two products with the Jacobian
of (Y, r) by v. Geometry is float64, and harmonics are in the network's precision.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from macekit.o3.spherical_harmonics import raising_matrix, spherical_harmonics


def edge_harmonics(vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Harmonics [E, (max_ell + 1)²] and distances.

    Args:
        vectors: From sender to receiver, float64 [E, 3], Å.
        shortest: Edges shorter than this are treated as this long, Å.
        max_ell: Highest degree.
        dtype: Precision of the harmonics.

    Returns:
        In that precision, and float64 [E].
    """
    lengths = vectors.square().sum(1).clamp(min=shortest**2).sqrt()
    return spherical_harmonics(vectors / lengths[:, None], max_ell).to(dtype), lengths


def edge_harmonics_backward(
    to_harmonics: Tensor, to_lengths: Tensor, vectors: Tensor, shortest: float, max_ell: int
) -> Tensor:
    """Gradients by the vectors out of those by harmonics and distances, float64 [E, 3]."""
    gradients = []
    for axis in torch.eye(3, dtype=vectors.dtype, device=vectors.device):
        moved, slope = edge_harmonics_tangent(axis.expand_as(vectors), vectors, shortest, max_ell, vectors.dtype)
        gradients.append((to_harmonics * moved).sum(1) + to_lengths * slope)
    return torch.stack(gradients, dim=1)


def edge_harmonics_tangent(
    tangent_vectors: Tensor, vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Tangents of harmonics and distances out of those of the vectors."""
    harmonics, lengths = edge_harmonics(vectors, shortest, max_ell, vectors.dtype)
    directions = vectors / lengths[:, None]
    is_free = vectors.square().sum(1) >= shortest**2
    d_lengths = torch.where(is_free, (directions * tangent_vectors).sum(1), 0.0)
    first = sqrt(3) * directions.T  # [3, E]
    d_first = sqrt(3) * ((tangent_vectors - d_lengths[:, None] * directions) / lengths[:, None]).T
    degrees = [torch.zeros_like(first[:1]), d_first][: max_ell + 1]
    for l in range(2, max_ell + 1):  # the derivative of the recursion in `o3.spherical_harmonics`
        below = harmonics[:, (l - 1) ** 2 : l**2].T  # [2l-1, E]
        product = d_first[:, None] * below + first[:, None] * degrees[-1]  # [3, 2l-1, E]
        raising = torch.as_tensor(raising_matrix(l).T.copy(), dtype=vectors.dtype, device=vectors.device)
        degrees.append(raising @ product.flatten(0, 1))
    return torch.cat(degrees).T.contiguous().to(dtype), d_lengths
