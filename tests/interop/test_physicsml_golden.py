"""A real model of PhysicsML against the numbers of PhysicsML itself; energies in Hartree, as its labels were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from macekit.data import Structure
from macekit.errors import ModelFileError
from macekit.geometry.neighbours import graph_from_structure
from macekit.interop.native import load_native, save_native
from macekit.interop.physicsml.convert import read_physicsml
from macekit.outputs.derivatives import evaluate

pytestmark = pytest.mark.assets


def test_numbers_of_physicsml(assets: Path, tmp_path: Path) -> None:
    golden = json.loads((assets / "golden" / "physicsml_mace_aladip.json").read_text())["torch.float64"]
    converted, provenance = read_physicsml(assets / "models" / "physicsml_mace")
    assert golden["E"] == -1259.4352931409087
    model = load_native(save_native(converted, tmp_path / "model", provenance=provenance))
    atoms = read(assets / "golden" / "alanine-dipeptide-truncated.pdb")
    atoms.pbc = False
    found = evaluate(model, graph_from_structure(Structure.from_ase(atoms), model.facts.elements, 5.0), stress=False)
    assert abs(found["y_graph_scalars"].item() - golden["E"]) <= 1e-9
    assert np.abs(found["y_node_vector"].numpy() - np.array(golden["F"])).max() <= 1e-9


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model_config\.json: cannot be read"):
        read_physicsml(tmp_path)
