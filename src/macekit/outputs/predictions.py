"""Predictions by the targets' own names, for any number of structures, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from macekit.config import TargetsConfig
from macekit.data import Structure
from macekit.geometry.batch import LABEL_SHAPES
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_for
from macekit.model.mace import Mace
from macekit.outputs.compiled import Evaluator

FloatArray = NDArray[np.float64]
Predictions = dict[str, FloatArray | list[FloatArray]]
"""By target: an array with one row per structure, or for values per atom a list with one array per structure."""

STD = "::std"
"""What follows a target's name for its standard deviation."""


def predict(
    model: Mace,
    structures: Sequence[Structure],
    *,
    batch_edges: int = 50_000,
    batch_structures: int = 256,
    evaluator: Evaluator | None = None,
) -> Predictions:
    """Every target of every structure.

    Args:
        model: The model.
        structures: G structures; none give empty results.
        batch_edges: Edges in a batch, unless one structure alone has more.
        batch_structures: Structures in a batch.
        evaluator: What evaluates the model; None: one for this call.

    Returns:
        Float64, by target name: graph scalars [G] (with a variance also `name::std` [G]), graph vectors [G, 3],
        stress [G, 3, 3], NaN for structures without periodicity; node scalars and vectors as lists of [N] and
        [N, 3], forces among them.

    Raises:
        DataError: If a structure has an element or a head that the model does not know.
    """
    kinds = target_kinds(model)
    evaluator = Evaluator(model) if evaluator is None else evaluator
    collected: dict[str, list[FloatArray]] = {name: [] for name in kinds}
    for graph in _batches(model, structures, batch_edges, batch_structures):
        sizes = graph.nodes_per_graph().tolist()
        found = by_target(model.facts.targets, evaluator(graph.to(model.device)))
        for name, kind in kinds.items():
            value = found[name].cpu()
            parts = value.split(sizes) if kind.startswith("node") else value.split(1)
            collected[name] += [part.numpy() if kind.startswith("node") else part[0].numpy() for part in parts]
    return {
        name: values if kinds[name].startswith("node") else np.reshape(values, (-1, *LABEL_SHAPES[kinds[name]]))
        for name, values in collected.items()
    }


def target_kinds(model: Mace) -> dict[str, str]:
    """Kind of everything a model predicts by name, standard deviations included."""
    kinds = model.facts.targets.kinds()
    if model.config.uncertainty == "gaussian":
        kinds |= {f"{name}{STD}": "graph_scalar" for name in model.facts.targets.y_graph_scalars}
    return kinds


def by_target(targets: TargetsConfig, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs by documented key as outputs by target name, a column each.

    Args:
        targets: Names of the targets.
        outputs: As `evaluate` gives them.

    Returns:
        Graph scalars [G], graph vectors [G, 3], node scalars [N], node vectors [N, 3], stress [G, 3, 3]; standard
        deviations [G] under `name::std`.
    """
    found: dict[str, Tensor] = {}
    columns = (
        ("y_graph_scalars", targets.y_graph_scalars, ""),
        (f"y_graph_scalars{STD}", targets.y_graph_scalars, STD),
        ("y_node_scalars", targets.y_node_scalars, ""),
    )
    for key, names, suffix in columns:
        if key in outputs:
            found |= {f"{name}{suffix}": outputs[key][:, column] for column, name in enumerate(names)}
    for key, target in (
        ("y_graph_vector", targets.y_graph_vector),
        ("y_node_vector", targets.y_node_vector),
        ("stress", targets.stress),
    ):
        if target is not None and key in outputs:
            found[target] = outputs[key]
    return found


def _batches(model: Mace, structures: Sequence[Structure], batch_edges: int, batch_structures: int) -> Iterator[Graph]:
    """Graphs of consecutive structures; one at a time is made, so that memory stays bounded."""
    waiting: list[Graph] = []
    edges = 0
    for structure in structures:
        graph = graph_for(structure, model.facts)
        if waiting and (edges + graph.num_edges > batch_edges or len(waiting) == batch_structures):
            yield collate(waiting)
            waiting, edges = [], 0
        waiting.append(graph)
        edges += graph.num_edges
    if waiting:
        yield collate(waiting)


__all__ = ["STD", "Predictions", "by_target", "predict", "target_kinds"]
