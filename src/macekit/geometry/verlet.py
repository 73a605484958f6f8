"""A neighbour list with a skin, which serves as long as no atom has moved far (Verlet, Phys. Rev. 159, 98, 1967)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from macekit.data import Structure
from macekit.errors import UsageError
from macekit.geometry.neighbours import FloatArray, IntArray, neighbour_pairs, periodic_cell


class VerletList:
    """Neighbour pairs of structures that come one after another and often differ little, as in dynamics.

    Pairs within cutoff + skin are kept and filtered by their present distance, so that the result is that of
    `neighbour_pairs`, pair by pair and in the same order. The kept pairs hold as long as none outside them can have
    come within the cutoff: where the cell changes from C₀ to C, positions are compared with x₀ C₀⁻¹ C, and

        s (cutoff + skin) − 2 d ≥ cutoff,

    with s the smallest singular value of C₀⁻¹ C and d the largest displacement. A structure with other atoms or another
    periodicity than the one before gets a list without a skin, which is cheaper for structures that have nothing in
    common.

    Args:
        cutoff: Å.
        skin: Å, 0: nothing is kept.

    Raises:
        UsageError: If the skin is negative or not finite.
    """

    def __init__(self, cutoff: float, skin: float = 0.5) -> None:
        if not (0.0 <= skin < np.inf):
            raise UsageError(f"skin: expected a length in Å, zero or more, got {skin!r}")
        self.cutoff, self.skin = cutoff, skin
        self.num_searches = 0
        """How often neighbours were searched for."""
        self.shortest = np.inf
        """Distance of the nearest two atoms or images within the cutoff in the latest structure, Å."""
        self._kept: _Kept | None = None
        self._last: Structure | None = None

    def pairs(self, structure: Structure) -> tuple[IntArray, IntArray, FloatArray]:
        """Sender, receiver and cell shift of every directed edge, as `neighbour_pairs` gives them.

        Args:
            structure: The structure; atoms may lie outside the cell.

        Returns:
            int64 [E], int64 [E], float64 [E, 3]; sorted by receiver, sender, shift.

        Raises:
            DataError: As in `neighbour_pairs`.
        """
        is_like_last = self._last is not None and _has_same_atoms(self._last, structure)
        reach = self.cutoff + (self.skin if is_like_last else 0.0)
        self._last = structure
        if self._kept is None or not is_like_last or not self._kept.serves(structure, self.cutoff):
            self.num_searches += 1
            self._kept = _Kept(structure, reach, *neighbour_pairs(structure, reach))
        squares = self._kept.squared_distances(structure)
        self.shortest = float(np.sqrt(squares.min(initial=np.inf)))
        near = np.flatnonzero(squares < self.cutoff * self.cutoff)
        kept = self._kept
        return kept.sender.take(near), kept.receiver.take(near), kept.shifts.take(near, axis=0)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Pairs within the cutoff and the skin, and the structure they were found in."""

    structure: Structure
    reach: float
    """Å within which all pairs are there."""
    sender: IntArray
    receiver: IntArray
    shifts: FloatArray

    def serves(self, structure: Structure, cutoff: float) -> bool:
        """Whether all pairs within the cutoff are among those kept."""
        then, now = self.structure, structure
        if np.array_equal(then.cell, now.cell):
            expected, shrinkage = then.positions, 1.0
        else:
            change = np.linalg.inv(periodic_cell(then)) @ periodic_cell(now)
            expected, shrinkage = then.positions @ change, float(np.linalg.svd(change, compute_uv=False)[-1])
        moved = float(np.sqrt(np.square(now.positions - expected).sum(1).max(initial=0.0)))
        return shrinkage * self.reach - 2.0 * moved >= cutoff

    def squared_distances(self, structure: Structure) -> FloatArray:
        """Of all pairs in the present structure, float64 [P], Å²."""
        x = structure.positions
        vectors = x.take(self.receiver, axis=0) - x.take(self.sender, axis=0)
        if structure.is_periodic:
            vectors += self.shifts @ periodic_cell(structure)
        return np.asarray(np.einsum("ei,ei->e", vectors, vectors))


def _has_same_atoms(one: Structure, other: Structure) -> bool:
    return np.array_equal(one.atomic_numbers, other.atomic_numbers) and np.array_equal(one.pbc, other.pbc)
