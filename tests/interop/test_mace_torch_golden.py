"""Real models of mace-torch against numbers that mace-torch 0.3.16 and its authors computed with them, in float64."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

from macekit.data import Structure
from macekit.geometry.neighbours import graph_from_structure
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate

ENERGY, FORCE, STRESS = 1e-9, 1e-8, 1e-10
"""eV per atom, eV/Å, eV/Å³."""
FORCE_RELATIVE = 5e-8
"""Of the dimers at 0.6 Å, with forces of hundreds of eV/Å."""
MODELS = {
    "mace_mp_small.model": 8,
    "GO-MACE_tutorial_MACE_swa.model": 4,
    "GST_ACEsuit-training_mace_swa.model": 3,
    "imagdau_solvent_PracI_200conf_swa.model": 4,
    "aimsPAX_Si.model": 3,
}
"""Number of structures with numbers of mace-torch."""
UPSTREAM = ("dimer_short", "isolated_atom", "slab_vacuum", "slab_zero_vacuum", "triclinic_bulk", "water_cluster")

pytestmark = pytest.mark.assets


@cache
def model(path: Path) -> Mace:
    return read_mace_torch(path)[0].eval()


def outputs(converted: Mace, atoms: Atoms) -> dict[str, torch.Tensor]:
    graph = graph_from_structure(Structure.from_ase(atoms), converted.facts.elements, converted.facts.cutoff)
    return evaluate(converted, graph, forces=True, stress=bool(atoms.pbc.any()))


def assert_agrees(found: dict[str, torch.Tensor], expected: dict[str, Any], what: str) -> None:
    forces = np.array(expected["forces"])
    energy = found["y_graph_scalars"].item()
    assert abs(energy - expected["energy"]) <= ENERGY * len(forces), what
    allowed = max(FORCE, FORCE_RELATIVE * np.abs(forces).max()) if "dimer" in what else FORCE
    assert np.abs(found["y_node_vector"].numpy() - forces).max() <= allowed, what
    if "node_energy" in expected and "energies" not in expected:
        atoms = found["y_graph_scalars::nodes"][:, 0].numpy()
        assert abs(atoms.sum() - energy) <= ENERGY * len(forces)


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_mace_torch(name: str, assets: Path) -> None:
    golden = json.loads((assets / "golden" / "mace_torch_0316.json").read_text())[name]["structures"]
    assert len(golden) == MODELS[name]
    converted = model(assets / "models" / name)
    for label, expected in golden.items():
        atoms = Atoms(expected["numbers"], expected["positions"], cell=expected["cell"], pbc=expected["pbc"])
        found = outputs(converted, atoms)
        assert_agrees(found, expected, f"{name} {label}")
        if "stress" in expected:
            stress = full_3x3_to_voigt_6_stress(found["stress"][0].numpy())
            assert np.abs(stress - expected["stress"]).max() <= STRESS, f"{name} {label}"


@pytest.mark.parametrize("label", UPSTREAM)
def test_numbers_of_the_authors(label: str, assets: Path) -> None:
    expected = json.loads((assets / "golden" / "upstream_mp_small.json").read_text())["mp_small"][label]
    atoms = read(assets / "golden" / f"{label}.xyz")
    converted = model(assets / "models" / "mace_mp_small.model")
    found = outputs(converted, atoms)
    assert_agrees(found, expected, label)
    if "energies" in expected:
        energies = found["y_graph_scalars::nodes"][:, 0].numpy()
        assert np.abs(energies - expected["energies"]).max() <= 1e-8, label
    if label == "triclinic_bulk":
        stress = found["stress"][0].numpy()
        assert np.abs(stress - np.array(expected["stress"])).max() <= STRESS


@pytest.mark.parametrize("label", ["slab_vacuum", "triclinic_bulk"])
def test_stress_is_the_derivative_by_strain(label: str, assets: Path) -> None:
    """(1/V) dE/dε of the physical cell, also for a slab; five-point differences are the judge."""
    atoms = read(assets / "golden" / f"{label}.xyz")
    converted = model(assets / "models" / "mace_mp_small.model")
    found = outputs(converted, atoms)["stress"][0].numpy()
    step = 1e-4

    def energy(strain: float, i: int, j: int) -> float:
        deformation = np.eye(3)
        deformation[i, j] += strain / 2
        deformation[j, i] += strain / 2
        moved = atoms.copy()
        moved.set_cell(atoms.cell @ deformation, scale_atoms=False)
        moved.positions = atoms.positions @ deformation
        return outputs(converted, moved)["y_graph_scalars"].item()

    for i, j in ((0, 0), (1, 1), (0, 1)):
        differences = [energy(n * step, i, j) for n in (-2, -1, 1, 2)]
        slope = (differences[0] - 8 * differences[1] + 8 * differences[2] - differences[3]) / (12 * step)
        assert abs(slope / atoms.get_volume() - found[i, j]) <= 1e-8


def test_the_format_of_2022(assets: Path) -> None:
    """It stores attributes where later files have buffers, and mace-torch 0.3.16 no longer loads it."""
    converted, provenance = read_mace_torch(assets / "models" / "MACE_SPICE.model")
    assert provenance["dtype_in_file"] == "float32"
    assert converted.facts.cutoff == 4.5
    assert len(converted.facts.elements) == 15
    atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    found = outputs(converted, atoms)
    moved = atoms.copy()
    moved.positions[1, 0] += 1e-4
    slope = (outputs(converted, moved)["y_graph_scalars"] - found["y_graph_scalars"]).item() / 1e-4
    assert abs(slope + found["y_node_vector"][1, 0].item()) < 1e-2
    isolated = outputs(converted, Atoms("O"))["y_graph_scalars"].item()
    energies = dict(zip(converted.facts.elements, converted.facts.reference_energies["energy"], strict=True))
    assert isolated == pytest.approx(energies[8] + converted.facts.shift["energy"], abs=1e-9)


def test_chosen_elements_predict_the_same(assets: Path) -> None:
    path = assets / "models" / "mace_mp_small.model"
    whole, part = model(path), read_mace_torch(path, elements=[8, 1, 6])[0]
    assert part.facts.elements == [1, 6, 8]
    atoms = Atoms(
        "COHHHH", [[0, 0, 0], [1.4, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.5, 0.8], [-0.5, -0.5, -0.9], [1.7, 0.9, 0]]
    )
    expected, found = outputs(whole, atoms), outputs(part, atoms)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name  # to the last bit
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters()) / 8
