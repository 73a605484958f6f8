"""The facts of a store, from the sums that were taken when it was made."""

from __future__ import annotations

import numpy as np

from macekit.config import DatasetFacts, TrainingRun
from macekit.data import ReferenceEnergies, Structure
from macekit.data.stores import StoreStatistics
from macekit.data.stores.energies import stored_reference_energies
from macekit.data.stores.moments import Moments
from macekit.geometry.neighbours import neighbour_pairs
from macekit.geometry.statistics import Measured, chosen_energy_scale, energy_shift_note, usable_scale


def count_edges(structure: Structure, cutoff: float) -> int:
    """Directed edges of a structure."""
    return len(neighbour_pairs(structure, cutoff)[0])


def measure_stored_facts(statistics: StoreStatistics, run: TrainingRun) -> Measured:
    """Elements, neighbours, reference energies, scales and shifts; as `measure_facts` has them from structures.

    Args:
        statistics: Sums over the training structures.
        run: The run; its data section says what is learned, its model section what is given.

    Raises:
        DataError: If reference energies cannot be had as asked for.
        ConfigError: If a given number contradicts the data.
    """
    targets = run.data.targets
    references = stored_reference_energies(run.data.reference_energies, targets, statistics)
    scale: dict[str, float] = {}
    shift: dict[str, float] = {}
    notes: list[str] = []
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
    edges, atoms = statistics.edges, statistics.atoms
    facts = DatasetFacts(
        elements=list(statistics.elements),
        cutoff=run.data.cutoff,
        avg_num_neighbours=edges / atoms if edges else 1.0,
        targets=targets,
        reference_energies={name: reference.values.tolist() for name, reference in references.items()},
        scale=scale,
        shift=shift,
        node_features=run.data.node_features,
        edge_features=run.data.edge_features,
        num_edge_features=statistics.bond_features,
        census={"structures": statistics.structures, "atoms": atoms},
    )
    return Measured(facts, references, notes)


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
