"""The transfer-learning tutorial of PhysicsML: its configuration as it is written there, for MACE."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from rich.console import Console

import macekit
import macekit.training.checkpoints
from macekit.errors import ConfigError
from macekit.interop.native import load_native

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

ENERGIES = {1: -0.6019805629746086, 6: -38.07749583990695, 7: -54.75225433326539, 8: -75.22521603087064,
            9: -99.85134426752529}  # fmt: skip
MAPPING = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}
NAMES = ("CH4", "NH3", "H2O", "HF", "CH3OH", "HCN", "CO", "CF4", "N2H4", "H2CO")

PRE_TRAINED: dict[str, Any] = {
    "name": "mace_model",
    "config": {
        "x_features": ["physicsml_atom_idxs", "physicsml_atom_numbers", "physicsml_coordinates"],
        "y_features": ["lumo"],
        "num_node_feats": 5,
        "num_interactions": 2,
        "hidden_irreps": "12x0e + 12x1o",
        "max_ell": 1,
        "correlation": 2,
        "y_graph_scalars_loss_config": {"name": "MSELoss"},
        "optimizer": {"name": "AdamW", "config": {"lr": 1e-3}},
        "datamodule": {
            "y_graph_scalars": ["lumo"],
            "num_elements": 5,
            "cut_off": 5.0,
            "pre_batch": "in_memory",
            "train": {"batch_size": 64},
            "validation": {"batch_size": 128},
        },
        "trainer": {"max_epochs": 10, "accelerator": "cpu", "logger": False},
    },
}
TRANSFER: dict[str, Any] = {
    "pre_trained_model_path": "pre_trained_model",
    "modules_to_match": {"mace": "mace"},
    "stages": [
        {
            "freeze_modules": ["mace"],
            "datamodule": {"train": {"batch_size": 128}},
            "optimizer": {"config": {"lr": 1e-2}},
        },
        {"trainer": {"max_epochs": 4}, "optimizer": {"config": {"lr": 1e-4}}},
    ],
}


def other_target() -> dict[str, Any]:
    """The configuration of the pre-trained model with the other target and the transfer section."""
    description = deepcopy(PRE_TRAINED)
    config = description["config"]
    config["x_features"].append("physicsml_total_atomic_energy")
    config["y_features"] = config["datamodule"]["y_graph_scalars"] = ["u0"]
    config["transfer_learning"] = deepcopy(TRANSFER)
    return description


@pytest.fixture
def molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rattled molecules with made-up labels, in the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    for plot in ("parity_plot", "loss_curve"):
        monkeypatch.setattr(f"macekit.training.run.{plot}", lambda *arguments: None)
    random = np.random.default_rng(1)
    frames = []
    for name in NAMES * 2:
        atoms = molecule(name)
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        atoms.info["lumo"] = float(random.normal(scale=0.1))
        atoms.info["u0"] = sum(ENERGIES[z] for z in atoms.numbers.tolist()) - 0.2 * len(atoms) + atoms.info["lumo"]
        frames.append(atoms)
    write(tmp_path / "molecules.extxyz", frames)
    return tmp_path / "molecules.extxyz"


def carried_out(description: dict[str, Any], file: Path, directory: str, **arguments: Any) -> tuple[Any, str]:
    run, _ = macekit.from_physicsml(description, train=str(file), **arguments)
    console = Console(file=io.StringIO(), width=160)
    result = macekit.train(run, {"run.directory": directory}, console=console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_two_stages_with_a_frozen_backbone(molecules: Path) -> None:
    pre_trained, _ = carried_out(PRE_TRAINED, molecules, "pre_trained_model")
    assert pre_trained.facts.targets.y_graph_scalars == ["lumo"]
    featurisation = {"atomic_number_mapping": MAPPING, "atomic_energies": ENERGIES, "backend": "rdkit"}
    result, printed = carried_out(other_target(), molecules, "transferred", featurisation=featurisation)
    assert [row["stage"] for row in result.fit.history] == [1] * 10 + [2] * 4
    assert {row["lr"] for row in result.fit.history[:10]} == {1e-2}
    assert {row["lr"] for row in result.fit.history[10:]} == {1e-4}
    lines = [line for line in printed.splitlines() if line.startswith("stage ")]
    total = sum(parameter.numel() for parameter in result.model.parameters())
    heads = sum(parameter.numel() for parameter in result.model.heads.parameters())
    assert lines[0].startswith(f"stage 1 of 2: trained: {heads:,} of {total:,} parameters")
    assert lines[1].startswith(f"stage 2 of 2: trained: {total:,} of {total:,} parameters")
    before, now = load_native(pre_trained.directory / "model").state_dict(), result.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], now[name])}
    assert {name for name in now if name.startswith("heads.")} <= moved
    first = macekit.training.checkpoints.read_checkpoint(result.directory / "stage_1" / "checkpoints" / "last")
    assert all(torch.equal(first["model"][name], before[name]) for name in before if name.startswith("backbone."))
    assert result.facts.targets.y_graph_scalars == ["u0"]
    assert (result.directory / "model" / "config.json").is_file()


def test_the_direction_of_the_mapping(molecules: Path) -> None:
    """{module of the new model: module of the trained model}; the other way round is recognised."""
    carried_out(PRE_TRAINED, molecules, "pre_trained_model")
    description = other_target()
    description["name"] = "ssf_mace_model"
    description["config"]["transfer_learning"]["stages"] = [{"freeze_modules": ["ssf_mace.interactions"]}]
    description["config"]["trainer"]["max_epochs"] = 1
    for number, (new, old) in enumerate((("ssf_mace", "mace"), ("ssf_mace.messages.0", "mace.messages.0"))):
        description["config"]["transfer_learning"]["modules_to_match"] = {new: old}
        result, printed = carried_out(description, molecules, f"forward{number}")
        assert result.model.config.tuner == "ssf"
        assert "fresh: tuner" in printed if new == "ssf_mace" else "backbone.layers" in printed.partition("fresh:")[2]
    description["config"]["transfer_learning"]["modules_to_match"] = {"mace.node_embedding": "ssf_mace.ssf"}
    with pytest.raises(ConfigError, match=r"(?s)\{module of the new model: module of the trained.*exchange both sides"):
        carried_out(description, molecules, "backward")


def test_shapes_that_differ_are_named(molecules: Path) -> None:
    carried_out(PRE_TRAINED, molecules, "pre_trained_model")
    description = other_target()
    description["config"]["hidden_irreps"] = "8x0e + 8x1o"
    with pytest.raises(ConfigError, match=r"model.hidden_irreps: '8x0e \+ 8x1o' given, but the trained model has"):
        carried_out(description, molecules, "wide")
    description["config"]["transfer_learning"]["modules_to_match"] = {"mace.node_embedding": "mace.node_embedding"}
    with pytest.raises(
        ConfigError, match=r"backbone.embedding is \[5, 8\] in the new model and \[5, 12\] in the trained"
    ):
        carried_out(description, molecules, "wide")
