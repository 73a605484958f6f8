"""The finetune section: its short form, its documented form, paths, overrides, stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from macekit.config import StageConfig, TrainingRun
from macekit.config.loading import dump_run, load_run
from macekit.config.stages import stage_losses, stage_training
from macekit.errors import ConfigError

BASE: dict[str, Any] = {
    "model": {"y_graph_scalars_loss_config": {"name": "MSELoss", "weight": 2.0}},
    "data": {"train": "train.xyz"},
}


def run_of(**section: Any) -> TrainingRun:
    return load_run({**BASE, "finetune": {"from": "old", **section}})


def test_from_is_short_for_the_documented_name() -> None:
    short = run_of(tuner="lora")
    long = load_run({**BASE, "finetune": {"pre_trained_model_path": "old", "tuner": "lora"}})
    assert short == long
    assert load_run(short, {"finetune.from": "other"}).finetune == run_of(tuner="lora").finetune.model_copy(  # type: ignore[union-attr]
        update={"pre_trained_model_path": "other"}
    )
    assert load_run(BASE, ["finetune.from=old", "finetune.tuner=lora"]).finetune == short.finetune


def test_the_documented_section_is_the_same_section() -> None:
    section = {
        "pre_trained_model_path": "old",
        "modules_to_match": {"mace": "mace"},
        "stages": [
            {"freeze_modules": ["mace"], "datamodule": {"train": {"batch_size": 3}}, "trainer": None},
            {"optimizer": {"config": {"lr": 0.5}}},
        ],
    }
    run = load_run({**BASE, "transfer_learning": section})
    assert run.finetune is not None
    assert run.finetune.reference_energies == "data"
    assert run.finetune.tuner is None
    first, second = (stage_training(run.training, stage, "x") for stage in run.finetune.stages)
    assert first.batch_size == 3
    assert second.optimizer.config == {**run.training.optimizer.config, "lr": 0.5}
    assert load_run({**BASE, "transfer_learning": None}).finetune is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "model: {y_graph_scalars_loss_config: {name: MSELoss}}\ndata: {train: a.xyz}\n"
    (tmp_path / "run.yaml").write_text(f"{text}finetune: {{from: old.model, replay: {{files: [r.xyz, /far/s.xyz]}}}}\n")
    run = load_run(tmp_path / "run.yaml")
    assert run.finetune is not None
    assert run.finetune.replay is not None
    assert run.finetune.pre_trained_model_path == str(tmp_path / "old.model")
    assert run.finetune.replay.files == [str(tmp_path / "r.xyz"), "/far/s.xyz"]
    (tmp_path / "again.yaml").write_text(dump_run(run))
    assert load_run(tmp_path / "again.yaml") == run


def test_a_stage_changes_only_what_it_gives() -> None:
    run = run_of()
    stage = StageConfig(
        trainer={"max_epochs": 3, "scheduler": None},
        datamodule={"batch_size": 2},
        losses={"y_graph_scalars": {"weight": 5.0}},
    )
    training = stage_training(run.training.model_copy(update={"batch_edges": 100}), stage, "x")
    assert (training.max_epochs, training.scheduler, training.batch_size, training.batch_edges) == (3, None, 2, None)
    assert training.optimizer == run.training.optimizer
    loss = stage_losses(run.model, stage, "x").y_graph_scalars_loss_config
    assert loss is not None
    assert (loss.name, loss.weight) == ("MSELoss", 5.0)
    assert stage_losses(run.model, StageConfig(), "x") is run.model


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pre_trained_model_path": "other"}, "'from' and 'pre_trained_model_path' are the same field"),
        (
            {"reference_energies": "kept"},
            "(?s)reference_energies: expected 'keep', 'refit' or 'data'.*did you mean 'keep'",
        ),
        ({"freeze_modules": ["mace"]}, "(?s)finetune.freeze_modules: unknown key"),
        ({"stages": [{"trainer": {"epochs": 3}}]}, "finetune.stages.0: epochs: unknown key"),
        ({"stages": [{}, {"datamodule": {"batch_sizes": 3}}]}, "finetune.stages.1.datamodule.batch_sizes: unknown key"),
        ({"stages": [{"losses": {"energy": {}}}]}, "finetune.stages.0.losses.energy: unknown output"),
        ({"replay": {"files": "a.xyz", "weight": 0}}, "finetune.replay.weight: expected a value greater than 0"),
    ],
)
def test_messages(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(**section)


def test_one_of_two_sections() -> None:
    with pytest.raises(ConfigError, match="'finetune' and 'transfer_learning' are the same section"):
        load_run({**BASE, "finetune": {"from": "a"}, "transfer_learning": {"pre_trained_model_path": "a"}})
