"""Errors and predictions of a model on a data set: exact sums, whatever the batches and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macekit.data.structure import Structure
from macekit.geometry.batch import Batch, GraphDataset
from macekit.kernels.sweeps import scheduled
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.distributed import World
from macekit.training.losses import Losses, LossSums, output_targets, stacked_labels
from macekit.training.metrics import (
    TargetErrors,
    TargetMetric,
    batch_sums,
    errors_from_sums,
    structure_sums,
    target_metrics,
)

BATCH_EDGES = 20_000
"""Edges per batch of an evaluation unless told otherwise."""
WITHOUT_SECOND_SWEEP = 3
"""Batches of training that take about as much memory when nothing is kept for the derivatives by the weights."""


@dataclass(frozen=True)
class Evaluation:
    """What a model does on a data set."""

    metrics: list[TargetMetric]
    """How each target is measured."""
    errors: dict[str, TargetErrors]
    """Errors by target over all structures."""
    by_config_type: dict[str, dict[str, TargetErrors]]
    """The same by `config_type` of the structures, then by target."""
    num_structures: int
    """Number of structures."""
    predicted: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Predictions by target where a label is present, per component, flat; energies per atom beyond the
    reference energies."""
    labelled: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """The labels in the same order."""
    by_head: dict[str, dict[str, TargetErrors]] = field(default_factory=dict)
    """Errors by level of theory, where the model has several, then by target."""


def edge_batches(num_edges: Sequence[int], max_edges: int, rank: int = 0, size: int = 1) -> list[list[int]]:
    """Consecutive structures as batches of at most `max_edges` edges, every `size`-th batch from `rank` on.

    A structure with more edges than that is a batch of its own.
    """
    batches: list[list[int]] = []
    filled = max_edges + 1
    for index, edges in enumerate(num_edges):
        if filled + edges > max_edges:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += edges
    return batches[rank::size]


def evaluate_dataset(
    model: Mace,
    structures: Sequence[Structure] | GraphDataset,
    *,
    batch_edges: int = BATCH_EDGES,
    world: World | None = None,
) -> Evaluation:
    """Predict every target that has labels, and measure the errors.

    Args:
        model: A model; it predicts on the device it is on.
        structures: With labels by target name; a missing label is left out.
        batch_edges: Edges per batch; bounds the memory.
        world: Processes that share the work; all get the errors and predictions of all.

    Raises:
        DataError: If a structure has an element or a head that the model does not know.
    """
    world = world or World(0, 1, model.device)
    dataset = structures if isinstance(structures, GraphDataset) else GraphDataset(structures, model.facts)
    metrics = target_metrics(model.facts.targets, compute_forces=model.config.compute_forces)
    sums = torch.zeros(len(dataset), len(metrics), 3, dtype=torch.float64)
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {metric.target: [] for metric in metrics}
    stress = model.facts.targets.stress
    model.eval()
    for batch in _batches(dataset, batch_edges, world):
        needs_stress = stress is not None and not bool(batch.labels[stress].isnan().all())
        predictions = evaluate(model, batch.graph, training=False, stress=needs_stress)
        sums[batch.indices.cpu()] = structure_sums(predictions, batch, metrics).cpu()
        for metric in metrics:
            pairs[metric.target].append(_present_pairs(predictions, batch, metric, model))
    sums = world.sum(sums)
    types = [structure.config_type for structure in dataset.structures]
    heads = list(model.facts.heads) if len(model.facts.heads) > 1 else []
    levels = [heads[model.facts.head_index(structure.head)] for structure in dataset.structures if heads]

    def by_group(groups: list[str], names: Sequence[str]) -> dict[str, dict[str, TargetErrors]]:
        return {name: errors_from_sums(sums[[group == name for group in groups]].sum(0), metrics) for name in names}

    joined = {target: _joined(found, world) for target, found in pairs.items()}
    return Evaluation(
        metrics=metrics,
        errors=errors_from_sums(sums.sum(0), metrics),
        by_config_type=by_group(types, sorted(set(types))),
        by_head=by_group(levels, [head for head in heads if head in levels]),
        num_structures=len(dataset),
        predicted={target: pair[0] for target, pair in joined.items()},
        labelled={target: pair[1] for target, pair in joined.items()},
    )


def evaluate_losses(
    model: Mace,
    losses: Losses,
    dataset: GraphDataset,
    metrics: list[TargetMetric],
    *,
    batch_edges: int,
    world: World,
) -> tuple[LossSums, Tensor]:
    """Sums of losses and errors over a data set, as training needs them after every epoch.

    Only what has a loss is predicted.

    Args:
        model: The model.
        losses: Its losses.
        dataset: The structures.
        metrics: What errors are summed for.
        batch_edges: Edges of a batch in training; `WITHOUT_SECOND_SWEEP` times as many are taken at once.
        world: The processes that share the work.

    Returns:
        Sums of the loss, and of the errors as float64 [M, 3], both over all processes.
    """
    needs_forces = model.config.compute_forces and "y_node_vector" in losses.outputs
    needs_stress = "stress" in losses.outputs
    totals = losses.empty()
    errors = torch.zeros(len(metrics), 3, dtype=torch.float64, device=world.device)
    model.eval()
    for batch in _batches(dataset, WITHOUT_SECOND_SWEEP * batch_edges, world):
        with scheduled():  # as in training: derivatives are taken once
            predictions = evaluate(model, batch.graph, training=False, forces=needs_forces, stress=needs_stress)
        with torch.no_grad():
            totals = totals.plus(losses(predictions, batch))
            errors += batch_sums(predictions, batch, metrics)
    return LossSums(world.sum(totals.numerators), world.sum(totals.counts)), world.sum(errors)


def _batches(dataset: GraphDataset, batch_edges: int, world: World) -> Iterator[Batch]:
    edges = [int(number) for number in dataset.num_edges()]
    for indices in edge_batches(edges, batch_edges, world.rank, world.size):
        yield dataset.batch(indices).to(world.device)


def _present_pairs(
    predictions: dict[str, Tensor], batch: Batch, metric: TargetMetric, model: Mace
) -> tuple[Tensor, Tensor]:
    """Prediction and label of every present element of a target, flat."""
    if metric.output not in predictions:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    targets = output_targets(model.facts.targets)[metric.output]
    labels = stacked_labels(batch, targets, metric.output)
    prediction = predictions[metric.output].detach().to(torch.float64).reshape(labels.shape)
    label, prediction = labels[:, metric.columns], prediction[:, metric.columns]
    if metric.per_atom:
        graph = batch.graph
        zeros = [0.0] * len(model.facts.elements)
        references = [level.reference_energies.get(metric.target, zeros) for level in model.facts.levels()]
        of_atoms = label.new_tensor(references)[graph.head[graph.batch], graph.species]
        baseline = label.new_zeros(graph.num_graphs).index_add(0, graph.batch, of_atoms)[:, None]
        atoms = graph.nodes_per_graph()[:, None]
        label, prediction = (label - baseline) / atoms, (prediction - baseline) / atoms
    present = ~label.isnan()
    return prediction[present].cpu(), label[present].cpu()


def _joined(pairs: list[tuple[Tensor, Tensor]], world: World) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and labels of all batches, those of one process after those of the one before."""
    none = torch.zeros(0, dtype=torch.float64)
    predicted, labelled = (torch.cat([none, *(pair[side] for pair in pairs)]) for side in (0, 1))
    return world.joined(predicted).numpy(), world.joined(labelled).numpy()
