"""MACE models as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from macekit.data.structure import Structure
from macekit.errors import UsageError
from macekit.outputs.derivatives import evaluate
from macekit.outputs.successive import Successive

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor

    from macekit.model.mace import Mace

DERIVED = ("energy", "free_energy", "energies", "forces", "stress")
"""Properties of every model with an energy; energies are those of the sites and sum to the energy."""
DIRECT = "direct vector of atoms"
"""Output of a model that has an energy as well, whose forces are under the usual name."""


class MaceCalculator(Calculator):
    """Energy, forces, stress and every other output of a model for ASE.

    Results are in ASE's units: energy and energies eV, forces −dE/dx eV/Å, stress (1/V) dE/dε eV/Å³ as
    xx yy zz yz xz xy with tension positive. Further outputs are there under the names of their targets
    (`dipole` and `charges` are ASE's own), standard deviations of scalars under `<target>_std`. A vector per atom
    that is predicted directly and named `forces` is `direct_forces`: forces always belong to the energy.

    Args:
        model: A model of its own, because its parameters are frozen; `TrainedModel.ase_calculator` copies.
        skin: Å beyond the cutoff within which neighbours are remembered from one call to the next; results are the
            same with any, only the time differs.

    Raises:
        UsageError: If the skin is negative.
    """

    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 (as in the base class)

    def __init__(self, model: Mace, skin: float = 0.5) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model.eval().requires_grad_(False)
        self._successive = Successive(self.model, skin)
        self._structure: Structure | None = None
        facts = model.facts
        self._energy = facts.targets.energy
        vector = None if model.config.compute_forces else facts.targets.y_node_vector
        is_taken = self._energy is not None and vector in DERIVED
        self._direct_vector = f"direct_{vector}" if is_taken else vector
        self.implemented_properties = self._properties()
        self._with_stress = False

    def _properties(self) -> list[str]:
        """Derivatives of the energy, the other targets by their names, standard deviations."""
        targets = self.model.facts.targets
        derived = DERIVED if self._energy is not None else ()
        heads = [*targets.y_graph_scalars, *targets.y_node_scalars, targets.y_graph_vector, self._direct_vector]
        is_gaussian = self.model.config.uncertainty == "gaussian"
        deviations = [f"{name}_std" for name in targets.y_graph_scalars] if is_gaussian else []
        return list(dict.fromkeys([*derived, *(name for name in heads if name), *deviations]))

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation, features that the model reads included."""
        if (before := self.atoms) is None:
            return list(all_changes)
        pairs = {
            "positions": (before.positions, atoms.positions),
            "numbers": (before.numbers, atoms.numbers),
            "cell": (before.cell.array, atoms.cell.array),
            "pbc": (before.pbc, atoms.pbc),
        }  # what ASE's own comparison looks at, which takes longer than a small molecule's forces
        changes = [name for name, (one, other) in pairs.items() if not _within(one, other, tol)]
        facts = self.model.facts
        for name in facts.node_features:
            if not _same(before.arrays.get(name), atoms.arrays.get(name)):
                changes.append(name)
        key = facts.edge_features
        if key is not None and not _same(before.info.get(key), atoms.info.get(key)):
            changes.append(key)
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the model; everything but the stress comes with every evaluation.

        Once the stress of a periodic structure has been asked for, later evaluations include it.

        Args:
            atoms: The structure; never changed.
            properties: What is asked for.
            system_changes: What has changed; anything means everything here.

        Raises:
            DataError: If the structure cannot be used, or holds an element that the model does not know.
            UsageError: If there are no atoms.
            PropertyNotImplementedError: If the stress of a structure without periodicity is asked for.
        """
        super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[no-untyped-call]
        if (atoms := self.atoms) is None:
            raise UsageError("the calculator has no atoms; give them, as in atoms.calc = calculator")
        if "stress" in properties and not atoms.pbc.any():
            raise PropertyNotImplementedError(
                "stress: the structure is not periodic in any direction, so it has no volume and no stress; "
                "set atoms.pbc and atoms.cell, or do not ask for the stress"
            )
        with_stress = self._with_stress or "stress" in properties
        self.results = self._evaluate(atoms, stress=with_stress and bool(atoms.pbc.any()))
        self._with_stress = with_stress

    def _evaluate(self, atoms: Atoms, *, stress: bool) -> dict[str, Any]:
        outputs, with_stress = None, stress and self._energy is not None
        if self._structure is not None and _differ_in_positions_only(self._structure, atoms):
            outputs = self._successive.moved(self._structure, atoms.positions, stress=with_stress)
        if outputs is None:
            self._structure = structure = self._structure_of(atoms)
            outputs = self._successive(structure, stress=with_stress)
            if self._direct_vector is not None and self._energy is not None:
                direct = evaluate(self.model, self._successive.graph(structure), forces=False, stress=False)
                outputs[DIRECT] = direct["y_node_vector"]
        return self._results(outputs, stress=with_stress)

    def _structure_of(self, atoms: Atoms) -> Structure:
        facts = self.model.facts
        return Structure.from_ase(
            atoms, source="atoms", node_features=facts.node_features, edge_features=facts.edge_features
        )

    def _results(self, outputs: dict[str, Tensor], *, stress: bool) -> dict[str, Any]:
        facts = self.model.facts
        results = self._head_results(outputs)
        if self._direct_vector is not None:
            results[self._direct_vector] = _array(outputs["y_node_vector" if self._energy is None else DIRECT])
        if self._energy is not None:
            column = facts.targets.y_graph_scalars.index(self._energy)
            energy = float(outputs["y_graph_scalars"][0, column])
            results |= {
                "energy": energy,
                "free_energy": energy,
                "energies": _array(outputs["y_graph_scalars::nodes"][:, column]),
                "forces": _array(outputs["y_node_vector"]),
            }
        if stress:
            found = _array(outputs["stress"][0])
            if not np.isfinite(found).all():
                raise PropertyNotImplementedError(
                    "stress: the cell spans no volume (a lattice vector is zero); give every direction, also the one "
                    "that does not repeat, a lattice vector"
                )
            results["stress"] = full_3x3_to_voigt_6_stress(found)
        return results

    def _head_results(self, outputs: dict[str, Tensor]) -> dict[str, Any]:
        targets = self.model.facts.targets
        results: dict[str, Any] = {}
        for column, name in enumerate(targets.y_graph_scalars):
            results[name] = float(outputs["y_graph_scalars"][0, column])
            if "y_graph_scalars::std" in outputs:
                results[f"{name}_std"] = float(outputs["y_graph_scalars::std"][0, column])
        for column, name in enumerate(targets.y_node_scalars):
            results[name] = _array(outputs["y_node_scalars"][:, column])
        if targets.y_graph_vector is not None:
            results[targets.y_graph_vector] = _array(outputs["y_graph_vector"][0])
        return results


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return tensor.detach().to("cpu", torch.float64).numpy().copy()


def _differ_in_positions_only(structure: Structure, atoms: Atoms) -> bool:
    """Whether this holds for what a model without additional features reads."""
    return (
        np.array_equal(structure.atomic_numbers, atoms.numbers)
        and np.array_equal(structure.cell, atoms.cell.array)
        and np.array_equal(structure.pbc, atoms.pbc)
    )


def _within(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], tolerance: float) -> bool:
    """Whether two arrays agree; numbers that are not finite never do."""
    if one.shape != other.shape:
        return False
    return bool(np.array_equal(one, other) or (np.abs(one - other * 1.0) <= tolerance).all())


def _same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))
