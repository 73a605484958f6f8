"""Batches made by hand: two structures, of 2 and 3 atoms, with whatever labels a test wants."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from macekit.geometry.batch import Batch
from macekit.geometry.graph import Graph

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

MakeBatch = Callable[..., Batch]


@pytest.fixture
def make_batch() -> MakeBatch:
    def make(
        labels: dict[str, Tensor],
        *,
        atoms: tuple[int, ...] = (2, 3),
        weights: tuple[float, ...] | None = None,
        property_weights: dict[str, Tensor] | None = None,
        periodic: tuple[bool, ...] | None = None,
    ) -> Batch:
        count, total = len(atoms), sum(atoms)
        flags = torch.tensor(periodic or (False,) * count)
        graph = Graph(
            species=torch.zeros(total, dtype=torch.int64),
            positions=torch.zeros(total, 3, dtype=torch.float64),
            cell=torch.zeros(count, 3, 3, dtype=torch.float64),
            pbc=flags[:, None].expand(count, 3),
            edge_index=torch.zeros(2, 0, dtype=torch.int64),
            edge_shifts=torch.zeros(0, 3, dtype=torch.float64),
            batch=torch.repeat_interleave(torch.arange(count), torch.tensor(atoms)),
            node_features=torch.zeros(total, 0, dtype=torch.float64),
            edge_features=torch.zeros(0, 0, dtype=torch.float64),
            head=torch.zeros(count, dtype=torch.int64),
        )
        return Batch(
            graph=graph,
            labels=labels,
            weights=torch.tensor(weights or (1.0,) * count, dtype=torch.float64),
            property_weights=property_weights or {},
            indices=torch.arange(count),
        )

    return make
