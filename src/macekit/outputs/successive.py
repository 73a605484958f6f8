"""Structures that come one after another and often differ little, as in dynamics: what can be kept is kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from macekit.data.structure import Structure
from macekit.data.validation import COINCIDENT, LARGEST_COORDINATE, validate_structure
from macekit.geometry.graph import Graph
from macekit.geometry.neighbours import FloatArray, graph_for
from macekit.geometry.verlet import NearPairs, VerletList
from macekit.model.mace import Mace
from macekit.outputs.compiled import Evaluator, SortedBatch
from macekit.outputs.derivatives import evaluate


class Successive:
    """Outputs of one structure after another by the fastest way that serves.

    Where the inference engine serves, pairs of atoms within the cutoff and a skin stay sorted in its memory as long as
    no atom has moved far; it leaves out those beyond the cutoff. Results are those of a new start.

    Args:
        model: The model, whose weights never change.
        skin: Å beyond the cutoff within which neighbours are remembered.

    Raises:
        UsageError: If the skin is negative.
    """

    def __init__(self, model: Mace, skin: float) -> None:
        self.model = model
        self._evaluator = Evaluator(model, is_frozen=True)
        self._neighbours = VerletList(model.facts.cutoff, skin)
        self._kept: _Kept | None = None

    def __call__(self, structure: Structure, *, stress: bool) -> dict[str, Tensor]:
        """What `outputs.derivatives.evaluate` gives, forces included where the model has an energy.

        Args:
            structure: The next structure.
            stress: Whether the stress is wanted.

        Raises:
            DataError: If the structure cannot be used, or holds an element that the model does not know.
        """
        validate_structure(structure, coincident=False)
        near, kept = self._neighbours.near(structure), self._kept
        if kept is not None and kept.near is near:
            self._kept = dataclasses.replace(kept, structure=structure)
        else:
            self._kept = self._sorted(structure, near)
        if self._kept is None:
            return self._by_operators(structure, stress=stress)
        return self._placed(self._kept, structure.positions, stress=stress)

    def graph(self, structure: Structure) -> Graph:
        """The structure with the pairs within the cutoff, on the device of the model.

        Raises:
            DataError: As in a call.
        """
        pairs = self._neighbours.pairs(structure)
        if self._neighbours.shortest < COINCIDENT:
            validate_structure(structure)
        return graph_for(structure, self.model.facts, pairs).to(self.model.device)

    def moved(self, structure: Structure, positions: FloatArray, *, stress: bool) -> dict[str, Tensor] | None:
        """The same for a structure that this was called with last, whose atoms alone have moved.

        Args:
            structure: The one that was given, as an object.
            positions: Float64 [N, 3].
            stress: Whether the stress is wanted.

        Returns:
            None where the structure is another, its neighbours do not serve, or a position is not a usable number: it
            takes a call with the new structure then.
        """
        kept = self._kept
        if kept is None or kept.structure is not structure:
            return None
        is_usable = bool(np.abs(positions).max(initial=0.0) <= LARGEST_COORDINATE)  # not where one is NaN
        is_same_cell = np.array_equal(kept.near.structure.cell, structure.cell)
        if not (is_usable and is_same_cell and kept.near.serve_at(positions, self._neighbours.cutoff)):
            return None
        return self._placed(kept, positions, stress=stress)

    def _sorted(self, structure: Structure, near: NearPairs) -> _Kept | None:
        if not self._evaluator.may_compile():
            return None
        graph = graph_for(structure, self.model.facts, (near.sender, near.receiver, near.shifts))
        batch = self._evaluator.sort(graph)
        return None if batch is None else _Kept(structure, near, batch)

    def _placed(self, kept: _Kept, positions: FloatArray, *, stress: bool) -> dict[str, Tensor]:
        cell = kept.structure.cell[None]
        found = kept.batch.engine.evaluate(kept.batch.around, positions, cell)
        if found.shortest < COINCIDENT:
            validate_structure(dataclasses.replace(kept.structure, positions=positions))
        return kept.batch.outputs(found, cell, forces=True, stress=stress)

    def _by_operators(self, structure: Structure, *, stress: bool) -> dict[str, Tensor]:
        has_energy = self.model.facts.targets.energy is not None
        return evaluate(self.model, self.graph(structure), forces=has_energy, stress=stress and has_energy)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the engine has sorted."""

    structure: Structure
    """The latest."""
    near: NearPairs
    batch: SortedBatch


__all__ = ["Successive"]
