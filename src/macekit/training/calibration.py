"""The constants of the energy, per atom or per element, set once more when training ends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from macekit.data.composition import counts_of
from macekit.geometry.batch import GraphDataset
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.evaluation import BATCH_EDGES, edge_batches

FloatArray = NDArray[np.float64]
LARGEST_SAMPLE = 2000
"""Structures that are looked at; more would not change a mean."""
STRUCTURES_PER_ELEMENT = 10
"""With fewer, a constant for every element says as much of these structures as of the elements."""


class _Errors(NamedTuple):
    """Errors of the energies of some structures."""

    per_atom: FloatArray
    """(label − prediction) / number of atoms, eV, [G]."""
    weights: FloatArray
    """As in the loss, [G]."""
    shares: FloatArray
    """Share of every element in the atoms, [G, S]."""


def calibrated(model: Mace, data: GraphDataset, *, by_element: bool = False) -> tuple[Mace, FloatArray]:
    """The model with the constants that fit the training energies best, all other weights as they are.

    Where forces weigh most, gradient descent leaves the mean energy to last: after a short training most of the
    energy error is a constant of every atom, which forces do not see. The best value of one constant, `scaling_mean`,
    is the mean error per atom, weighted as in the loss; those of one for each element, added to E0, are the least
    squares of the errors per atom.

    Args:
        model: A trained model.
        data: The structures it was trained on; those with edges, an energy and a weight count.
        by_element: Whether E0 may change: where they were fitted to these energies in the first place. One constant
            for all elements serves where there are fewer than ten structures for each.

    Returns:
        The model, a new one where anything changed, and the change of the energy of an atom of every element, eV [S]:
        with several levels of theory, which have constants of their own, the largest. A `scaling_mean` given as a
        number is a choice and stays.
    """
    target, elements = model.facts.targets.energy, len(model.facts.elements)
    if target is None or model.config.scaling_mean != "auto":
        return model, np.zeros(elements)
    found = [_errors_per_atom(model, data, target, head) for head in range(len(model.facts.levels()))]
    if not any(errors.per_atom.size for errors in found):
        return model, np.zeros(elements)
    by_element = by_element and all(len(e.per_atom) >= STRUCTURES_PER_ELEMENT * elements for e in found)
    facts, changes = model.facts, [_constants(errors, by_element=by_element) for errors in found]
    if by_element:
        facts = facts.with_atoms_moved(target, [change.tolist() for change in changes])
    else:
        facts = facts.shifted(target, [float(change[0]) for change in changes])
    moved = build_model(model.config.name, model.config, facts, dtype=model.dtype).to(model.device)
    moved.load_state_dict(model.state_dict())
    return moved.train(model.training), max(changes, key=lambda change: float(np.abs(change).max()))


def _constants(errors: _Errors, *, by_element: bool) -> FloatArray:
    """What has to be added to the energy of an atom of every element, eV [S]."""
    per_atom, weights, shares = errors
    if not per_atom.size:
        return np.zeros(shares.shape[1])
    if by_element:
        root = np.sqrt(weights)
        return np.asarray(np.linalg.lstsq(root[:, None] * shares, root * per_atom, rcond=1e-10)[0])
    return np.full(shares.shape[1], float(np.average(per_atom, weights=weights)))


def _errors_per_atom(model: Mace, data: GraphDataset, target: str, head: int) -> _Errors:
    """Errors of a sample spread evenly over one level of theory."""
    structures, facts = data.structures, model.facts
    weights = np.array([s.weight * s.property_weights.get(target, 1.0) for s in structures])
    column = model.facts.targets.y_graph_scalars.index(target)
    edges = data.num_edges()
    labelled = [
        i
        for i in np.flatnonzero((edges > 0) & (weights > 0)).tolist()
        if np.isfinite(structures[i].targets.get(target, np.nan)) and facts.head_index(structures[i].head) == head
    ]
    if not labelled:
        return _Errors(np.zeros(0), np.zeros(0), np.zeros((0, len(facts.elements))))
    sample = [labelled[i] for i in np.unique(np.linspace(0, len(labelled) - 1, LARGEST_SAMPLE).astype(int))]
    found = []
    for positions in edge_batches(edges[sample].tolist(), BATCH_EDGES):
        batch = data.batch([sample[i] for i in positions]).to(model.device)
        energy = evaluate(model, batch.graph, forces=False, stress=False)["y_graph_scalars"][:, column]
        found.append((batch.labels[target] - energy) / batch.graph.nodes_per_graph())
    counts = counts_of([structures[i] for i in sample], facts.elements)
    return _Errors(torch.cat(found).cpu().numpy(), weights[sample], counts / counts.sum(axis=1, keepdims=True))
