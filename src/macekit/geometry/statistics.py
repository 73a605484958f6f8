"""What is measured from the training structures before a model is made: the facts, and why they are what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macekit.config import DatasetFacts, TrainingRun
from macekit.config.facts import LevelFacts
from macekit.data import (
    ReferenceEnergies,
    Structure,
    elements_of,
    inconsistent_totals,
    separate_isolated_atoms,
)
from macekit.data.levels import default_head, heads_of, of_head, reference_energies_of_head
from macekit.geometry.neighbours import neighbour_pairs

FloatArray = NDArray[np.float64]
SMALLEST_SCALE = 1e-8


class Measured(NamedTuple):
    """Facts with their origin."""

    facts: DatasetFacts
    """What a model is built from, besides the choices."""
    reference_energies: dict[str, ReferenceEnergies]
    """E0 by graph scalar, with residuals."""
    notes: list[str]
    """What was chosen and why, a line each."""


class _Level(NamedTuple):
    """What is measured for one level of theory."""

    facts: LevelFacts
    references: dict[str, ReferenceEnergies]
    notes: list[str]


def measure_facts(structures: Sequence[Structure], run: TrainingRun) -> Measured:
    """Elements, neighbours, levels of theory with their reference energies, scales and shifts.

    Args:
        structures: Training structures, isolated atoms included.
        run: The run; its data section says what is learned, its model section what is given.

    Raises:
        DataError: If reference energies cannot be had as asked for.
        ConfigError: If a given number contradicts the data.
    """
    elements, heads = elements_of(structures), heads_of(structures)
    levels = {head: _measured_level(of_head(structures, head), elements, head, heads, run) for head in heads}
    if len(heads) > 1:
        by_level: dict[str, Any] = {
            "heads": {head: level.facts for head, level in levels.items()},
            "default_head": default_head(heads),
        }
    else:
        by_level = {"heads": {head: LevelFacts() for head in heads if head}}
        by_level |= {name: value for level in levels.values() for name, value in level.facts}
    facts = DatasetFacts(
        elements=list(elements),
        cutoff=run.data.cutoff,
        avg_num_neighbours=average_neighbours(structures, run.data.cutoff),
        targets=run.data.targets,
        node_features=run.data.node_features,
        edge_features=run.data.edge_features,
        num_edge_features=max((structure.bond_features.shape[1] for structure in structures), default=0),
        census={"structures": len(structures), "atoms": sum(structure.num_atoms for structure in structures)},
        **by_level,
    )
    references = {
        f"{head}/{target}" if len(heads) > 1 else target: reference
        for head, level in levels.items()
        for target, reference in level.references.items()
    }
    return Measured(facts, references, [note for level in levels.values() for note in level.notes])


def _measured_level(
    structures: Sequence[Structure], elements: Sequence[int], head: str, heads: Sequence[str], run: TrainingRun
) -> _Level:
    """Reference energies, scales and shifts of the structures of one level of theory."""
    targets, notes = run.data.targets, list[str]()
    references, unknown = reference_energies_of_head(
        run.data.reference_energies, targets, structures, elements, head, heads
    )
    if len(heads) > 1:
        references = {name: replace(reference, head=head) for name, reference in references.items()}
    if unknown:
        notes.append(f"warning: no structure has {', '.join(unknown)}: E0 = 0 there")
    bulk = separate_isolated_atoms(structures)[1] or list(structures)
    scale: dict[str, float] = {}
    shift: dict[str, float] = {}
    for name, kind in targets.kinds().items():
        if name == targets.energy:
            shift[name] = _energy_shift(bulk, references[name], notes)
            scale[name] = _energy_scale(bulk, references[name], run, notes)
        elif kind == "graph_scalar":
            shift[name], scale[name] = _extensive_scalar(bulk, references[name])
        elif kind == "graph_vector":
            sizes = float(np.mean([structure.num_atoms for structure in bulk]))
            scale[name] = usable_scale(_rms(_labels(bulk, name)) / np.sqrt(sizes))
        elif kind == "node_scalar":
            values = _labels(bulk, name)
            shift[name] = float(values.mean()) if values.size else 0.0
            scale[name] = usable_scale(float(values.std())) if values.size else 1.0
        elif kind == "node_vector" and not run.model.compute_forces:
            scale[name] = usable_scale(_rms(_labels(bulk, name)))
    for reference in references.values():
        notes += [f"warning: {warning}" for warning in reference.warnings()]
        notes += [f"warning: {warning}" for warning in inconsistent_totals(structures, reference)]
    energies = {name: reference.values.tolist() for name, reference in references.items()}
    prefix = f"head '{head}': " if len(heads) > 1 else ""
    return _Level(
        LevelFacts(reference_energies=energies, scale=scale, shift=shift), references, [prefix + n for n in notes]
    )


def average_neighbours(structures: Sequence[Structure], cutoff: float) -> float:
    """Mean number of neighbours over all atoms, those without any included; 1 where no atom has one."""
    edges = sum(len(neighbour_pairs(structure, cutoff)[0]) for structure in structures)
    atoms = sum(structure.num_atoms for structure in structures)
    return edges / atoms if edges else 1.0


def _energy_shift(structures: Sequence[Structure], reference: ReferenceEnergies, notes: list[str]) -> float:
    """`scaling_mean` where it is not given: the mean of (E − ΣE0)/N."""
    per_atom = [left / size for left, size in _interaction(structures, reference)]
    mean = float(np.mean(per_atom)) if per_atom else 0.0
    notes.append(energy_shift_note(mean, reference))
    return mean


def energy_shift_note(mean: float, reference: ReferenceEnergies) -> str:
    """What is said about `scaling_mean`."""
    note = f"scaling_mean: {mean:.6g} eV, the mean of (E - sum of E0)/N"
    if reference.method in ("given", "isolated_atoms"):
        note += "; an isolated atom has E0 + scaling_mean: give scaling_mean: 0 for the exact limit (slower to train)"
    return note


def _energy_scale(
    structures: Sequence[Structure], reference: ReferenceEnergies, run: TrainingRun, notes: list[str]
) -> float:
    """`scaling_std` where it is not given: RMS force component, or standard deviation of E − ΣE0."""
    left = [left for left, _ in _interaction(structures, reference)]
    deviation = float(np.std(left)) if left else 0.0
    forces = _labels(structures, run.data.targets.y_node_vector or "") if run.model.compute_forces else np.zeros(0)
    rms = _rms(forces) if forces.size and run.model.scaling_std in ("rms_forces", "auto") else None
    return chosen_energy_scale(deviation, rms, run, notes)


def chosen_energy_scale(deviation: float, rms: float | None, run: TrainingRun, notes: list[str]) -> float:
    """`scaling_std` from the standard deviation of E − ΣE0 and, where there are forces, their RMS component."""
    if run.model.scaling_std in ("rms_forces", "auto") and rms is not None:
        notes.append(
            f"scaling_std: {rms:.6g}, the RMS force component in eV/Å (the standard deviation of E - sum of E0 is "
            f"{deviation:.6g} eV; scaling_std: std_energy takes that)"
        )
        return usable_scale(rms)
    notes.append(f"scaling_std: {usable_scale(deviation):.6g} eV, the standard deviation of E - sum of E0")
    return usable_scale(deviation)


def _extensive_scalar(structures: Sequence[Structure], reference: ReferenceEnergies) -> tuple[float, float]:
    """Shift per atom and scale of a graph scalar other than the energy."""
    left = _interaction(structures, reference)
    if not left:
        return 0.0, 1.0
    shift = float(np.mean([value / size for value, size in left]))
    return shift, usable_scale(float(np.std([value - shift * size for value, size in left])))


def _interaction(structures: Sequence[Structure], reference: ReferenceEnergies) -> list[tuple[float, int]]:
    """(label − ΣE0, number of atoms) of every structure with a label."""
    energy = dict(zip(reference.elements, reference.values.tolist(), strict=True))
    found = []
    for structure in structures:
        label = structure.targets.get(reference.target)
        if label is not None and np.isfinite(label) and structure.num_atoms:
            total = sum(energy[z] for z in structure.atomic_numbers.tolist())
            found.append((float(label) - total, structure.num_atoms))
    return found


def _labels(structures: Sequence[Structure], target: str) -> FloatArray:
    """All finite numbers of a target in one array."""
    found = [np.ravel(structure.targets[target]) for structure in structures if target in structure.targets]
    values = np.concatenate(found) if found else np.zeros(0)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def usable_scale(scale: float) -> float:
    """A scale to divide by: 1 where the data have no spread."""
    return float(scale) if scale > SMALLEST_SCALE else 1.0
