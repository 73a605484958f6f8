"""Edge vectors: the one place where positions, cells and shifts meet."""

from __future__ import annotations

import torch
from torch import Tensor

from macekit.geometry.graph import Graph


def edge_vectors(graph: Graph) -> Tensor:
    """Vector from sender to receiver's image for every edge.

    r = x[receiver] − x[sender] + S·cell[batch[sender]], computed in float64 whatever the network's precision.

    Args:
        graph: Batched graph.

    Returns:
        Edge vectors, float64 [E, 3], Å. Differentiable with respect to positions and cell, twice.
    """
    sender, receiver = graph.edge_index
    difference = graph.positions.index_select(0, receiver) - graph.positions.index_select(0, sender)  # [E, 3]
    if not bool(graph.pbc.any()):
        return difference
    cells = graph.cell.index_select(0, graph.batch.index_select(0, sender))  # [E, 3, 3]
    return difference + torch.einsum("ei,eij->ej", graph.edge_shifts, cells)


def strained(graph: Graph, strain: Tensor) -> Graph:
    """The graph deformed by x → x (1 + ε), cell → cell (1 + ε).

    Args:
        graph: Batched graph.
        strain: Symmetric strain of every structure, float64 [G, 3, 3], dimensionless.
    """
    per_atom = strain.index_select(0, graph.batch)  # [N, 3, 3]
    return graph._replace(
        positions=graph.positions + torch.einsum("ni,nij->nj", graph.positions, per_atom),
        cell=graph.cell + graph.cell @ strain,
    )
