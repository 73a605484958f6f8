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
        self._kept: NearPairs | None = None
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
        kept = self.near(structure)
        squares = kept.squared_distances(structure)
        self.shortest = float(np.sqrt(squares.min(initial=np.inf)))
        close = np.flatnonzero(squares < self.cutoff * self.cutoff)
        return kept.sender.take(close), kept.receiver.take(close), kept.shifts.take(close, axis=0)

    def near(self, structure: Structure) -> NearPairs:
        """All pairs within the cutoff of this structure and some beyond it: the same object as long as it serves.

        Raises:
            DataError: As in `neighbour_pairs`.
        """
        is_like_last = self._last is not None and _has_same_atoms(self._last, structure)
        reach = self.cutoff + (self.skin if is_like_last else 0.0)
        self._last = structure
        if self._kept is None or not is_like_last or not self._kept.serve(structure, self.cutoff):
            self.num_searches += 1
            self._kept = NearPairs(structure, reach, *neighbour_pairs(structure, reach))
        return self._kept


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs within the cutoff and the skin, and the structure they were found in."""

    structure: Structure
    reach: float
    """Å within which all pairs are there."""
    sender: IntArray
    receiver: IntArray
    shifts: FloatArray

    def serve(self, structure: Structure, cutoff: float) -> bool:
        """Whether all pairs of the same atoms within the cutoff are among these."""
        then, now = self.structure, structure
        if np.array_equal(then.cell, now.cell):
            return self.serve_at(now.positions, cutoff)
        change = np.linalg.inv(periodic_cell(then)) @ periodic_cell(now)
        shrinkage = float(np.linalg.svd(change, compute_uv=False)[-1])
        return shrinkage * self.reach - 2.0 * _farthest(now.positions - then.positions @ change) >= cutoff

    def serve_at(self, positions: FloatArray, cutoff: float) -> bool:
        """The same for other positions in the same cell."""
        return self.reach - 2.0 * _farthest(positions - self.structure.positions) >= cutoff

    def squared_distances(self, structure: Structure) -> FloatArray:
        """Of all pairs in the present structure, float64 [P], Å²."""
        x = structure.positions
        vectors = x.take(self.receiver, axis=0) - x.take(self.sender, axis=0)
        if structure.is_periodic:
            vectors += self.shifts @ periodic_cell(structure)
        return np.asarray(np.einsum("ei,ei->e", vectors, vectors))


def _farthest(displacements: FloatArray) -> float:
    return float(np.sqrt(np.einsum("ni,ni->n", displacements, displacements).max(initial=0.0)))


def _has_same_atoms(one: Structure, other: Structure) -> bool:
    return np.array_equal(one.atomic_numbers, other.atomic_numbers) and np.array_equal(one.pbc, other.pbc)
