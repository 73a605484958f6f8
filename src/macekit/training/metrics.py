"""Exact errors of every target: sums over elements, never means of batch means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from macekit.config import TargetsConfig
from macekit.geometry.batch import Batch
from macekit.training.losses import output_targets, present_labels, stacked_labels


@dataclass(frozen=True, slots=True)
class TargetMetric:
    """How the error of one target is measured and printed."""

    target: str
    """Name of the target."""
    output: str
    """Documented output it belongs to."""
    columns: slice
    """Its columns in the output."""
    per_atom: bool
    """Whether errors are divided by the number of atoms: energies."""
    factor: float
    """From macekit's unit to the printed one."""
    unit: str
    """The printed unit."""
    symbol: str
    """Short name for the line of an epoch."""
    head: str = ""
    """The level of theory that is measured alone; empty: all of them."""
    head_index: int = 0
    """Its index in the model's heads."""

    @property
    def name(self) -> str:
        """The target, after its head where one is measured alone: `energy`, `pbe/energy`."""
        return f"{self.head}/{self.target}" if self.head else self.target


@dataclass(frozen=True, slots=True)
class TargetErrors:
    """Errors of one target over present elements, in the unit of its `TargetMetric`."""

    rmse: float
    """Root of the mean square error; NaN without labels."""
    mae: float
    """Mean absolute error; NaN without labels."""
    count: int
    """Number of elements compared."""


def target_metrics(targets: TargetsConfig, *, compute_forces: bool, heads: Sequence[str] = ()) -> list[TargetMetric]:
    """One metric per target: energies per atom in meV, forces in meV/Å, stress in meV/Å³, others as they are.

    Args:
        targets: Target of every output.
        compute_forces: Whether the node vector is the force.
        heads: Levels of theory of the model; where there are several, each is also measured alone.
    """
    metrics = []
    for output, names in output_targets(targets).items():
        for column, target in enumerate(names):
            is_energy = target == targets.energy and (
                compute_forces or targets.stress is not None or "energy" in target.lower()
            )
            is_force = output == "y_node_vector" and (compute_forces or "force" in target.lower())
            columns = slice(column, column + 1) if output.endswith("_scalars") else slice(None)
            factor, unit, symbol = 1.0, _unit(target), target
            if is_energy:
                factor, unit, symbol = 1000.0, "meV/atom", "E"
            elif is_force:
                factor, unit, symbol = 1000.0, "meV/Å", "F"
            elif output == "stress":
                factor, unit, symbol = 1000.0, "meV/Å³", "S"
            metrics.append(TargetMetric(target, output, columns, is_energy, factor, unit, symbol))
    levels = list(enumerate(heads)) if len(heads) > 1 else []
    return metrics + [replace(metric, head=head, head_index=i) for i, head in levels for metric in metrics]


def _unit(target: str) -> str:
    """Unit of a target that is neither energy, force nor stress, as far as its name tells."""
    name = target.lower()
    if "energy" in name:
        return "eV"
    if "dipole" in name:
        return "e·Å"
    return "e" if "charge" in name else ""


def structure_sums(predictions: dict[str, Tensor], batch: Batch, metrics: list[TargetMetric]) -> Tensor:
    """Sum of squares, sum of absolute values and number of the errors of every structure and target.

    Args:
        predictions: By documented key.
        batch: Labels by target name; NaN where missing.
        metrics: What to measure. A target whose output was not predicted counts no elements.

    Returns:
        float64 [G, M, 3], in macekit's units (energies per atom).
    """
    graph = batch.graph
    sums = torch.zeros(graph.num_graphs, len(metrics), 3, dtype=torch.float64, device=graph.positions.device)
    for index, (metric, error, present) in _errors(predictions, batch, metrics):
        count = torch.ones_like(error) if present is None else present.to(error.dtype)
        rows = torch.stack([error.square().sum(1), error.abs().sum(1), count.sum(1)], dim=1)
        if metric.output.startswith("y_node"):
            sums[:, index] = sums[:, index].index_add(0, graph.batch, rows)
        else:
            sums[:, index] = rows
        if metric.head:
            sums[:, index] *= (graph.head == metric.head_index)[:, None]
    return sums


def batch_sums(predictions: dict[str, Tensor], batch: Batch, metrics: list[TargetMetric]) -> Tensor:
    """`structure_sums` over all structures of the batch, float64 [M, 3]; with several heads by way of them."""
    if any(metric.head for metric in metrics):
        return structure_sums(predictions, batch, metrics).sum(0)
    zero = torch.zeros((), dtype=torch.float64, device=batch.graph.positions.device)
    sums = [zero] * (3 * len(metrics))
    for index, (_, error, present) in _errors(predictions, batch, metrics):
        count = zero.new_full((), error.numel()) if present is None else present.sum().to(error.dtype)
        sums[3 * index : 3 * index + 3] = [error.square().sum(), error.abs().sum(), count]
    return torch.stack(sums).view(-1, 3)


def _errors(
    predictions: dict[str, Tensor], batch: Batch, metrics: list[TargetMetric]
) -> Iterator[tuple[int, tuple[TargetMetric, Tensor, Tensor | None]]]:
    """Position of every metric whose output was predicted, with its errors and where there are labels; zeros elsewhere.

    Energies are per atom; None: there are labels everywhere.
    """
    names: dict[str, list[str]] = {}
    for metric in metrics:
        if not metric.head:
            names.setdefault(metric.output, []).append(metric.target)
    differences: dict[str, tuple[Tensor, Tensor | None]] = {}
    for output, targets in names.items():
        if output in predictions:
            labels = stacked_labels(batch, targets, output)
            present = present_labels(labels)
            error = predictions[output].detach().to(torch.float64).reshape(labels.shape) - labels
            differences[output] = error if present is None else torch.where(present, error, 0.0), present
    for index, metric in enumerate(metrics):
        if metric.output in differences:
            error, present = differences[metric.output]
            error = error[:, metric.columns]
            if metric.per_atom:
                error = error / batch.graph.nodes_per_graph()[:, None].to(torch.float64)
            yield index, (metric, error, None if present is None else present[:, metric.columns])


def errors_from_sums(sums: Tensor, metrics: list[TargetMetric]) -> dict[str, TargetErrors]:
    """Errors by name of the metric in its printed unit, from sums [M, 3] over structures, batches, processes."""
    found = {}
    for metric, (square, absolute, count) in zip(metrics, sums.tolist(), strict=True):
        if count:
            rmse = metric.factor * math.sqrt(square / count)
            found[metric.name] = TargetErrors(rmse, metric.factor * absolute / count, int(count))
        else:
            found[metric.name] = TargetErrors(math.nan, math.nan, 0)
    return found
