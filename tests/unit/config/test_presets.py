"""Presets: whole run files under a name, over which a run file is laid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from macekit.config import TrainingRun
from macekit.config.loading import dump_run, load_run
from macekit.config.merging import laid_over
from macekit.config.preset_files import preset_names, preset_summary, preset_values
from macekit.errors import ConfigError

DATA: dict[str, Any] = {"data": {"train": "train.xyz"}}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_needs_data_alone(name: str, tmp_path: Path) -> None:
    run = load_run({"preset": name, **DATA})
    assert run.preset == name
    assert run.model.compute_forces
    assert run.model.y_node_vector_loss_config is not None
    (tmp_path / "run.yaml").write_text(dump_run(run))
    assert load_run(tmp_path / "run.yaml") == load_run(run, {"data.train": str(tmp_path / "train.xyz")})
    assert 20 < len(preset_summary(name)) < 120


def test_the_sizes_come_first() -> None:
    assert preset_names() == ["small", "medium", "large", "3bpa", "acac", "two-stages", "universal"]


def test_the_run_file_is_laid_over() -> None:
    values = {
        "preset": "small",
        "model": {"name": "mean_var_mace_model", "max_ell": 2, "y_graph_scalars_loss_config": None},
        "data": {"train": "a.xyz", "targets": {"stress": "virial"}},
        "training": {"optimizer": {"config": {"lr": 0.002}}, "scheduler": {"name": "ReduceLROnPlateau"}},
    }
    run = load_run(values)
    assert run.model.name == "mean_var_mace_model"
    assert (run.model.hidden_irreps, run.model.max_ell) == ("64x0e + 64x1o", 2)
    assert run.data.targets.model_dump(exclude_defaults=True) == {"y_node_vector": "forces", "stress": "virial"}
    assert run.training.optimizer.config == {"lr": 0.002, "amsgrad": True, "weight_decay": 5.0e-7}
    assert run.training.scheduler is not None
    assert (run.training.scheduler.name, run.training.scheduler.interval) == ("ReduceLROnPlateau", "epoch")


def test_overrides_name_a_preset_and_change_it() -> None:
    run = load_run(DATA, ["training.optimizer.config.lr=0.001", "preset=medium", "training.max_epochs=7"])
    assert run.preset == "medium"
    assert run.model.hidden_irreps == "128x0e + 128x1o"
    assert run.training.optimizer.config == {"lr": 0.001, "amsgrad": True, "weight_decay": 5.0e-7}
    assert run.training.max_epochs == 7


def test_energies_alone() -> None:
    run = load_run(
        {"preset": "small", **DATA},
        {"model.compute_forces": False, "model.y_node_vector_loss_config": None, "data.targets.y_node_vector": None},
    )
    assert run.data.targets.y_node_vector is None


def test_fine_tuning_takes_the_training_of_a_preset_and_not_its_network() -> None:
    finetune = {"from": "old", "reference_energies": "keep", "tuner": "lora"}
    run = load_run({"preset": "universal", **DATA, "finetune": finetune})
    assert not {"hidden_irreps", "num_bessel", "interaction_first"} & run.model.model_fields_set
    assert "cutoff" not in run.data.model_fields_set
    assert run.training.batch_size == 16
    assert run.model.stress_loss_config is not None


def test_the_recipe_of_the_paper() -> None:
    """Appendix A.5.1 of arXiv 2206.07697."""
    run = load_run({"preset": "3bpa", **DATA})
    model, training = run.model, run.training
    assert (model.hidden_irreps, model.max_ell, model.correlation) == ("256x0e + 256x1o + 256x2e", 3, 3)
    assert (training.batch_size, training.ema, training.optimizer.config["lr"]) == (5, 0.99, 0.01)
    assert training.scheduler is not None
    assert training.scheduler.config == {"factor": 0.8, "patience": 50}
    assert model.y_node_vector_loss_config is not None
    assert model.y_node_vector_loss_config.weight == 1000.0
    assert preset_values("acac") == preset_values("3bpa")


def test_an_unknown_preset() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)preset: unknown preset 'smal'; known: small, medium.*did you mean 'small'"
    ):
        load_run({"preset": "smal", **DATA})


def test_a_mapping_and_an_object_know_presets_too() -> None:
    assert TrainingRun.from_dict({"preset": "small", **DATA}) == load_run({"preset": "small", **DATA})


def test_laying_over() -> None:
    base = {"a": {"name": "x", "config": {"p": 1, "q": 2}, "more": 3}, "list": [1, 2], "b": {"name": "m", "c": 1}}
    assert laid_over(base, {"a": {"config": {"p": 5}}}) == {**base, "a": {**base["a"], "config": {"p": 5, "q": 2}}}
    assert laid_over(base, {"a": {"name": "y"}})["a"] == {"name": "y"}
    assert laid_over(base, {"list": [3], "b": {"name": "n"}}) == {**base, "list": [3], "b": {"name": "n", "c": 1}}
    assert laid_over(base, {"a": None})["a"] is None
    assert base["list"] == [1, 2]
