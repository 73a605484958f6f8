from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch
from ase.io import read, write
from rich.console import Console

import macekit.training.evaluation
import macekit.training.steps
from macekit.config.loading import load_run
from macekit.errors import ConfigError, DataError, NonFiniteError, ResumeError, UsageError
from macekit.interop.native import load_native
from macekit.training.checkpoints import read_checkpoint
from macekit.training.evaluation import evaluate_dataset
from macekit.training.run import train
from tiny_runs import run_of


@pytest.fixture(scope="module")
def finished(water_file, tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished") / "run"
    changes = {
        "training.max_epochs": 8,
        "data.test": {"again": str(water_file)},
        "data.targets.y_graph_vector": "dipole",
        "data.targets.y_node_scalars": ["charges"],
        "model.y_graph_vector_loss_config": {"name": "MSELoss"},
        "model.y_node_scalars_loss_config": {"name": "HuberLoss"},
    }
    stream = io.StringIO()
    run = run_of(water_file, directory, changes)
    before = run.model_dump()
    result = train(run, console=Console(file=stream, width=120))
    assert run.model_dump() == before, "the configuration was changed"
    return result, stream.getvalue(), run


def test_every_target_is_trained_and_improves(finished):
    result, _, _ = finished
    first, last = result.fit.history[0], result.fit.history[-1]
    assert last["train/total/loss"] < 0.7 * first["train/total/loss"]
    for target in ("energy", "forces", "dipole", "charges"):
        assert math.isfinite(last[f"val/{target}/rmse"])
    assert last["val/forces/rmse"] < first["val/forces/rmse"]


def test_everything_is_written(finished):
    result, _, run = finished
    names = {path.name for path in result.directory.iterdir()}
    assert names >= {
        "resolved.yaml",
        "metrics.jsonl",
        "metrics.csv",
        "run.json",
        "train.log",
        "errors.csv",
        "split.json",
        "checkpoints",
        "model",
        "parity.png",
        "loss.png",
    }
    rows = [json.loads(line) for line in (result.directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows == result.fit.history
    provenance = json.loads((result.directory / "run.json").read_text())
    assert provenance["torch"] == torch.__version__.partition("+")[0] or provenance["torch"] == torch.__version__
    assert provenance["data"]["training"] == 18
    saved = json.loads((result.directory / "model" / "config.json").read_text())
    assert saved["provenance"]["data"] == provenance["data"]["hash"]
    assert load_run(result.directory / "resolved.yaml").training == run.training
    with (result.directory / "errors.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {row["data"] for row in table} == {"train", "valid", "again"}
    assert {row["unit"] for row in table if row["target"] == "energy"} == {"meV/atom"}


def test_one_line_per_epoch_with_energy_and_forces_and_no_bar(finished):
    result, text, _ = finished
    lines = [line for line in text.splitlines() if line.startswith("epoch")]
    assert len(lines) == 8
    assert all(" E " in line and " meV/atom" in line and " F " in line and " meV/Å" in line for line in lines)
    assert lines == [
        line for line in (result.directory / "train.log").read_text().splitlines() if line.startswith("epoch")
    ]
    assert "\x1b" not in text
    for said in ("torch", "float64", "parameters", "18 training, 6 validation, 24 test"):
        assert said in text


def test_the_saved_model_is_the_best_one(finished):
    result, _, _ = finished
    best = read_checkpoint(result.directory / "checkpoints" / "best")
    assert best["epoch"] == result.fit.best_epoch
    values = [row["val/total/loss"] for row in result.fit.history]
    assert best["value"] == min(values) == values[best["epoch"] - 1]
    saved = load_native(result.directory / "model")
    for name, weight in saved.state_dict().items():
        assert torch.equal(weight, result.model.state_dict()[name]), name
        assert torch.equal(weight, best["weights"][name]), name
    forces = result.evaluations["valid"].errors["forces"].rmse
    assert forces == pytest.approx(result.fit.history[best["epoch"] - 1]["val/forces/rmse"], rel=1e-10)


def test_stress_is_trained(copper_file, run_training):
    result = run_training(
        copper_file,
        {
            "data.targets.stress": "stress",
            "model.stress_loss_config": {"name": "MSELoss", "weight": 100.0},
            "training.max_epochs": 4,
            "training.batch_size": 4,
        },
    )
    first, last = result.fit.history[0], result.fit.history[-1]
    assert last["train/total/stress"] < first["train/total/stress"]
    assert result.evaluations["train"].metrics[-1].unit == "meV/Å³"
    assert result.evaluations["train"].errors["stress"].count == 9 * 9


def test_mean_and_variance_are_trained(water_file, run_training):
    changes = {"model.name": "mean_var_mace_model", "model.y_graph_scalars_loss_config": None}
    result = run_training(water_file, changes)
    first, last = result.fit.history[0], result.fit.history[-1]
    assert last["train/total/y_graph_scalars"] < first["train/total/y_graph_scalars"]


def test_resuming_equals_going_on(water_file, run_training):
    whole = run_training(water_file, {"training.max_epochs": 4}, name="whole")
    run_training(water_file, {"training.max_epochs": 2}, name="half")
    rest = run_training(water_file, {"training.max_epochs": 4}, name="half", resume=True)
    states = [read_checkpoint(result.directory / "checkpoints" / "last") for result in (whole, rest)]
    for part in ("model", "ema"):
        for name, weight in states[0][part].items():
            assert torch.equal(weight, states[1][part][name]), (part, name)
    histories = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.fit.history] for r in (whole, rest)]
    assert histories[0] == histories[1]
    with pytest.raises(ResumeError, match=r"belongs to another run; model.max_ell: 2 then, 1 now"):
        run_training(water_file, {"model.max_ell": 1}, name="half", resume=True)


def test_training_without_validation_watches_the_training_loss(water_file, run_training):
    result = run_training(water_file, {"data.validation": [], "training.max_epochs": 1, "training.ema": None})
    assert result.fit.monitor == "train/total/loss"
    assert "train/total/loss" in (result.directory / "train.log").read_text()


def test_a_run_directory_is_not_overwritten_unless_told(water_file, run_training):
    run_training(water_file, {"training.max_epochs": 1})
    with pytest.raises(UsageError, match="already holds a run"):
        run_training(water_file, {"training.max_epochs": 1})
    run_training(water_file, {"training.max_epochs": 1, "run.overwrite": True})


def test_a_diverging_run_stops_and_keeps_the_best(water_file, run_training, tmp_path: Path):
    good = run_training(water_file, {"training.max_epochs": 2})
    best = read_checkpoint(good.directory / "checkpoints" / "best")
    with pytest.raises(NonFiniteError, match=r"(?s)stopped in epoch \d+: .*training diverged: lower the learning rate"):
        run_training(
            water_file,
            {
                "training.optimizer": {"name": "SGD", "config": {"lr": 1e100}},
                "training.gradient_clip": None,
                "training.ema": None,
            },
            name="bad",
        )
    assert not (tmp_path / "bad" / "checkpoints" / "last").exists()
    assert read_checkpoint(good.directory / "checkpoints" / "best")["value"] == best["value"]


def test_the_frame_that_makes_the_loss_infinite_is_named(water_file, run_training, tmp_path: Path):
    frames = read(water_file, ":")
    frames[5].arrays["REF_forces"][0, 0] = 1e200
    write(tmp_path / "bad.extxyz", frames)
    with pytest.raises(
        NonFiniteError, match=r"bad.extxyz frame 5: the loss of forces is not finite\nhint: check the labels"
    ):
        run_training(
            tmp_path / "bad.extxyz",
            {"training.batch_size": 24, "data.validation": [str(water_file)], "model.scaling_std": 1.0},
        )


def test_unknown_monitors_are_refused_before_training(water_file, run_training):
    with pytest.raises(
        ConfigError,
        match=r"training\.monitor: unknown metric 'val/energy/rsme'.*\nhint: did you mean 'val/energy/rmse'",
    ):
        run_training(water_file, {"training.monitor": "val/energy/rsme"})


def test_labels_that_a_loss_needs_must_be_there(water_file, run_training):
    changes = {
        "data.targets.y_graph_vector": "polarity",
        "model.y_graph_vector_loss_config": {"name": "MSELoss"},
    }
    with pytest.raises(DataError, match="no frame has a label for target 'polarity'"):
        run_training(water_file, changes)


def test_labels_that_are_not_learned_are_named(copper_file, run_training):
    result = run_training(copper_file, {"training.max_epochs": 1})
    text = (result.directory / "train.log").read_text()
    assert text.count("note: stress (REF_stress) of the files is not learned; that takes a target in data and") == 1
    learned = {"data.targets.stress": "stress", "model.stress_loss_config": {"name": "MSELoss"}}
    result = run_training(copper_file, {"training.max_epochs": 1, **learned}, name="learned")
    assert "is not learned" not in (result.directory / "train.log").read_text()


def test_elements_that_training_has_not_are_refused(water_file, copper_file, run_training):
    with pytest.raises(DataError, match=r"Cu .*which no training structure has"):
        run_training(water_file, {"data.test": {"metal": str(copper_file)}})


def test_errors_do_not_depend_on_the_batches_of_the_evaluation(finished):
    result, _, _ = finished
    from macekit.data import read_structures

    structures = read_structures(result.fit and [str(p) for p in _train_files(finished)], finished[2].data).structures
    small = evaluate_dataset(result.model, structures, batch_edges=1)
    large = evaluate_dataset(result.model, structures, batch_edges=10**6)
    for target, errors in large.errors.items():
        assert small.errors[target].rmse == pytest.approx(errors.rmse, rel=1e-10)
        assert small.errors[target].count == errors.count


def _train_files(finished):
    return finished[2].data.train


def test_energy_training_never_derives_forces(water_file, run_training, monkeypatch):
    asked = []

    def spy(model, graph, **options):
        asked.append(options)
        return evaluate(model, graph, **options)

    evaluate = macekit.training.steps.evaluate
    monkeypatch.setattr(macekit.training.steps, "evaluate", spy)
    run_training(
        water_file,
        {"model.y_node_vector_loss_config": {"name": "MSELoss", "weight": 0.0}, "training.max_epochs": 1},
    )
    assert asked
    assert not any(options["forces"] or options["stress"] for options in asked)
