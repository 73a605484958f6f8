"""Graphs together with their labels, and a data set that makes batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_for
from macekit.geometry.vectors import edge_vectors

LABEL_SHAPES = {"graph_scalar": (), "graph_vector": (3,), "node_scalar": (), "node_vector": (3,), "stress": (3, 3)}
"""Shape of one label, per structure or per atom, by kind of target."""


class Batch(NamedTuple):
    """Structures with their labels. G structures, N atoms."""

    graph: Graph
    """All structures as one graph."""
    labels: dict[str, Tensor]
    """Labels by target name, float64: graph scalars [G], graph vectors [G, 3], node scalars [N], node vectors [N, 3],
    stress [G, 3, 3]. NaN where missing."""
    weights: Tensor
    """Weight of every structure in losses, float64 [G]."""
    property_weights: dict[str, Tensor]
    """Weight of single targets, float64 [G] by target name; 1 for targets that are not here."""
    indices: Tensor
    """Position of every structure in its data set, int64 [G]."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(
            graph=self.graph.to(device),
            labels={name: label.to(device, non_blocking=True) for name, label in self.labels.items()},
            weights=self.weights.to(device, non_blocking=True),
            property_weights={name: w.to(device, non_blocking=True) for name, w in self.property_weights.items()},
            indices=self.indices.to(device, non_blocking=True),
        )


T = TypeVar("T")


class GraphDataset:
    """Structures with their graphs, which are made once.

    Args:
        structures: The structures, in order.
        facts: Elements, cutoff and targets of the model.

    Raises:
        DataError: If a structure has an element or a head that the facts do not list.
    """

    reads_when_asked = False
    """Whether structures are read, and graphs made, whenever they are asked for."""
    shuffle_window: int | None = None
    """Structures that are mixed with each other when they are shuffled; None: all."""

    def __init__(self, structures: Sequence[Structure], facts: DatasetFacts) -> None:
        self.structures: Sequence[Structure] = structures if self.reads_when_asked else tuple(structures)
        self.facts = facts
        self._kinds = facts.targets.kinds()
        self._graphs = self._each(lambda structure: graph_for(structure, facts))
        self._labels = self._each(self._labels_of)
        self._shortest: float | None = None

    def _each(self, make: Callable[[Structure], T]) -> Sequence[T]:
        """What is made of every structure, in order."""
        return [make(structure) for structure in self.structures]

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.structures)

    def num_edges(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Number of directed edges of every structure, int64 [len]."""
        return np.array([graph.num_edges for graph in self._graphs], dtype=np.int64)

    def shortest_edge(self) -> float:
        """Length of the shortest edge, Å; 0 where there are none. Looked for once."""
        if self._shortest is None:
            lengths = [edge_vectors(graph).norm(dim=1).min() for graph in self._graphs if graph.num_edges]
            self._shortest = float(torch.stack(lengths).min()) if lengths else 0.0
        return self._shortest

    def batch(self, indices: Sequence[int]) -> Batch:
        """The structures of these positions as one batch, in the given order."""
        chosen = [self.structures[i] for i in indices]
        weighted = sorted({name for structure in chosen for name in structure.property_weights})
        return Batch(
            graph=collate([self._graphs[i] for i in indices]),
            labels={name: torch.cat([self._labels[i][name] for i in indices]) for name in self._kinds},
            weights=torch.tensor([structure.weight for structure in chosen], dtype=torch.float64),
            property_weights={
                name: torch.tensor([s.property_weights.get(name, 1.0) for s in chosen], dtype=torch.float64)
                for name in weighted
            },
            indices=torch.tensor(list(indices), dtype=torch.int64),
        )

    def _labels_of(self, structure: Structure) -> dict[str, Tensor]:
        labels = {}
        for name, kind in self._kinds.items():
            count = structure.num_atoms if kind.startswith("node") else 1
            shape = (count, *LABEL_SHAPES[kind])
            value = structure.targets.get(name)
            labels[name] = (
                torch.full(shape, torch.nan, dtype=torch.float64)
                if value is None
                else torch.tensor(value, dtype=torch.float64).reshape(shape)
            )
        return labels
