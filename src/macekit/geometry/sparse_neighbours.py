"""Neighbours of atoms that are few for the space they span, where a grid of cells is mostly empty."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
MOST_CELLS, MOST_OPEN_CELLS, MOST_CELLS_PER_ATOM = 100_000, 64, 1000


def is_sparse(points: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff: float) -> bool:
    """Whether vesin's grid would be so flat, or so empty, that it takes minutes or ends the process (vesin 0.6.2)."""
    inverse = np.linalg.inv(cell)
    extents = np.where(pbc, 1.0, np.ptp(points @ inverse, axis=0)) / np.linalg.norm(inverse, axis=0)
    cells = np.maximum(np.floor(extents / cutoff), 1.0)
    open_cells = cells[~pbc].max(initial=1.0)
    is_flat = np.cbrt(cells.prod() / MOST_CELLS) > 0.9 * cells.min()
    is_empty = cells.prod() > MOST_CELLS_PER_ATOM * len(points)
    return bool(is_flat or is_empty or (pbc.any() and open_cells > MOST_OPEN_CELLS))


def sparse_pairs(
    points: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """First atom, second atom and shift of the second of all pairs closer than the cutoff, by a tree.

    Args:
        points: Positions, inside the cell along periodic directions, float64 [N, 3], Å.
        cell: Three independent vectors, float64 [3, 3], Å.
        pbc: Periodicity, bool [3].
        cutoff: Å.

    Returns:
        int64 [E], int64 [E], float64 [E, 3].
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]  # slow to import, seldom needed

    inverse = np.linalg.inv(cell)
    reach = np.where(pbc, cutoff * np.linalg.norm(inverse, axis=0), 0.0)  # in fractions of the cell
    owners, images = [], []
    fractions = points @ inverse
    for shift in product(*(range(-int(np.ceil(r)), int(np.ceil(r)) + 1) for r in reach)):
        moved = fractions + shift
        near = np.all(~pbc | ((moved >= -reach - 1e-6) & (moved <= 1.0 + reach + 1e-6)), axis=1)
        owners.append(np.flatnonzero(near))
        images.append(np.broadcast_to(np.array(shift, dtype=np.float64), (len(owners[-1]), 3)))
    owner, image = np.concatenate(owners), np.concatenate(images)
    found = cKDTree(points).sparse_distance_matrix(cKDTree(points[owner] + image @ cell), cutoff, output_type="ndarray")
    first, second = found["i"].astype(np.int64), found["j"].astype(np.int64)
    other = (first != owner[second]) | np.any(image[second] != 0.0, axis=1)
    first, second = first[other], second[other]
    return first, owner[second].astype(np.int64), image[second]
