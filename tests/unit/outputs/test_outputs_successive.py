"""Structures one after another give what each gives alone, by the engine and by the operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from macekit.data import Structure
from macekit.errors import DataError
from macekit.geometry.neighbours import graph_for
from macekit.kernels import dispatch
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.outputs.successive import Successive
from models import tiny_model
from structures import dimer, slab, triclinic, water

ENERGY = {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "stress": "stress"}
PATHS = ["engine", "operators"]


@pytest.fixture(params=PATHS)
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mace:
    if request.param == "engine" and not dispatch.is_compiled():
        pytest.skip("the C++ extension is not built")
    monkeypatch.setattr(dispatch, "is_compiled", lambda: request.param == "engine")
    return tiny_model(facts={"targets": ENERGY}).requires_grad_(False)


def largest_difference(model: Mace, found: dict[str, torch.Tensor], structure: Structure) -> float:
    expected = evaluate(model, graph_for(structure, model.facts), forces=True, stress=True)
    names = ["y_graph_scalars", "y_node_vector", *(["stress"] if "stress" in found else [])]
    return max(float((found[name] - expected[name]).abs().max()) for name in names)


@pytest.mark.parametrize("structure", [triclinic(), slab(), water()], ids=["crystal", "slab", "molecule"])
def test_moving_atoms_and_cells(model: Mace, structure: Structure) -> None:
    successive, rng = Successive(model, skin=0.3), np.random.default_rng(0)
    atoms = structure.to_ase()
    last, quick = structure, 0
    for step in range(40):
        atoms.positions += rng.normal(0.0, 0.01, atoms.positions.shape)
        if step % 5 == 4 and atoms.pbc.any():
            atoms.set_cell(atoms.cell[:] * (1.0 + 0.002 * rng.normal()), scale_atoms=True)
        now = Structure.from_ase(atoms)
        has_same_cell = np.array_equal(now.cell, last.cell)
        found = successive.moved(last, atoms.positions, stress=structure.is_periodic) if has_same_cell else None
        if found is None:
            last, found = now, successive(now, stress=structure.is_periodic)
        else:
            quick += 1
        assert largest_difference(model, found, now) <= 1e-10
    assert (quick > 0) == dispatch.is_compiled()


def test_a_jump_and_other_atoms(model: Mace) -> None:
    successive = Successive(model, skin=0.5)
    far = dimer(30.0)
    successive(far, stress=False)
    near = dimer(1.2)
    assert successive.moved(far, near.positions, stress=False) is None
    for structure in (near, triclinic(), far, near):
        assert largest_difference(model, successive(structure, stress=False), structure) <= 1e-10
    assert successive.moved(far, far.positions, stress=False) is None  # not the structure of the last call


def test_positions_that_no_model_can_use(model: Mace) -> None:
    successive = Successive(model, skin=0.5)
    structure = water()
    successive(structure, stress=False)
    broken = structure.positions.copy()
    broken[1] = np.nan
    assert successive.moved(structure, broken, stress=False) is None
    with pytest.raises(DataError, match="position of atom 1 is"):
        successive(Structure(atomic_numbers=structure.atomic_numbers, positions=broken), stress=False)
    coincident = Structure.from_ase(Atoms("H2", [[0, 0, 0], [0, 0, 0.4]]))
    successive(coincident, stress=False)
    with pytest.raises(DataError, match="atoms 0 and 1 are at the same point"):
        successive(Structure.from_ase(Atoms("H2", [[0, 0, 0], [0, 0, 1e-8]])), stress=False)
    successive(coincident, stress=False)
    if dispatch.is_compiled():
        with pytest.raises(DataError, match="atoms 0 and 1 are at the same point"):
            successive.moved(coincident, np.array([[0, 0, 0.4 - 1e-8], [0, 0, 0.4]]) - [0, 0, 0.2], stress=False)
