"""The constant per atom, set once more when training ends."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from macekit.geometry.batch import GraphDataset
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.evaluation import BATCH_EDGES, edge_batches

FloatArray = NDArray[np.float64]
LARGEST_SAMPLE = 2000
"""Structures that are looked at; more would not change a mean."""


def calibrated(model: Mace, data: GraphDataset) -> tuple[Mace, float]:
    """The model with the `scaling_mean` that fits the training energies best, all other weights as they are.

    Where forces weigh most, gradient descent leaves the mean energy to last: after a short training most of the
    energy error is one constant per atom, which forces do not see. Its best value is the mean error per atom, weighted
    as in the loss.

    Args:
        model: A trained model.
        data: The structures it was trained on; those with edges, an energy and a weight count.

    Returns:
        The model, a new one where anything changed, and the change of the energy of every atom, eV: with several
        levels of theory, which have a constant each, the largest. A `scaling_mean` given as a number is a choice and
        stays.
    """
    target = model.facts.targets.energy
    if target is None or model.config.scaling_mean != "auto":
        return model, 0.0
    found = [_errors_per_atom(model, data, target, head) for head in range(len(model.facts.levels()))]
    changes = [float(np.average(errors, weights=weights)) if errors.size else 0.0 for errors, weights in found]
    if not any(errors.size for errors, _ in found):
        return model, 0.0
    facts = model.facts.shifted(target, changes)
    moved = build_model(model.config.name, model.config, facts, dtype=model.dtype).to(model.device)
    moved.load_state_dict(model.state_dict())
    return moved.train(model.training), max(changes, key=abs)


def _errors_per_atom(model: Mace, data: GraphDataset, target: str, head: int) -> tuple[FloatArray, FloatArray]:
    """(label − prediction) / number of atoms, and weights, of a sample spread evenly over one level of theory."""
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
        return np.zeros(0), np.zeros(0)
    sample = [labelled[i] for i in np.unique(np.linspace(0, len(labelled) - 1, LARGEST_SAMPLE).astype(int))]
    found = []
    for positions in edge_batches(edges[sample].tolist(), BATCH_EDGES):
        batch = data.batch([sample[i] for i in positions]).to(model.device)
        energy = evaluate(model, batch.graph, forces=False, stress=False)["y_graph_scalars"][:, column]
        found.append((batch.labels[target] - energy) / batch.graph.nodes_per_graph())
    return torch.cat(found).cpu().numpy(), weights[sample]
