"""The neighbour list with a skin gives what a new search gives."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from macekit.data import Structure
from macekit.errors import UsageError
from macekit.geometry.neighbours import neighbour_pairs
from macekit.geometry.verlet import VerletList

CUTOFF = 4.0


def systems() -> dict[str, Atoms]:
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.pbc = (True, True, False)
    wire = bulk("Cu", cubic=True).repeat((3, 1, 1))
    wire.pbc = (True, False, False)
    return {
        "molecule": molecule("C6H6"),
        "many atoms": Atoms("He100", np.random.default_rng(0).uniform(0, 12, (100, 3))),
        "bulk": bulk("AlN", "wurtzite", a=3.11, c=4.98).repeat(2),
        "small cell": bulk("Cu"),
        "slab": slab,
        "wire": wire,
        "one atom": Atoms("He"),
    }


@pytest.mark.parametrize("name", systems())
def test_moving_atoms_and_cells_give_the_pairs_of_a_new_search(name: str) -> None:
    atoms, rng = systems()[name], np.random.default_rng(1)
    lists = VerletList(CUTOFF, 0.6)
    for step in range(60):
        atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
        if step % 3 == 0 and atoms.pbc.any():
            atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.normal(0.0, 0.003, (3, 3))), scale_atoms=step % 2 == 0)
        if step == 40:
            atoms.wrap()
        structure = Structure.from_ase(atoms)
        for found, expected in zip(lists.pairs(structure), neighbour_pairs(structure, CUTOFF), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert 1 < lists.num_searches < 60


def test_a_list_serves_until_an_atom_has_moved_half_the_skin() -> None:
    lists = VerletList(CUTOFF, 1.0)
    for distance, searches in ((4.9, 1), (4.9, 1), (4.5, 2), (4.01, 2), (3.99, 3), (4.4, 3), (3.5, 3), (4.5, 4)):
        lists.pairs(Structure.from_ase(Atoms("He2", [[0, 0, 0], [0, 0, distance]])))
        assert lists.num_searches == searches


def test_other_atoms_get_a_list_of_their_own() -> None:
    lists = VerletList(CUTOFF, 1.0)
    for atoms in (molecule("H2O"), molecule("CH3OH"), molecule("H2O"), molecule("H2O")):
        structure = Structure.from_ase(atoms)
        np.testing.assert_array_equal(lists.pairs(structure)[0], neighbour_pairs(structure, CUTOFF)[0])
    assert lists.num_searches == 3  # the last has not moved


def test_the_shortest_distance_is_known() -> None:
    lists = VerletList(CUTOFF)
    lists.pairs(Structure.from_ase(Atoms("He2", [[0, 0, 0], [0, 0, 1.5]])))
    assert lists.shortest == 1.5
    lists.pairs(Structure.from_ase(Atoms("He")))
    assert lists.shortest == np.inf


@pytest.mark.parametrize("skin", [-0.1, float("nan"), float("inf")])
def test_a_skin_is_a_length(skin: float) -> None:
    with pytest.raises(UsageError, match=r"skin: expected a length in Å, zero or more, got"):
        VerletList(CUTOFF, skin)
