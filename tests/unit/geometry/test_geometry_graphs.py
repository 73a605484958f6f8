"""Graphs, batches with labels, edge vectors, strain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import structures as named
from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.geometry.batch import GraphDataset
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.geometry.vectors import edge_vectors, strained
from models import facts_of


def graph_of(structure: Structure) -> Graph:
    return graph_from_structure(structure, named.ELEMENTS, named.CUTOFF)


def test_collate() -> None:
    parts = [graph_of(s) for s in named.batch_of_everything()]
    graph = collate(parts)
    assert graph.num_graphs == len(parts)
    assert graph.num_nodes == sum(part.num_nodes for part in parts)
    assert graph.num_edges == sum(part.num_edges for part in parts)
    assert graph.nodes_per_graph().tolist() == [part.num_nodes for part in parts]
    assert bool((graph.batch.diff() >= 0).all())
    assert bool((graph.edge_index[1].diff() >= 0).all())
    assert torch.equal(graph.batch[graph.edge_index[0]], graph.batch[graph.edge_index[1]])
    assert torch.allclose(edge_vectors(graph), torch.cat([edge_vectors(part) for part in parts]), atol=0, rtol=0)


def test_collate_of_batches_and_of_nothing() -> None:
    one, two = graph_of(named.water()), graph_of(named.triclinic())
    nested, flat = collate([collate([one, two]), one]), collate([one, two, one])
    assert all(torch.equal(a, b) for a, b in zip(nested, flat, strict=True))
    with pytest.raises(ValueError, match="expected at least one graph"):
        collate([])


def test_edge_vectors_have_derivatives() -> None:
    graph = collate([graph_of(named.water()), graph_of(named.triclinic())])
    positions, cell = graph.positions.clone().requires_grad_(), graph.cell.clone().requires_grad_()

    def vectors(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return edge_vectors(graph._replace(positions=x, cell=c)).pow(2)

    assert torch.autograd.gradcheck(vectors, (positions, cell))


def test_strain_deforms_vectors() -> None:
    graph = collate([graph_of(named.triclinic()), graph_of(named.slab())])
    generator = torch.Generator().manual_seed(0)
    strain = 0.01 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    strain = (strain + strain.mT) / 2
    per_edge = torch.eye(3, dtype=torch.float64) + strain[graph.batch[graph.edge_index[0]]]
    expected = torch.einsum("ei,eij->ej", edge_vectors(graph), per_edge)
    assert torch.allclose(edge_vectors(strained(graph, strain)), expected, atol=1e-12)


def dataset() -> GraphDataset:
    water, copper = named.water(), named.triclinic()
    labelled = water.with_targets(
        {"energy": -5.0, "forces": np.arange(9.0).reshape(3, 3), "dipole": [1.0, 2.0, 3.0], "charges": [0.1, 0.2, 0.3]}
    )
    weighted = Structure(
        copper.atomic_numbers,
        copper.positions,
        copper.cell,
        copper.pbc,
        targets={"stress": np.eye(3)},
        weight=2.5,
        property_weights={"energy": 0.5},
    )
    return GraphDataset([labelled, weighted, named.single_atom()], DatasetFacts.from_dict(facts_of()))


def test_labels() -> None:
    batch = dataset().batch([1, 0, 2])
    shapes = {name: tuple(value.shape) for name, value in batch.labels.items()}
    assert shapes == {
        "gap": (3,),
        "energy": (3,),
        "dipole": (3, 3),
        "charges": (7,),
        "shielding": (7,),
        "forces": (7, 3),
        "stress": (3, 3, 3),
    }
    assert all(value.dtype == torch.float64 for value in batch.labels.values())
    assert batch.labels["energy"].nan_to_num(9.0).tolist() == [9.0, -5.0, 9.0]
    assert batch.labels["gap"].isnan().all()
    assert batch.labels["forces"][3:6].tolist() == np.arange(9.0).reshape(3, 3).tolist()
    assert batch.labels["forces"][:3].isnan().all() and batch.labels["forces"][6:].isnan().all()
    assert batch.labels["stress"][0].tolist() == np.eye(3).tolist() and batch.labels["stress"][1:].isnan().all()
    assert batch.weights.tolist() == [2.5, 1.0, 1.0]
    assert {name: value.tolist() for name, value in batch.property_weights.items()} == {"energy": [0.5, 1.0, 1.0]}
    assert batch.indices.tolist() == [1, 0, 2]
    moved = batch.to("cpu")
    assert torch.equal(moved.graph.positions, batch.graph.positions)


def test_number_of_edges() -> None:
    found = dataset()
    assert len(found) == 3
    assert found.num_edges().tolist() == [found.batch([i]).graph.num_edges for i in range(3)]
    assert found.num_edges()[2] == 0
    shortest = min(float(edge_vectors(found.batch([i]).graph).norm(dim=1).min()) for i in range(2))
    assert found.shortest_edge() == shortest
    assert GraphDataset([named.single_atom()], found.facts).shortest_edge() == 0.0
