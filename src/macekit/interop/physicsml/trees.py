"""Coupling trees: the redundant basis of symmetric products that MACE and PhysicsML have (their U matrices)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from macekit.errors import ModelFileError
from macekit.o3.wigner import Array, clebsch_gordan

HIGHEST_DEGREE_AT_FOUR = 11
"""At the fourth order only intermediate degrees up to this, of natural parity, are coupled."""


class _Tree(NamedTuple):
    degree: int
    parity: int
    tensor: Array
    """[2l+1, D, ..., D]."""


def coupling_trees(max_ell: int, degree: int, order: int) -> Array:
    """All trees that couple a number of copies of degrees 0 ... max_ell to one degree, in e3nn's convention.

    Args:
        max_ell: Highest degree of the factors; D = (max_ell + 1)² components.
        degree: Degree L of the result, of natural parity.
        order: Number of factors ν.

    Returns:
        [(2L+1,) D, ..., D, trees]; no first dimension for L = 0.

    Raises:
        ModelFileError: If there is none.
    """
    size = (max_ell + 1) ** 2
    trees = [_Tree(l, (-1) ** l, np.eye(size)[l * l : (l + 1) ** 2]) for l in range(max_ell + 1)]
    for number in range(2, order + 1):
        wanted = degree if number == order else None
        trees = [
            _coupled(tree, l, l_out, size)
            for tree in trees
            for l in range(max_ell + 1)
            for l_out in range(abs(tree.degree - l), tree.degree + l + 1)
            if _is_kept(l_out, tree.parity * (-1) ** l, wanted, order)
        ]
        trees.sort(key=lambda tree: (tree.degree, -tree.parity * (-1) ** tree.degree))
    found = [tree.tensor for tree in trees if (tree.degree, tree.parity) == (degree, (-1) ** degree)]
    if not found:
        raise ModelFileError(
            f"hidden irreps: degree {degree} cannot be made of {order} factor{'s' * (order > 1)} of degrees up to "
            f"{max_ell}, which PhysicsML expects"
        )
    stacked = np.stack(found, axis=-1)
    return stacked[0] if degree == 0 else stacked


def _is_kept(degree: int, parity: int, wanted: int | None, order: int) -> bool:
    is_natural = parity == (-1) ** degree
    if wanted is not None:
        return degree == wanted and is_natural
    return order < 4 or (is_natural and degree <= HIGHEST_DEGREE_AT_FOUR)


def _coupled(tree: _Tree, l: int, l_out: int, size: int) -> _Tree:
    """One more factor of degree l."""
    coefficients = clebsch_gordan(tree.degree, l, l_out)  # [2l'+1, 2l+1, 2l_out+1]
    tensor = np.zeros((2 * l_out + 1, *tree.tensor.shape[1:], size))
    tensor[..., l * l : (l + 1) ** 2] = np.einsum("j...,jli->i...l", tree.tensor, coefficients)
    return _Tree(l_out, tree.parity * (-1) ** l, tensor)
