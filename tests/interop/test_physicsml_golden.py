"""A real model of PhysicsML against the numbers that it gives there, in float64 and in the units of its labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from typer.testing import CliRunner

import macekit
from macekit.cli import app
from macekit.data import Structure
from macekit.geometry.neighbours import graph_from_structure
from macekit.interop.inspection import model_summary
from macekit.interop.physicsml.convert import read_physicsml
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.units import ENERGY_IN_EV

ENERGY, FORCES = -1259.4352931409087, "wb97x_dz.forces"
"""Hartree."""

pytestmark = pytest.mark.assets


def outputs(model: Mace, atoms: Atoms) -> dict[str, torch.Tensor]:
    graph = graph_from_structure(Structure.from_ase(atoms), model.facts.elements, model.facts.cutoff)
    return evaluate(model, graph, forces=True, stress=False)


def peptide(assets: Path) -> Atoms:
    atoms = read(assets / "golden" / "alanine-dipeptide-truncated.pdb")
    assert isinstance(atoms, Atoms)
    atoms.set_pbc(False)
    return atoms


@pytest.fixture(scope="module")
def directory(assets: Path) -> Path:
    return assets / "models" / "physicsml_mace"


def test_numbers_of_physicsml(directory: Path, assets: Path) -> None:
    golden = json.loads((assets / "golden" / "physicsml_mace_aladip.json").read_text())
    model, provenance = read_physicsml(directory)
    atoms = peptide(assets)
    assert atoms.numbers.tolist() == golden["Z"]
    np.testing.assert_allclose(atoms.positions, golden["pos"], atol=1e-12)
    found = outputs(model, atoms)
    assert abs(found["y_graph_scalars"].item() - ENERGY) <= 1e-9
    assert golden["torch.float64"]["E"] == ENERGY
    assert np.abs(found["y_node_vector"].numpy() - golden["torch.float64"]["F"]).max() <= 1e-9
    single = outputs(read_physicsml(directory, dtype=torch.float32)[0], atoms)
    assert abs(single["y_graph_scalars"].item() - golden["torch.float32"]["E"]) <= 1e-4
    assert "labels" in provenance["units"]["energy"]
    assert model.config.compatibility == "none"


def test_convert_and_load(directory: Path, assets: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["convert", str(directory), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    model = macekit.load_model(tmp_path / "out")
    atoms = peptide(assets)
    predicted = model.predict(atoms)
    assert abs(predicted["wb97x_dz.energy"][0] - ENERGY) <= 1e-9
    assert predicted[FORCES][0].shape == (52, 3)
    atoms.calc = model.ase_calculator()
    assert abs(atoms.get_potential_energy() - ENERGY) <= 1e-9
    for path in (directory, tmp_path / "out"):
        summary = model_summary(path)
        assert summary["elements"] == ["H", "C", "N", "O"]
        assert "labels" in summary["units"]["energy"]
        assert summary["heads"]["default"]["wb97x_dz.energy"]["reference_energies"]["C"] == -38.103158


def test_converted_units(directory: Path, assets: Path) -> None:
    atoms = peptide(assets)
    plain = outputs(read_physicsml(directory)[0], atoms)
    in_ev, provenance = read_physicsml(directory, energy_unit="hartree")
    for name, value in outputs(in_ev, atoms).items():
        torch.testing.assert_close(value, plain[name] * ENERGY_IN_EV["hartree"], rtol=1e-12, atol=1e-12)
    assert provenance["units"]["energy"] == "eV"


def test_chosen_elements_predict_the_same(directory: Path) -> None:
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    part = read_physicsml(directory, elements=[8, 1])[0]
    assert part.facts.elements == [1, 8]
    expected, found = outputs(read_physicsml(directory)[0], water), outputs(part, water)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-13, atol=1e-13)


def test_a_directory_is_not_loaded_but_named(directory: Path) -> None:
    with pytest.raises(macekit.ModelFileError, match="a model of PhysicsML") as caught:
        macekit.load_model(directory)
    assert "macekit convert physicsml_mace OUT" in str(caught.value)
