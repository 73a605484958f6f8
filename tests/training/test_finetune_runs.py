"""Whole fine-tuning runs: stages, resuming, elements that are new, and the foundation model itself."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import write
from rich.console import Console

from macekit.data import Structure
from macekit.errors import ConfigError, DataError, UsageError
from macekit.geometry.batch import GraphDataset
from macekit.interop.native import load_native
from macekit.model.mace import Mace
from macekit.model.tuners import is_tuner_parameter
from macekit.outputs.derivatives import evaluate
from macekit.training.checkpoints import read_checkpoint
from macekit.training.rehearsal import rehearse
from macekit.training.run import TrainingResult
from tiny_runs import run_of, water

RunTraining = Callable[..., TrainingResult]
ARCHITECTURE = ("hidden_irreps", "mlp_irreps", "max_ell", "correlation", "radial_mlp", "compute_forces")
SHORT = {"training.max_epochs": 2, **{f"model.{field}": None for field in ARCHITECTURE}, "data.cutoff": None}


@pytest.fixture
def trained(water_file: Path, run_training: RunTraining) -> Path:
    return run_training(water_file, {"training.max_epochs": 2}, name="trained").directory


def finetune(path: Path, **changes: Any) -> dict[str, Any]:
    return {**SHORT, "finetune": {"from": str(path), "reference_energies": "keep", **changes}}


@pytest.mark.parametrize("tuner", ["ssf", "adapter", "lora", "heads", "full"])
def test_only_what_is_trained_changes(tuner: str, trained: Path, water_file: Path, run_training: RunTraining) -> None:
    result = run_training(water_file, finetune(trained, tuner=tuner), name=tuner)
    before, after = load_native(trained / "model").state_dict(), load_native(result.directory / "model").state_dict()
    for name, value in after.items():
        may_change = tuner == "full" or name.startswith("heads.") or is_tuner_parameter(name)
        assert may_change or torch.equal(value, before[name]), name
    changed = {name for name in after if name not in before or not torch.equal(after[name], before[name])}
    assert any(name.startswith("heads.") for name in changed)
    assert tuner in ("heads", "full") or any(is_tuner_parameter(name) for name in changed)
    first, last = result.fit.history[0], result.fit.history[-1]
    assert last["train/total/loss"] < first["train/total/loss"]


STAGES = [
    {"freeze_modules": ["backbone"], "trainer": {"max_epochs": 3}, "optimizer": {"config": {"lr": 0.02}}},
    {
        "datamodule": {"batch_size": 3},
        "trainer": {"max_epochs": 2, "ema": None},
        "losses": {"y_node_vector": {"weight": 5.0}},
    },
]


def test_a_run_in_stages_is_resumed_where_it_was(trained: Path, water_file: Path, run_training: RunTraining) -> None:
    changes = finetune(trained, tuner="full", stages=STAGES)
    whole = run_training(water_file, changes, name="whole")
    cut = run_training(water_file, changes, name="cut")
    for gone in ("model", "metrics.jsonl", "checkpoints"):  # the run dies at the end of its first stage
        target = cut.directory / gone
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    resumed = run_training(water_file, changes, name="cut", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert [row["stage"] for row in resumed.fit.history] == [1, 1, 1, 2, 2]
    assert whole.model.config.y_node_vector_loss_config is not None
    assert whole.model.config.y_node_vector_loss_config.weight == 5.0
    frozen = read_checkpoint(whole.directory / "stage_1" / "checkpoints" / "last")["model"]
    before = load_native(trained / "model").state_dict()
    assert all(torch.equal(frozen[name], value) for name, value in before.items() if name.startswith("backbone."))
    assert not torch.equal(whole.model.backbone.embedding, before["backbone.embedding"])
    with pytest.raises(UsageError, match="already holds a run"):
        run_training(water_file, changes, name="whole")
    again = run_training(water_file, {**changes, "run.overwrite": True}, name="whole")
    assert len(again.fit.history) == 5


def test_mistakes_in_stages(trained: Path, water_file: Path, run_training: RunTraining) -> None:
    for number, (stage, message) in enumerate(
        (
            ({"freeze_modules": ["mace.nothing"]}, "freeze_modules: the model has no module 'mace.nothing'"),
            ({"freeze": []}, "finetune.stages.0.freeze: unknown key"),
            ({"trainer": {"max_epoch": 1}}, "finetune.stages.0: max_epoch: unknown key"),
            ({"datamodule": {"batch": 1}}, "finetune.stages.0.datamodule.batch: unknown key"),
            ({"losses": {"forces": {}}}, "finetune.stages.0.losses.forces: unknown output"),
        )
    ):
        with pytest.raises(ConfigError, match=message):
            run_training(water_file, finetune(trained, stages=[stage]), name=f"mistaken{number}")


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Path]:
    """Molecules with sulphur in place of oxygen in every other one, and each kind on its own."""
    random = np.random.default_rng(4)
    frames = [water(random) for _ in range(16)]
    for atoms in frames[::2]:
        atoms.numbers[0] = 16
    files = {"both": frames, "water": frames[1::2], "sulphide": frames[::2]}
    for name, chosen in files.items():
        write(tmp_path / f"{name}.extxyz", chosen)
    return {name: tmp_path / f"{name}.extxyz" for name in files}


@pytest.mark.parametrize("tuner", ["ssf", "heads"])
def test_rows_of_new_elements_are_trained(
    tuner: str, trained: Path, mixed: dict[str, Path], run_training: RunTraining
) -> None:
    """Sulphur instead of oxygen in some molecules; rows of hydrogen and oxygen stay as they are."""
    changes = finetune(trained, tuner=tuner) | {
        "training.optimizer": {"name": "AdamW", "config": {"weight_decay": 0.1}}
    }
    result = run_training(mixed["both"], changes, name="mixed")
    before, after = load_native(trained / "model").state_dict(), result.model.state_dict()
    assert result.facts.elements == [1, 8, 16]
    name = "backbone.layers.0.product.weights"
    assert torch.equal(after[name][:2], before[name])
    assert not torch.equal(after[name][2], before[name][1])
    assert torch.equal(after["backbone.embedding"][:2], before["backbone.embedding"])
    assert not torch.equal(after["backbone.embedding"][2], before["backbone.embedding"][1])


@pytest.mark.parametrize("place", ["validation", "test"])
def test_elements_that_training_lacks_are_tested_where_the_model_knows_them(
    place: str, mixed: dict[str, Path], run_training: RunTraining
) -> None:
    trained = run_training(mixed["both"], {"training.max_epochs": 1}, name="trained")
    files = [str(mixed["sulphide"])]
    others = {"data.validation": files} if place == "validation" else {"data.test": {"sulphide": files}}
    for choice in ("all", ["H", "O", "S"]):
        changes = finetune(trained.directory, elements=choice) | others
        found = run_training(mixed["water"], changes, name=f"known_{choice[0]}")
        assert found.facts.elements == [1, 8, 16]
        assert found.facts.reference_energies == trained.facts.reference_energies
        assert found.evaluations["valid" if place == "validation" else "sulphide"].num_structures == 8
    with pytest.raises(DataError, match=r"has S \(atom 0\), which no training structure has") as refused:
        run_training(mixed["water"], finetune(trained.directory) | others, name="of_data")
    assert "finetune.elements: all" in refused.value.hint
    with pytest.raises(DataError, match=r"has S \(atom 0\), which no training structure has"):
        changes = finetune(trained.directory, elements="all", reference_energies="data") | others
        run_training(mixed["water"], changes, name="unknown_energy")
    given = {"H": -1.0, "O": -70.0, "S": -71.5}
    changes |= {"data.reference_energies": given}
    found = run_training(mixed["water"], changes, name="given")
    assert found.facts.reference_energies == {"energy": list(given.values())}


def test_a_dry_run_is_of_the_run(mixed: dict[str, Path], run_training: RunTraining, tmp_path: Path) -> None:
    """With elements that training lacks, with replay, and with what each stage trains."""
    trained = run_training(mixed["both"], {"training.max_epochs": 1}, name="trained")
    replay = {"files": [str(mixed["both"])], "head": "before"}
    stages = [{"freeze_modules": ["heads"], "trainer": {"max_epochs": 5}}, {"datamodule": {"batch_size": 3}}]
    changes = finetune(trained.directory, elements="all", replay=replay, tuner="lora", stages=stages)
    text = io.StringIO()
    run = run_of(mixed["water"], tmp_path / "dry", changes | {"data.test": {"sulphide": [str(mixed["sulphide"])]}})
    found = rehearse(run, Console(file=text, width=200))
    assert "replay: 14 training and 2 validation structures at level 'before'" in text.getvalue()
    assert "estimate, stage 2 of 2, measured" in text.getvalue()
    assert [estimate.steps_per_epoch for estimate in found] == [4, 7]
    both, heads = found[1].parameters, sum(p.numel() for p in trained.model.heads.parameters())
    assert found[0].parameters == both - 2 * heads  # those of the trained level as well


def energies_and_forces(model: Mace, structures: list[Structure]) -> tuple[torch.Tensor, torch.Tensor]:
    data = GraphDataset(structures, model.facts)
    found = evaluate(model.eval(), data.batch(range(len(structures))).graph, forces=True, stress=False)
    return found["y_graph_scalars"], found["y_node_vector"]
