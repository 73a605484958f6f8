"""Real spherical harmonics of any degree as polynomials in a unit vector, e3nn's order, sign and normalisation."""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from macekit.o3.wigner import Array, wigner_3j


def spherical_harmonics(directions: Tensor, max_ell: int) -> Tensor:
    """Spherical harmonics of degrees 0 ... max_ell, component normalisation (Σ_m Y_lm² = 2l + 1).

    Built degree by degree from Y_l ∝ C(1, l−1, l) Y_1 Y_{l−1}, so that values and all derivatives are those of
    polynomials in the direction.

    Args:
        directions: Unit vectors, [E, 3].
        max_ell: Highest degree.

    Returns:
        [E, (max_ell + 1)²], degree by degree, m = −l ... l within each; differentiable to any order.
    """
    components = directions.T.contiguous()  # [3, E]: edges side by side are what processors are quick with
    degrees = [torch.ones_like(components[:1])]
    if max_ell >= 1:
        first = sqrt(3) * components  # the order x, y, z is e3nn's m = -1, 0, 1
        degrees.append(first)
    for l in range(2, max_ell + 1):
        raising = torch.as_tensor(raising_matrix(l).T.copy(), dtype=directions.dtype, device=directions.device)
        product = first[:, None] * degrees[-1]  # [3, 2l-1, E]
        degrees.append(raising @ product.flatten(0, 1))  # [2l+1, E]
    return torch.cat(degrees).T.contiguous()


@cache
def raising_matrix(l: int) -> Array:
    """Matrix [3(2l−1), 2l+1] that takes Y_1 ⊗ Y_{l−1} to Y_l; the sign makes Y_l0 positive along y."""
    coupling = wigner_3j(1, l - 1, l)
    along_y = coupling[1, l - 1, l] * sqrt(3) * sqrt(2 * l - 1)  # the only non-zero components at direction y
    matrix = (coupling * (sqrt(2 * l + 1) / along_y)).reshape(3 * (2 * l - 1), 2 * l + 1)
    return np.array(matrix)


class RaisingTerm(NamedTuple):
    """factor · Y_first · Y_second, which is added to Y_row; components are counted over all degrees."""

    row: int
    first: int
    """A component of degree 1."""
    second: int
    """A component of one degree less than the row's."""
    factor: float


def raising_terms(max_ell: int) -> list[RaisingTerm]:
    """How every component of degree 2 and more is made of those before it, in the order of the rows."""
    terms = []
    for l in range(2, max_ell + 1):
        raising = raising_matrix(l)  # [3(2l-1), 2l+1]
        for row, pair in zip(*np.nonzero(raising.T), strict=True):
            first, second = divmod(int(pair), 2 * l - 1)
            terms.append(RaisingTerm(l * l + int(row), 1 + first, (l - 1) ** 2 + second, float(raising[pair, row])))
    return terms
