"""Reference energies of a model that starts from another: kept, refitted to its errors, or of the data section."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from rich.table import Table

from macekit.data import Structure
from macekit.data.composition import counts_of
from macekit.geometry.batch import GraphDataset
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.evaluation import BATCH_EDGES, edge_batches

FloatArray = NDArray[np.float64]
LARGEST_SAMPLE = 500
"""Structures that are looked at; spread evenly over the data."""


class Errors(NamedTuple):
    """Errors of a model before it is trained."""

    structures: list[Structure]
    """Those with a label."""
    counts: FloatArray
    """Number of atoms of every element, [G, S]."""
    left: FloatArray
    """Label − prediction, eV, [G]."""


def errors_of(model: Mace, structures: Sequence[Structure], target: str) -> Errors:
    """Errors of a graph scalar on a sample of structures."""
    labelled = [s for s in structures if np.isfinite(s.targets.get(target, np.nan)) and s.num_atoms]
    picked = np.unique(np.linspace(0, len(labelled) - 1, LARGEST_SAMPLE).astype(int))
    sample = [labelled[i] for i in picked.tolist()] if labelled else []
    data = GraphDataset(sample, model.facts)
    column = model.facts.targets.y_graph_scalars.index(target)
    left = np.zeros(len(sample))
    for positions in edge_batches(data.num_edges().tolist(), BATCH_EDGES):
        batch = data.batch(positions).to(model.device)
        energies = evaluate(model, batch.graph, forces=False, stress=False)["y_graph_scalars"][:, column]
        left[positions] = (batch.labels[target] - energies).cpu().numpy()
    return Errors(sample, np.asarray(counts_of(sample, model.facts.elements), dtype=np.float64), left)


def refitted(errors: Errors, free: Sequence[int]) -> FloatArray:
    """Changes [S] of the E0 of the elements at these indices that make the errors per atom smallest, of least norm."""
    change = np.zeros(errors.counts.shape[1])
    if len(free) and len(errors.left):
        columns, size = list(free), errors.counts.sum(axis=1)
        shares = errors.counts[:, columns] / size[:, None]
        change[columns] = np.linalg.lstsq(shares, errors.left / size, rcond=1e-10)[0]
    return change


def residual_table(
    target: str,
    elements: Sequence[int],
    before: Mapping[int, float],
    after: Sequence[float],
    errors: Errors,
    title: str,
) -> Table:
    """E0 before and after, and the errors of the trained model that they leave over, per atom.

    Args:
        target: A graph scalar.
        elements: Atomic numbers of the new model.
        before: E0 of the trained model by atomic number.
        after: E0 of the new model, [S].
        errors: With the E0 before; 0 for elements that are new.
        title: What was chosen.
    """
    table = Table(title=f"Reference energies of '{target}': {title}", title_justify="left")
    for column in ("", "trained model", "now", "count"):
        table.add_column(column, justify="right" if column else "left")
    for number, value in zip(elements, after, strict=True):
        known = f"{before[number]:.6f}" if number in before else "new"
        table.add_row(f"E0({chemical_symbols[number]}), eV", known, f"{value:.6f}")
    table.add_section()
    start = np.array([before.get(number, 0.0) for number in elements])
    size = errors.counts.sum(axis=1)
    per_atom = [1e3 * left / size for left in (errors.left, errors.left - errors.counts @ (np.array(after) - start))]
    groups: dict[str, list[int]] = defaultdict(list)
    for row, structure in enumerate(errors.structures):
        groups[structure.config_type].append(row)
    groups = (groups if len(groups) > 1 else {}) | {"all": list(range(len(size)))}
    for name, rows in groups.items():
        cells = [f"{round(values[rows].mean(), 1) + 0.0:+.1f} ± {values[rows].std():.1f}" for values in per_atom]
        table.add_row(f"error, {name}, meV/atom", *cells, str(len(rows)))
    return table
