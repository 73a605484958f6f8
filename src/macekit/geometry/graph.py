"""The batched atomic graph: the one input of every model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Graph(NamedTuple):
    """One or several structures as one graph. Immutable; `_replace` makes a changed copy.

    Letters: N atoms, E edges, G structures, F additional atom features, B bond features.
    Edges are sorted by receiver. The vector of an edge is x[receiver] − x[sender] + S·cell: the receiver's image
    at S·cell, seen from the sender.
    """

    species: Tensor
    """Index of each atom's element in the model's list of elements, int64 [N]."""
    positions: Tensor
    """Cartesian positions, float64 [N, 3], Å."""
    cell: Tensor
    """Lattice vectors as rows, float64 [G, 3, 3], Å; zeros where there are none."""
    pbc: Tensor
    """Periodicity along each lattice vector, bool [G, 3]."""
    edge_index: Tensor
    """int64 [2, E]: row 0 sender j, row 1 receiver i; messages flow j → i."""
    edge_shifts: Tensor
    """Number of cells along each lattice vector that an edge crosses, float64 [E, 3] (whole numbers)."""
    batch: Tensor
    """Structure of each atom, int64 [N], ascending."""
    node_features: Tensor
    """Additional atom features, float64 [N, F]; F may be 0."""
    edge_features: Tensor
    """Bond features, float64 [E, B]; B may be 0."""
    head: Tensor
    """Level of theory of each structure, an index in the model's heads, int64 [G]; 0 where there is one."""

    @property
    def num_nodes(self) -> int:
        """Number of atoms."""
        return self.species.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.shape[1]

    @property
    def num_graphs(self) -> int:
        """Number of structures."""
        return self.cell.shape[0]

    def nodes_per_graph(self) -> Tensor:
        """Number of atoms of each structure, int64 [G]."""
        return torch.bincount(self.batch, minlength=self.num_graphs)

    def to(self, device: torch.device | str) -> Self:
        """The same graph on another device."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self))


def collate(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one, atoms and edges in the given order.

    Raises:
        ValueError: If there is no graph.
    """
    if not graphs:
        raise ValueError("collate: expected at least one graph, got none")
    node_offset = graph_offset = 0
    edge_index, batch = [], []
    for graph in graphs:
        edge_index.append(graph.edge_index + node_offset)
        batch.append(graph.batch + graph_offset)
        node_offset += graph.num_nodes
        graph_offset += graph.num_graphs
    return Graph(
        species=torch.cat([graph.species for graph in graphs]),
        positions=torch.cat([graph.positions for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        pbc=torch.cat([graph.pbc for graph in graphs]),
        edge_index=torch.cat(edge_index, dim=1),
        edge_shifts=torch.cat([graph.edge_shifts for graph in graphs]),
        batch=torch.cat(batch),
        node_features=torch.cat([graph.node_features for graph in graphs]),
        edge_features=torch.cat([graph.edge_features for graph in graphs]),
        head=torch.cat([graph.head for graph in graphs]),
    )
