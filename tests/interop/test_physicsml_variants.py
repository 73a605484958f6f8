"""The four models of PhysicsML with all kinds of heads and features, against PhysicsML 0.6."""

from __future__ import annotations

import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from macekit.data import Structure
from macekit.errors import ModelFileError
from macekit.geometry.graph import collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.interop.native import load_native, save_native
from macekit.interop.physicsml.convert import read_physicsml
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate

FIXTURES = Path(__file__).parent / "fixtures_physicsml"
TOLERANCE = {"float64": 1e-12, "float32": 2e-11}
"""Relative to the largest value of an output. Couplings of float32 files have noise where they vanish, which is left
out."""
NAMES = (
    "all_heads", "features", "vectors_first", "one_layer", "sum_of_scalars", "mean_var", "ssf", "adapter",
    "adapter_without_channels",
)  # fmt: skip


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("physicsml")
    with tarfile.open(FIXTURES / "models.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@cache
def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "outputs.npz") as stored:
        return {key: stored[key] for key in stored.files}


def structures() -> list[Atoms]:
    found = []
    for i in range(2):
        atoms = Atoms(expected()[f"numbers_{i}"], expected()[f"positions_{i}"])
        atoms.set_array("formal_charge", expected()[f"charges_{i}"])
        bonds = expected()[f"bonds_{i}"]
        atoms.info["bond_features"] = np.concatenate([bonds[:, :2], np.eye(4)[bonds[:, 2]]], axis=1)
        found.append(atoms)
    return found


def outputs(model: Mace, atoms: list[Atoms]) -> dict[str, Tensor]:
    facts = model.facts
    graphs = [
        graph_from_structure(
            Structure.from_ase(a, node_features=facts.node_features, edge_features=facts.edge_features),
            facts.elements,
            facts.cutoff,
            facts.num_edge_features,
        )
        for a in atoms
    ]
    return evaluate(model, collate(graphs), stress=False)


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers(name: str, directories: Path, tmp_path: Path) -> None:
    converted, provenance = read_physicsml(directories / name)
    model = load_native(save_native(converted, tmp_path / "model", provenance=provenance))
    found = outputs(model, structures())
    keys = [key for key in expected() if key.startswith(f"{name}/")]
    assert keys
    for key in keys:
        reference = expected()[key]
        value = found[key.partition("/")[2]].numpy()
        assert value.shape == reference.shape, key
        assert np.abs(value - reference).max() <= TOLERANCE[provenance["dtype_in_file"]] * np.abs(reference).max(), key


def test_all_heads_are_there(directories: Path) -> None:
    model, _ = read_physicsml(directories / "all_heads")
    assert model.config.compatibility == "physicsml"
    assert set(model.facts.targets.kinds()) == {"u0", "lumo", "dipole", "q", "s", "v"}
    assert model.facts.reference_energies["u0"] == model.facts.reference_energies["lumo"] == [-0.6, -38.1, -54.7, -75.2]


def test_what_differs_is_noted(directories: Path) -> None:
    notes = "\n".join(read_physicsml(directories / "features")[1]["notes"])
    assert "self energies of H depend on the formal charge in PhysicsML; that of the neutral atom is used" in notes
    assert "atom features must be arrays of the structures: formal_charge" in notes
    assert "bond features are rows [i, j, ...] of info['bond_features']" in notes


def test_exchanged_names_are_noted(directories: Path, tmp_path: Path) -> None:
    """PhysicsML trains columns in the order of y_features and names them in that of the datamodule."""
    copy = edited(copied(directories / "sum_of_scalars", tmp_path), "model_config.json", y_features=["b", "a"])
    (note,) = [text for text in read_physicsml(copy)[1]["notes"] if "y_features" in text]
    assert note.startswith("y_graph_scalars: named a, b as PhysicsML names")


def test_chosen_elements(directories: Path) -> None:
    whole, part = (read_physicsml(directories / "features", elements=chosen)[0] for chosen in (None, [8, 1, 6]))
    atoms = structures()[1:]
    for key, value in outputs(whole, atoms).items():
        assert torch.equal(outputs(part, atoms)[key], value), key


def edited(directory: Path, file: str, **changes: Any) -> Path:
    path = directory / file
    content = json.loads(path.read_text())
    target = content["config"] if "model" in file else content["config"][0]["representations"][0]["config"]
    for key, value in changes.items():
        (target["datamodule"] if key in ("self_interaction", "graph_attrs_cols", "colour") else target)[key] = value
    path.write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"self_interaction": True}, "datamodule.self_interaction: edges from atoms to themselves cannot be"),
        ({"graph_attrs_cols": ["t"]}, "datamodule.graph_attrs_cols: features of whole structures cannot be"),
        ({"colour": "red"}, "datamodule: the field 'colour' has no counterpart"),
        ({"num_besel": 8}, "the field 'num_besel' has no counterpart"),
        ({"num_node_feats": 5}, "num_node_feats: 5 given, but 4 elements and 0 columns"),
        ({"num_bessel": 6}, "bessel_weights|layer0.weight: shape"),
        ({"num_interactions": 1}, "readouts.0.linear_1.weight: missing in the checkpoint"),
        ({"hidden_irreps": "3x0e + 3x1e"}, "1e does not have the parity"),
        ({"compile": True}, "compiled models cannot be represented"),
    ],
)
def test_refused_by_name(directories: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    copy = copied(directories / "sum_of_scalars", tmp_path)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_physicsml(edited(copy, "model_config.json", **changes))
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atomic_energies": {"8": -75.2, "1": {"1": 0.0}, "7": -54.7, "6": -38.1}}, "of H for the formal charges"),
        ({"atomic_energies": {"8": -75.2}}, "no energy of H"),
        ({"atomic_number_mapping": {"8": 0, "1": 0, "7": 2, "6": 3}}, "expected one atomic number for each of 4"),
    ],
)
def test_featuriser_refused(directories: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    copy = copied(directories / "ssf", tmp_path)
    with pytest.raises(ModelFileError, match=message):
        read_physicsml(edited(copy, "featurisation_metadata.json", **changes))


@pytest.mark.parametrize(
    "file", ["model_config.json", "featurisation_metadata.json", "model_artefacts/module_checkpoint.ckpt"]
)
def test_missing_and_damaged_files(directories: Path, tmp_path: Path, file: str) -> None:
    copy = copied(directories / "ssf", tmp_path)
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=file):
        read_physicsml(copy)
    (copy / file).unlink()
    with pytest.raises(ModelFileError, match=file):
        read_physicsml(copy)


def test_a_beta_that_is_not_equivariant(directories: Path, tmp_path: Path) -> None:
    copy = copied(directories / "ssf", tmp_path)
    with pytest.raises(ModelFileError, match="hidden irreps that do not start with scalars"):
        read_physicsml(edited(copy, "model_config.json", hidden_irreps="3x1o + 3x0e + 3x2e"))


def test_units_of_several_scalars(directories: Path) -> None:
    with pytest.raises(ModelFileError, match="units are converted for a single one"):
        read_physicsml(directories / "all_heads", energy_unit="hartree")


def copied(directory: Path, folder: Path) -> Path:
    return Path(shutil.copytree(directory, folder / directory.name))


class Malicious:
    """What a checkpoint must not be able to do."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.file,)


def test_nothing_in_a_checkpoint_runs(directories: Path, tmp_path: Path) -> None:
    copy = copied(directories / "ssf", tmp_path)
    checkpoint, witness = copy / "model_artefacts" / "module_checkpoint.ckpt", tmp_path / "witness"
    torch.save({"state_dict": {}, "hyper_parameters": Malicious(witness)}, checkpoint)
    with pytest.raises(ModelFileError, match="refused"):
        read_physicsml(copy)
    assert not witness.exists()
