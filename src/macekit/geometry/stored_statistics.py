"""The facts of a store, from the sums that were taken when it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from macekit.config import DatasetFacts, TrainingRun
from macekit.config.facts import LevelFacts
from macekit.data import ReferenceEnergies, Structure
from macekit.data.composition import symbol
from macekit.data.levels import UNNAMED, choice_of_head, default_head, elements_given
from macekit.data.stores import StoredStructures, StoreStatistics
from macekit.data.stores.energies import stored_reference_energies
from macekit.data.stores.moments import Moments
from macekit.geometry.neighbours import neighbour_pairs
from macekit.geometry.statistics import Measured, chosen_energy_scale, energy_shift_note, measure_facts, usable_scale


def count_edges(structure: Structure, cutoff: float) -> int:
    """Directed edges of a structure."""
    return len(neighbour_pairs(structure, cutoff)[0])


def facts_of(structures: Sequence[Structure], run: TrainingRun) -> Measured:
    """What is measured from training structures, in memory or in a store; raises like `measure_facts`."""
    if isinstance(structures, StoredStructures):
        return measure_stored_facts(structures.store.levels, run)
    return measure_facts(structures, run)


def measure_stored_facts(levels: Mapping[str, StoreStatistics], run: TrainingRun) -> Measured:
    """Elements, neighbours, levels of theory; as `measure_facts` has them from structures.

    Args:
        levels: Sums over the training structures by level of theory, "" where none is named.
        run: The run; its data section says what is learned, its model section what is given.

    Raises:
        DataError: If reference energies cannot be had as asked for.
        ConfigError: If a given number contradicts the data.
    """
    if len(levels) > 1:
        levels = {head or UNNAMED: sums for head, sums in levels.items()}
    everything = StoreStatistics()
    for sums in levels.values():
        everything = everything.plus(sums)
    elements, heads, notes = tuple(everything.elements), list(levels), list[str]()
    found: dict[str, LevelFacts] = {}
    references: dict[str, ReferenceEnergies] = {}
    for head, sums in levels.items():
        said: list[str] = []
        own = _reference_energies(sums, elements, head, heads, run, said)
        found[head] = _measured_level(sums, own, run, said)
        prefix = f"head '{head}': " if len(heads) > 1 else ""
        notes += [prefix + note for note in said]
        references |= {f"{head}/{target}" if len(heads) > 1 else target: one for target, one in own.items()}
    if len(heads) > 1:
        by_level: dict[str, Any] = {"heads": found, "default_head": default_head(heads)}
    else:
        by_level = {"heads": {head: LevelFacts() for head in heads if head}}
        by_level |= {name: value for level in found.values() for name, value in level}
    facts = DatasetFacts(
        elements=list(elements),
        cutoff=run.data.cutoff,
        avg_num_neighbours=everything.edges / everything.atoms if everything.edges else 1.0,
        targets=run.data.targets,
        node_features=run.data.node_features,
        edge_features=run.data.edge_features,
        num_edge_features=everything.bond_features,
        census={"structures": everything.structures, "atoms": everything.atoms},
        **by_level,
    )
    return Measured(facts, references, notes)


def _reference_energies(
    statistics: StoreStatistics,
    elements: tuple[int, ...],
    head: str,
    heads: Sequence[str],
    run: TrainingRun,
    notes: list[str],
) -> dict[str, ReferenceEnergies]:
    """E0 of every graph scalar at one level; 0 for elements that this level does not have."""
    choice = choice_of_head(run.data.reference_energies, head, heads)
    present = set(statistics.elements) | elements_given(choice)
    own = tuple(z for z in elements if z in present)
    found = stored_reference_energies(choice, run.data.targets, statistics, own)
    if len(own) < len(elements):
        missing = [symbol(z) for z in elements if z not in present]
        notes.append(f"warning: no structure has {', '.join(missing)}: E0 = 0 there")
    columns = [elements.index(z) for z in own]
    for target, reference in found.items():
        values = np.zeros(len(elements))
        values[columns] = reference.values
        found[target] = replace(reference, elements=elements, values=values, head=head if len(heads) > 1 else "")
    return found


def _measured_level(
    statistics: StoreStatistics, references: dict[str, ReferenceEnergies], run: TrainingRun, notes: list[str]
) -> LevelFacts:
    """Scales and shifts at one level of theory."""
    targets = run.data.targets
    scale: dict[str, float] = {}
    shift: dict[str, float] = {}
    bulk = max(statistics.structures - statistics.isolated, 1)
    for name, kind in targets.kinds().items():
        if kind == "graph_scalar":
            mean, deviation, spread = _left(statistics, references[name])
            shift[name], scale[name] = mean, usable_scale(spread)
            if name == targets.energy:
                forces = statistics.components.get(targets.y_node_vector or "")
                has_forces = run.model.compute_forces and forces is not None and forces.count > 0
                rms = forces.rms if forces is not None and has_forces else None
                notes.append(energy_shift_note(mean, references[name]))
                scale[name] = chosen_energy_scale(deviation, rms, run, notes)
            continue
        sums = statistics.components[name]
        if kind == "graph_vector":
            scale[name] = usable_scale(sums.rms / np.sqrt(statistics.bulk_atoms / bulk))
        elif kind == "node_scalar":
            shift[name], scale[name] = sums.mean, usable_scale(sums.deviation) if sums.count else 1.0
        elif kind == "node_vector" and not run.model.compute_forces:
            scale[name] = usable_scale(sums.rms)
    for reference in references.values():
        notes += [f"warning: {warning}" for warning in reference.warnings()]
    energies = {name: reference.values.tolist() for name, reference in references.items()}
    return LevelFacts(reference_energies=energies, scale=scale, shift=shift)


def _left(statistics: StoreStatistics, reference: ReferenceEnergies) -> tuple[float, float, float]:
    """Of y − ΣE0: its mean per atom, its standard deviation, and that of what the mean per atom leaves over."""
    sums = statistics.graph_scalars[reference.target]
    per_atom = Moments()
    for moments in sums.per_atom.values():
        per_atom = per_atom.merged(moments)
    mean, _ = per_atom.mean_and_rms(reference.elements, reference.values)
    return mean, _deviation(sums.totals, reference, 0.0), _deviation(sums.totals, reference, mean)


def _deviation(totals: Moments, reference: ReferenceEnergies, per_atom: float) -> float:
    mean, rms = totals.mean_and_rms(reference.elements, reference.values + per_atom)
    return float(np.sqrt(max(rms**2 - mean**2, 0.0)))
