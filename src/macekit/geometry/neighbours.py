"""From one structure to its graph: species, neighbour list, bond features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from numpy.typing import NDArray
from vesin import NeighborList

from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.errors import DataError
from macekit.geometry.graph import Graph
from macekit.geometry.sparse_neighbours import is_sparse, sparse_pairs

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Pairs = tuple[IntArray, IntArray, FloatArray]
"""Sender, receiver and cell shift of every directed edge."""
MAX_EDGES = 1_000_000_000
SMALL_MOLECULE = 64
"""Atoms up to which comparing all pairs is faster than a grid of cells."""


def graph_from_structure(
    structure: Structure,
    elements: Sequence[int],
    cutoff: float,
    num_edge_features: int = 0,
    pairs: Pairs | None = None,
    head: int = 0,
) -> Graph:
    """Graph of one structure with all pairs of atoms and images closer than the cutoff.

    Args:
        structure: The structure; atoms may lie outside the cell, by any number of cells.
        elements: Atomic numbers the model knows, ascending.
        cutoff: Å.
        num_edge_features: Number of bond features the model expects.
        pairs: What `neighbour_pairs` would find, where it is known already; see `geometry.verlet`.
        head: Level of theory, an index in the model's heads.

    Raises:
        DataError: For an element that is not known, a bond beyond the cutoff, or more edges than memory can hold.
    """
    species = species_of(structure, elements)
    sender, receiver, shifts = neighbour_pairs(structure, cutoff) if pairs is None else pairs
    edge_features = _edge_features(structure, sender, receiver, shifts, num_edge_features, cutoff)
    return Graph(
        species=torch.as_tensor(species),
        positions=torch.tensor(structure.positions, dtype=torch.float64),
        cell=torch.tensor(structure.cell, dtype=torch.float64)[None],
        pbc=torch.tensor(structure.pbc, dtype=torch.bool)[None],
        edge_index=torch.as_tensor(np.stack([sender, receiver])),
        edge_shifts=torch.as_tensor(shifts),
        batch=torch.zeros(len(species), dtype=torch.int64),
        node_features=torch.tensor(structure.node_features, dtype=torch.float64),
        edge_features=torch.as_tensor(edge_features),
        head=torch.tensor([head]),
    )


def graph_for(structure: Structure, facts: DatasetFacts, pairs: Pairs | None = None) -> Graph:
    """Graph of one structure for a model with these facts.

    Args:
        structure: The structure.
        facts: Elements, cutoff, features and heads of the model.
        pairs: As in `graph_from_structure`.

    Raises:
        DataError: As in `graph_from_structure`, or where the structure names no level of theory that the model has.
    """
    head = facts.head_index(structure.head, structure.source)
    return graph_from_structure(structure, facts.elements, facts.cutoff, facts.num_edge_features, pairs, head)


def species_of(structure: Structure, elements: Sequence[int]) -> IntArray:
    """Index of every atom's element in the list of known elements, int64 [N].

    Raises:
        DataError: If an element is not in the list; names the first such atom.
    """
    known = np.asarray(elements, dtype=np.int64)
    numbers = structure.atomic_numbers
    index = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    if (unknown := np.flatnonzero(known[index] != numbers)).size:
        symbols = ", ".join(dict.fromkeys(_symbol(z) for z in numbers[unknown].tolist()))
        where = f"{structure.source}: " if structure.source else ""
        raise DataError(
            f"{where}model knows {', '.join(_symbol(z) for z in known.tolist())}; structure has {symbols} "
            f"(first at atom {unknown[0]})",
            "train or fine-tune a model on data with these elements",
        )
    return index.astype(np.int64)


def neighbour_pairs(structure: Structure, cutoff: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Sender, receiver and cell shift of every directed edge, sorted by receiver, sender, shift.

    Returns:
        int64 [E], int64 [E], float64 [E, 3]; x[receiver] − x[sender] + S·cell is shorter than the cutoff.
    """
    if structure.num_atoms == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3))
    if structure.num_atoms <= SMALL_MOLECULE and not structure.is_periodic:
        return _molecule_pairs(structure.positions, cutoff)
    cell = periodic_cell(structure)
    _refuse_too_many_edges(structure, cell, cutoff)
    cells = np.floor(structure.positions @ np.linalg.inv(cell)) * structure.pbc  # [N, 3]
    points = structure.positions - cells @ cell
    if is_sparse(points, cell, structure.pbc, cutoff):
        sender, receiver, shifts = sparse_pairs(points, cell, structure.pbc, cutoff)
    else:
        pairs = NeighborList(cutoff=cutoff, full_list=True)
        first, second, shifts = pairs.compute(
            points=points, box=cell, periodic=structure.pbc.tolist(), quantities="ijS"
        )
        sender, receiver = first.astype(np.int64), second.astype(np.int64)
    shifts = shifts + cells[sender] - cells[receiver]
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], sender, receiver))
    return sender[order], receiver[order], shifts[order].astype(np.float64)


def _molecule_pairs(positions: FloatArray, cutoff: float) -> tuple[IntArray, IntArray, FloatArray]:
    """The same for a few atoms without periodicity, by the distances of all of them."""
    difference = positions[:, None] - positions
    is_near = np.einsum("ijk,ijk->ij", difference, difference) < cutoff * cutoff
    np.fill_diagonal(is_near, False)
    receiver, sender = np.nonzero(is_near)
    return sender, receiver, np.zeros((len(sender), 3))


def periodic_cell(structure: Structure) -> FloatArray:
    """The cell with orthogonal unit vectors in place of those along which nothing repeats."""
    cell = np.where(structure.pbc[:, None], structure.cell, 0.0)
    return np.asarray(complete_cell(cell), dtype=np.float64)


def _refuse_too_many_edges(structure: Structure, cell: FloatArray, cutoff: float) -> None:
    if not structure.pbc.all():
        return
    volume = abs(float(np.linalg.det(cell)))
    expected = structure.num_atoms**2 / max(volume, 1e-300) * 4.0 / 3.0 * np.pi * cutoff**3
    if expected > MAX_EDGES:
        raise DataError(
            f"{structure.source or 'structure'}: about {expected:.1e} pairs within {cutoff} Å "
            f"({structure.num_atoms} atoms in {volume:.3g} Å³), which needs some {expected * 1e-6:.0f} GB; "
            "check the cell and its unit"
        )


def _edge_features(
    structure: Structure,
    sender: IntArray,
    receiver: IntArray,
    shifts: FloatArray,
    num_edge_features: int,
    cutoff: float,
) -> FloatArray:
    """Features of bonds on both directions of their shortest edge, zero elsewhere, float64 [E, B]."""
    features = np.zeros((len(sender), num_edge_features))
    if num_edge_features == 0 or len(structure.bonds) == 0:
        return features
    if structure.bond_features.shape[1] != num_edge_features:
        raise DataError(
            f"{structure.source or 'structure'}: bonds have {structure.bond_features.shape[1]} features, "
            f"expected {num_edge_features} as in the training data"
        )
    vectors = structure.positions[receiver] - structure.positions[sender] + shifts @ periodic_cell(structure)
    lengths = np.linalg.norm(vectors, axis=1)
    for (i, j), values in zip(structure.bonds.tolist(), structure.bond_features, strict=True):
        for start, end in ((i, j), (j, i)):
            candidates = np.flatnonzero((sender == start) & (receiver == end))
            if candidates.size == 0:
                raise DataError(
                    f"{structure.source or 'structure'}: the bond between atoms {i} and {j} is longer than the cutoff "
                    f"of {cutoff} Å; raise data.cutoff or drop the bond"
                )
            features[candidates[np.argmin(lengths[candidates])]] += values
    return features


def _symbol(atomic_number: int) -> str:
    return chemical_symbols[atomic_number] if 0 < atomic_number < len(chemical_symbols) else f"Z={atomic_number}"
