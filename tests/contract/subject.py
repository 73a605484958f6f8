"""What is under test: a model together with the way it is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate

Outputs = dict[str, Tensor]

RANKS = {
    "y_graph_scalars": 0,
    "y_graph_scalars::nodes": 0,
    "y_graph_scalars::std": 0,
    "y_graph_vector": 1,
    "y_node_scalars": 0,
    "y_node_vector": 1,
    "stress": 2,
}
"""How every output turns: number of Cartesian indices."""
PER_ATOM = {"y_graph_scalars::nodes", "y_node_scalars", "y_node_vector"}


@dataclass(frozen=True)
class Subject:
    """A model and how it is evaluated."""

    model: Mace
    evaluation: Callable[..., Outputs] = evaluate

    @property
    def is_double(self) -> bool:
        """Whether the network runs in float64."""
        return self.model.dtype == torch.float64

    def graph(self, *structures: Structure) -> Graph:
        """The structures as one graph, neighbour lists made anew."""
        facts = self.model.facts
        return collate([graph_from_structure(s, facts.elements, facts.cutoff) for s in structures])

    def __call__(self, graph: Graph, **options: Any) -> Outputs:
        """All outputs."""
        return self.evaluation(self.model, graph, **options)

    def energy(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The energy column, [G]."""
        targets = self.model.facts.targets
        return outputs["y_graph_scalars"][:, targets.y_graph_scalars.index("energy")]

    def atoms_of(self, graph: Graph, outputs: Outputs, chosen: Tensor) -> Outputs:
        """The outputs of some of the structures: `chosen` is bool [G]."""
        atoms = chosen[graph.batch]
        return {name: value[atoms if name in PER_ATOM else chosen] for name, value in outputs.items()}


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """Equality in which NaN equals NaN."""
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and torch.equal(found.isnan(), expected.isnan())
        and torch.equal(found.nan_to_num(), expected.nan_to_num())
    )


def assert_same_bits(found: Outputs, expected: Outputs, what: str) -> None:
    """Fail where any output differs in any bit."""
    assert found.keys() == expected.keys(), f"{what}: outputs {sorted(found)}, expected {sorted(expected)}"
    for name, value in expected.items():
        assert same_bits(found[name], value), f"{what}: {name} is not bitwise the same"
