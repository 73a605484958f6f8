"""Models of ours as model directories of PhysicsML: there and back, and in PhysicsML itself where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.errors import ModelFileError
from macekit.geometry.neighbours import graph_for
from macekit.interop.physicsml.convert import read_physicsml
from macekit.interop.physicsml.directory import CHECKPOINT, read_directory
from macekit.interop.physicsml.export import write_physicsml
from macekit.interop.physicsml.trees import coupling_trees
from macekit.interop.torch_file import checkpoint
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.selection import with_elements
from macekit.outputs.derivatives import evaluate

MODELS: dict[str, dict[str, Any]] = {
    "usual": {"hidden_irreps": "4x0e + 4x1o", "max_ell": 2, "correlation": 3},
    "one_layer": {"hidden_irreps": "4x0e + 4x1o", "max_ell": 2, "correlation": 1, "num_interactions": 1},
    "three_layers": {"hidden_irreps": "3x0e + 3x1o + 3x2e", "max_ell": 2, "correlation": 2, "num_interactions": 3},
    "fourth_order": {"hidden_irreps": "3x1o + 3x0e", "max_ell": 1, "correlation": 4, "avg_num_neighbours": None},
    "scalars": {"hidden_irreps": "4x0e", "max_ell": 3, "correlation": 2, "scaling_std": 3.5, "scaling_mean": -0.25},
}
TARGETS = {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "y_node_scalars": ["q", "s"]}


def facts(**changes: Any) -> DatasetFacts:
    values: dict[str, Any] = {
        "elements": [1, 6, 8],
        "cutoff": 4.0,
        "avg_num_neighbours": 5.0,
        "targets": TARGETS,
        "reference_energies": {"energy": [-13.0, -1000.0, -2000.0]},
        "scale": {"energy": 2.0, "q": 0.3, "s": 0.6},
        "shift": {"energy": 0.1, "q": 0.2, "s": 0.2},
    }
    return DatasetFacts.from_dict(values | changes)


def made(choices: dict[str, Any], dtype: torch.dtype = torch.float64, **changes: Any) -> Mace:
    choices = {"hidden_irreps": "4x0e + 4x1o", "max_ell": 2, "mlp_irreps": "5x0e", "compute_forces": True} | choices
    return build_model(choices.get("name", "mace_model"), choices, facts(**changes), seed=1, dtype=dtype).eval()


def outputs(model: Mace, atoms: Atoms) -> dict[str, torch.Tensor]:
    return evaluate(model, graph_for(Structure.from_ase(atoms), model.facts), stress=False)


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    model = made(MODELS[name])
    assert write_physicsml(model, tmp_path / "model") == []
    again, _ = read_physicsml(tmp_path / "model")
    assert again.config.compatibility == "none"
    assert again.facts.targets == model.facts.targets
    for key, value in outputs(model, molecule("CH3CH2OH")).items():
        found = outputs(again.eval(), molecule("CH3CH2OH"))[key]
        torch.testing.assert_close(found, value, rtol=1e-13, atol=1e-13)


def test_a_subset_of_the_elements_and_float32(tmp_path: Path) -> None:
    model = with_elements(made({}, torch.float32), [1, 8])
    write_physicsml(model, tmp_path / "model")
    assert read_directory(tmp_path / "model").dtype == "float32"
    again, _ = read_physicsml(tmp_path / "model")
    expected, found = (outputs(m.eval(), molecule("H2O"))["y_node_vector"] for m in (model, again))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_torch_reads_the_checkpoint(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {"a": generator.normal(size=(3, 4)), "b.c": np.float32(generator.normal(size=5)), "0": np.array(2.0)}
    tensors |= {"empty": np.zeros(0), "turned": generator.normal(size=(2, 3)).T}
    (tmp_path / "file").write_bytes(checkpoint(tensors))
    assert checkpoint(tensors) == (tmp_path / "file").read_bytes()
    found = torch.load(tmp_path / "file", weights_only=True)["state_dict"]
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], torch.tensor(tensor)), name
        assert found[name].dtype == torch.tensor(tensor).dtype


@pytest.mark.parametrize(
    ("max_ell", "degree", "order", "count"), [(2, 0, 2, 3), (2, 1, 2, 4), (3, 0, 3, 23), (3, 1, 3, 51), (1, 1, 4, 12)]
)
def test_as_many_trees_as_expected(max_ell: int, degree: int, order: int, count: int) -> None:
    trees = coupling_trees(max_ell, degree, order)
    assert trees.shape[-1] == count
    assert trees.ndim == order + 1 + (degree > 0)


@pytest.mark.assets
def test_trees_are_those_of_physicsml(assets: Path) -> None:
    stored = read_directory(assets / "models" / "physicsml_mace").tensors
    for index, degree in enumerate((0, 1)):
        for order in (1, 2):
            name = f"mace.messages.0.symmetric_contractions.contractions.{index}.U_matrices.{order}"
            np.testing.assert_allclose(coupling_trees(2, degree, order), stored[name], atol=1e-6)


@pytest.mark.assets
def test_a_real_model_there_and_back(assets: Path, tmp_path: Path) -> None:
    model, _ = read_physicsml(assets / "models" / "physicsml_mace")
    (note,) = write_physicsml(model, tmp_path / "model")
    assert "couplings are exact, not those of the float32 file" in note
    before = read_directory(assets / "models" / "physicsml_mace").tensors
    after = read_directory(tmp_path / "model").tensors
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    again, _ = read_physicsml(tmp_path / "model")
    expected, found = (outputs(m.eval(), molecule("CH3CH2OH")) for m in (model, again))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("choices", "changes", "message"),
    [
        ({"name": "ssf_mace_model"}, {}, "tuner: ssf cannot be represented; expected none"),
        ({"name": "mean_var_mace_model"}, {}, "uncertainty: gaussian cannot be represented; expected none"),
        ({"interaction": "density_residual"}, {}, "interaction: density_residual cannot be represented; expected agn"),
        ({"interaction_first": "density"}, {}, "interaction_first: density cannot"),
        ({"radial_basis": "gaussian"}, {}, "radial_basis: gaussian cannot"),
        ({"distance_transform": "agnesi"}, {}, "distance_transform: agnesi cannot"),
        ({"pair_repulsion": "zbl"}, {}, "pair_repulsion: zbl cannot"),
        ({"radial_mlp": [8]}, {}, r"radial_mlp: \[8\] cannot be represented; expected \[64, 64, 64\]"),
        ({"mlp_kind": "biased"}, {}, "mlp_kind: biased cannot"),
        ({"edge_irreps": "2x0e"}, {}, "edge_irreps: 2x0e cannot be represented; expected None"),
        ({"hidden_irreps": "4x0e + 4x2e", "max_ell": 1}, {}, "degree 2 cannot be made of 1 factor of degrees up to 1"),
        ({}, {"heads": {"a": {}, "b": {}}}, r"2 heads \(a, b\) cannot be represented\nhint: keep one with --head"),
        ({}, {"targets": TARGETS | {"y_graph_vector": "dipole"}}, "y_graph_vector: 'dipole' is read from the vectors"),
        ({}, {"num_edge_features": 2}, "bond features under the envelope cannot be represented"),
        (
            {},
            {"targets": TARGETS | {"y_graph_scalars": ["energy", "gap"]}},
            "forces of 'energy' alone cannot be represented: PhysicsML's belong to the sum of energy, gap",
        ),
        (
            {"compute_forces": False},
            {"targets": {"y_graph_scalars": ["energy", "gap"]}},
            "reference energies that differ between graph scalars cannot be represented: energy, gap",
        ),
        ({}, {"shift": {"q": 0.2}}, "constants per atom that differ between q, s cannot be represented"),
        ({}, {"node_features": {"spin": [0.0, 1.0]}}, "the atom feature 'spin' cannot be represented"),
    ],
)
def test_refused_by_name(choices: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        write_physicsml(made(choices, **changes), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_existing_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelFileError, match="exists; expected a new directory for the model of PhysicsML"):
        write_physicsml(made({}), tmp_path / "model")


def test_features_of_atoms_and_stress(tmp_path: Path) -> None:
    features = {"is_in_ring": [0.0, 1.0]}
    model = made({}, node_features=features, targets=TARGETS | {"stress": "stress"})
    assert write_physicsml(model, tmp_path / "model") == ["the stress ('stress') is not among PhysicsML's outputs"]
    again, _ = read_physicsml(tmp_path / "model")
    assert again.facts.node_features == features
    assert torch.allclose(again.backbone.embedding, model.backbone.embedding)
    with zipfile.ZipFile(tmp_path / "model" / CHECKPOINT) as archive:
        assert archive.testzip() is None


IN_PHYSICSML = """
import json, sys
import numpy as np, torch
from molflux.modelzoo.store.io import load_from_store
torch.set_default_dtype(torch.float64)
module = load_from_store(sys.argv[1]).module.double().eval()
numbers, x = json.loads(sys.argv[2])
x = torch.tensor(x, requires_grad=True)
distances = torch.cdist(x, x).detach().numpy()
edges = np.stack(np.nonzero((distances < 4.0) & (distances > 0)))
species = [[1, 6, 8].index(z) for z in numbers]
out = module({
    "coordinates": x, "edge_index": torch.tensor(edges), "node_attrs": torch.eye(3)[species],
    "batch": torch.zeros(len(x), dtype=torch.long), "ptr": torch.tensor([0, len(x)]), "num_graphs": torch.tensor(1),
    "num_nodes": torch.tensor(len(x)),
    "total_atomic_energy": torch.tensor([sum([-13.0, -1000.0, -2000.0][s] for s in species)]),
})
forces = module.compute_forces_by_gradient(out["y_graph_scalars"], x)
print(json.dumps({"y_node_vector": forces.tolist(), **{k: v.tolist() for k, v in out.items() if k[0] == "y"}}))
"""


@pytest.mark.parametrize("name", MODELS)
def test_physicsml_itself(name: str, tmp_path: Path) -> None:
    python = os.environ.get("PHYSICSML_PYTHON")
    if python is None:
        pytest.skip("PHYSICSML_PYTHON does not name the interpreter of an environment with PhysicsML 0.6")
    model, atoms = made(MODELS[name]), molecule("CH3CH2OH")
    write_physicsml(model, tmp_path / "model")
    words = [python, "-W", "ignore", "-c", IN_PHYSICSML, str(tmp_path / "model")]
    words.append(json.dumps([atoms.numbers.tolist(), atoms.positions.tolist()]))
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for key, value in outputs(model, atoms).items():
        if "::" not in key:
            np.testing.assert_allclose(np.array(found[key]), value.numpy(), rtol=1e-12, atol=1e-12)
