"""Neighbour lists against ASE's, against what they must satisfy, and at the extremes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import structures as named
from macekit.data import Structure
from macekit.errors import DataError
from macekit.geometry.neighbours import graph_from_structure, neighbour_pairs, periodic_cell
from macekit.geometry.sparse_neighbours import is_sparse, sparse_pairs
from macekit.geometry.vectors import edge_vectors


def as_set(sender: np.ndarray, receiver: np.ndarray, shifts: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(map(int, row)) for row in np.column_stack([sender, receiver, shifts])}


def compare_with_ase(structure: Structure, cutoff: float) -> int:
    """The same pairs, except those within rounding of the cutoff; returns their number."""
    atoms = Atoms(structure.atomic_numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    first, second, shifts, lengths = neighbor_list("ijSd", atoms, cutoff)
    clear = np.abs(lengths - cutoff) > 1e-9
    expected = as_set(first[clear], second[clear], shifts[clear])
    found_pairs = neighbour_pairs(structure, cutoff)
    found = as_set(*found_pairs)
    assert len(found) == len(found_pairs[0]), "an edge occurs twice"
    assert expected <= found
    vectors = edge_vectors(graph_from_structure(structure, np.unique(structure.atomic_numbers).tolist(), cutoff))
    extra = found - expected
    if extra:
        index = [k for k, row in enumerate(np.column_stack(found_pairs)) if tuple(map(int, row)) in extra]
        assert np.all(np.abs(vectors[index].norm(dim=1).numpy() - cutoff) < 1e-9)
    return len(found)


@pytest.mark.parametrize("maker", [*named.PERIODIC.values(), *named.MOLECULES.values(), named.middle_wire])
def test_same_as_ase(maker: Callable[[], Structure]) -> None:
    assert compare_with_ase(maker(), named.CUTOFF) > 0


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_same_as_ase_in_random_cells(data: st.DataObject) -> None:
    """Skewed and small cells, all masks of periodicity, atoms up to 50 cells outside."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(data.draw(st.tuples(*[st.booleans()] * 3)))
    count = data.draw(st.integers(1, 5))
    cell = np.diag(generator.uniform(1.8, 6.0, 3))
    cell[np.tril_indices(3, -1)] = generator.uniform(-4.0, 4.0, 3)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    cell = cell @ rotation
    cells = generator.integers(-50, 51, (count, 3)) * pbc
    positions = (generator.uniform(size=(count, 3)) + cells) @ cell
    structure = Structure(np.full(count, 29), positions, cell, pbc)
    compare_with_ase(structure, data.draw(st.sampled_from([1.0, 2.5, 4.0])))


@pytest.mark.parametrize("maker", list(named.PERIODIC.values()))
def test_identities(maker: Callable[[], Structure]) -> None:
    """Every edge has its opposite; nothing is its own neighbour; edges are sorted by receiver."""
    structure = maker()
    graph = graph_from_structure(structure, named.ELEMENTS, named.CUTOFF)
    sender, receiver = graph.edge_index
    rows = {tuple(map(int, (s, r, *shift))) for s, r, shift in zip(sender, receiver, graph.edge_shifts, strict=True)}
    assert rows == {(r, s, -a, -b, -c) for s, r, a, b, c in rows}
    assert not any(s == r and (a, b, c) == (0, 0, 0) for s, r, a, b, c in rows)
    assert bool((receiver.diff() >= 0).all())
    vectors = edge_vectors(graph)
    lengths = vectors.norm(dim=1)
    assert float(lengths.max()) <= named.CUTOFF
    expected = torch.tensor(structure.positions)[receiver] - torch.tensor(structure.positions)[sender]
    assert torch.allclose(vectors, expected + graph.edge_shifts @ torch.tensor(structure.cell), atol=1e-12)
    assert torch.count_nonzero(graph.edge_shifts[:, ~torch.tensor(structure.pbc)]) == 0


def test_known_counts() -> None:
    """On which matscipy, ASE and vesin agree: one atom in a cell of 1 Å within 6 Å, and a cell with γ = 10°."""
    cubic = named.structure([29], [[0.0, 0.0, 0.0]], np.eye(3), "TTT")
    assert len(neighbour_pairs(cubic, 5.999999)[0]) > 0
    inside = [np.linalg.norm(v) for v in np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), -1).reshape(-1, 3) if np.any(v)]
    assert len(neighbour_pairs(cubic, 5.9)[0]) == sum(length < 5.9 for length in inside)


def test_far_outside() -> None:
    """Atoms 10,000 Å outside their cell, and a slab moved by 1000 Å along its normal, have the same neighbours."""
    for structure, move in (
        (named.triclinic(), np.array([3000.0, 0, 0]) @ named.triclinic().cell),
        (named.slab(), np.array([0.0, 0.0, 1000.0])),
    ):
        moved = Structure(structure.atomic_numbers, structure.positions + move, structure.cell, structure.pbc)
        assert as_set(*neighbour_pairs(moved, 3.2)) == as_set(*neighbour_pairs(structure, 3.2))


@pytest.mark.parametrize("distance", [1e3, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("pbc", ["FFF", "TFF", "TTF", "FTT"])
def test_few_atoms_in_much_space(distance: float, pbc: str) -> None:
    """On such structures vesin takes minutes, or divides by zero and ends the process."""
    pair = np.array([[0.0, 0.0, 0.0], [0.7, 0.2, 0.1]])
    positions = np.concatenate(
        [pair, pair + np.array([0, 0, distance]), pair + np.array([distance, 10 * distance, 0.9])]
    )
    cell = np.array([[3.0, 0.2, 0.1], [0.0, 3.1, 0.0], [0.3, 0.0, 2.9]])
    structure = named.structure([1] * 6, positions, cell, pbc)
    sender, receiver, shifts = neighbour_pairs(structure, 2.0)
    vectors = positions[receiver] - positions[sender] + shifts @ cell
    assert np.all(np.linalg.norm(vectors, axis=1) < 2.0)
    assert len(sender) >= 6


def test_flat_cells() -> None:
    """Periodic along all directions, and flat."""
    for lengths in ([1e4, 1e3, 9.0], [1e5, 1e5, 3.0], [3.0, 3.0, 1e6]):
        structure = named.structure([1, 1], [[0, 0, 0], [1, 0, 0]], np.diag(lengths), "TTT")
        rows = as_set(*neighbour_pairs(structure, 3.2))
        expected = {
            (s, r, a, b, c)
            for s in (0, 1)
            for r in (0, 1)
            for a in range(-2, 3)
            for b in range(-2, 3)
            for c in range(-2, 3)
        }
        assert rows == {
            row
            for row in expected
            if 0 < np.linalg.norm(np.array([row[1] - row[0], 0, 0]) + np.array(row[2:]) * lengths) < 3.2
        }


@pytest.mark.parametrize("maker", [*named.PERIODIC.values(), *named.MOLECULES.values(), named.middle_wire])
def test_tree_gives_the_same(maker: Callable[[], Structure]) -> None:
    structure = maker()
    cell = periodic_cell(structure)
    cells = np.floor(structure.positions @ np.linalg.inv(cell)) * structure.pbc
    sender, receiver, shifts = sparse_pairs(structure.positions - cells @ cell, cell, structure.pbc, 3.2)
    shifts = shifts + cells[sender] - cells[receiver]
    assert as_set(sender, receiver, shifts) == as_set(*neighbour_pairs(structure, 3.2))


@pytest.mark.parametrize("maker", [*named.PERIODIC.values(), *named.MOLECULES.values()])
def test_ordinary_structures_use_the_grid(maker: Callable[[], Structure]) -> None:
    structure = maker()
    assert not is_sparse(structure.positions, periodic_cell(structure), structure.pbc, 5.0)


def test_cell_is_irrelevant_where_nothing_repeats() -> None:
    molecule = named.water()
    boxed = named.structure(molecule.atomic_numbers, molecule.positions, 0.5 * np.eye(3))
    assert as_set(*neighbour_pairs(boxed, 3.2)) == as_set(*neighbour_pairs(molecule, 3.2))
    slab = named.slab()
    cell = np.array(slab.cell)
    cell[2] = 0.0
    flat = Structure(slab.atomic_numbers, slab.positions, cell, slab.pbc)
    assert as_set(*neighbour_pairs(flat, 3.2)) == as_set(*neighbour_pairs(slab, 3.2))


def test_no_atoms() -> None:
    graph = graph_from_structure(named.zero_atoms(), named.ELEMENTS, 3.0)
    assert (graph.num_nodes, graph.num_edges, graph.num_graphs) == (0, 0, 1)
    assert graph.nodes_per_graph().tolist() == [0]


def test_types() -> None:
    graph = graph_from_structure(named.triclinic(), named.ELEMENTS, 3.0)
    assert {name: tensor.dtype for name, tensor in graph._asdict().items()} == {
        "species": torch.int64,
        "positions": torch.float64,
        "cell": torch.float64,
        "pbc": torch.bool,
        "edge_index": torch.int64,
        "edge_shifts": torch.float64,
        "batch": torch.int64,
        "node_features": torch.float64,
        "edge_features": torch.float64,
        "head": torch.int64,
    }
    assert graph.species.tolist() == [3, 2, 1]


def test_unknown_elements() -> None:
    structure = Structure(np.array([29, 1, 8, 1]), np.eye(4, 3) * 5, source="a.extxyz frame 3")
    with pytest.raises(
        DataError, match=r"a.extxyz frame 3: model knows Al, Cu; structure has H, O \(first at atom 1\)"
    ):
        graph_from_structure(structure, [13, 29], 3.0)
    with pytest.raises(DataError, match="structure has Cu"):
        graph_from_structure(structure, [1, 8], 3.0)


def test_too_many_edges() -> None:
    crowded = named.structure([29] * 200, np.zeros((200, 3)), 0.01 * np.eye(3), "TTT")
    with pytest.raises(
        DataError, match=r"structure: about .* pairs within 5.0 Å \(200 atoms in .* Å³\), .* check the cell"
    ):
        neighbour_pairs(crowded, 5.0)


class TestBonds:
    """Bond features: on both directions of the shortest edge of the pair, nowhere else."""

    @staticmethod
    def bonded(bonds: list[list[int]], features: list[list[float]]) -> Structure:
        water = named.water()
        return Structure(water.atomic_numbers, water.positions, bonds=np.array(bonds), bond_features=np.array(features))

    def test_both_directions(self) -> None:
        graph = graph_from_structure(self.bonded([[0, 1]], [[1.0, 2.0]]), named.ELEMENTS, 3.0, 2)
        for (s, r), row in zip(graph.edge_index.T.tolist(), graph.edge_features.tolist(), strict=True):
            assert row == ([1.0, 2.0] if {s, r} == {0, 1} else [0.0, 0.0])

    def test_shortest_image(self) -> None:
        cell = named.primitive_copper().cell
        pair = Structure(
            np.array([29, 8]),
            np.array([[0.0, 0.0, 0.0], [1.3, 0.2, 0.1]]),
            cell,
            np.ones(3, bool),
            bonds=np.array([[0, 1]]),
            bond_features=np.array([[1.0]]),
        )
        graph = graph_from_structure(pair, named.ELEMENTS, 3.2, 1)
        marked = graph.edge_features[:, 0] == 1.0
        assert int(marked.sum()) == 2
        lengths = edge_vectors(graph).norm(dim=1)
        assert torch.allclose(lengths[marked], lengths[graph.edge_index[0] != graph.edge_index[1]].min())

    def test_missing_bonds_are_zero(self) -> None:
        assert graph_from_structure(named.water(), named.ELEMENTS, 3.0, 2).edge_features.shape == (6, 2)

    def test_refused(self) -> None:
        with pytest.raises(DataError, match="bonds have 2 features, expected 3"):
            graph_from_structure(self.bonded([[0, 1]], [[1.0, 2.0]]), named.ELEMENTS, 3.0, 3)
        with pytest.raises(DataError, match=r"bond between atoms 1 and 2 is longer than the cutoff of 1.2 Å"):
            graph_from_structure(self.bonded([[1, 2]], [[1.0]]), named.ELEMENTS, 1.2, 1)
