"""Runs that learn part of what there is: energies alone, forces alone, weights that change, several files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import write

from macekit.interop.native import load_native
from macekit.training.run import TrainingResult
from tiny_runs import TINY, water

RunTraining = Callable[..., TrainingResult]
FORCES = "model.y_node_vector_loss_config"
ENERGY = "model.y_graph_scalars_loss_config"


def test_energies_alone(water_file: Path, run_training: RunTraining) -> None:
    changes = {FORCES: None, "training.max_epochs": 5}
    result = run_training(water_file, changes)
    history = result.fit.history
    assert history[-1]["train/total/loss"] < history[0]["train/total/loss"]
    assert "train/forces/rmse" not in history[-1]
    assert result.evaluations["train"].errors["forces"].count > 0
    without = run_training(
        water_file, {**changes, "data.targets.y_node_vector": None, "model.compute_forces": False}, name="none"
    )
    assert without.fit.history[-1]["train/total/loss"] < without.fit.history[0]["train/total/loss"]


def test_forces_alone(water_file: Path, run_training: RunTraining) -> None:
    result = run_training(water_file, {ENERGY: None, "training.max_epochs": 5})
    history = result.fit.history
    assert history[-1]["val/forces/rmse"] < history[0]["val/forces/rmse"]
    assert "val/energy/rmse" not in history[-1]
    assert load_native(result.directory / "model").config.compute_forces


def test_frames_without_any_label_of_a_loss_are_no_part_of_it(tmp_path: Path, run_training: RunTraining) -> None:
    """Half of the frames have energies alone, half have forces alone."""
    random = np.random.default_rng(3)
    frames = [water(random) for _ in range(16)]
    for number, atoms in enumerate(frames):
        if number % 2:
            del atoms.arrays["REF_forces"]
        else:
            del atoms.info["REF_energy"]
    write(tmp_path / "halves.extxyz", frames)
    result = run_training(tmp_path / "halves.extxyz", {"training.max_epochs": 4})
    assert np.isfinite(result.fit.history[-1]["train/total/loss"])
    assert result.evaluations["train"].errors["energy"].count + result.evaluations["valid"].errors["energy"].count == 8


def test_weights_change_in_the_middle_and_the_best_is_sought_anew(water_file: Path, run_training: RunTraining) -> None:
    loss = {**TINY["y_graph_scalars_loss_config"], "weight": 1.0, "weight_schedule": {4: 1000.0}}
    changes = {ENERGY: loss, "training.max_epochs": 6}
    whole = run_training(water_file, changes, name="whole")
    history = whole.fit.history
    jump = history[3]["train/energy/loss"] if "train/energy/loss" in history[3] else history[3]["train/total/loss"]
    before = history[2]["train/energy/loss"] if "train/energy/loss" in history[2] else history[2]["train/total/loss"]
    assert jump > 10 * before
    assert history[3]["is_best"]
    assert whole.fit.best_epoch > 3
    assert "weights of losses from epoch 4 on: y_graph_scalars 1000" in (whole.directory / "train.log").read_text()


def test_a_run_is_resumed_across_a_change_of_weights(water_file: Path, run_training: RunTraining) -> None:
    loss = {**TINY["y_graph_scalars_loss_config"], "weight_schedule": {3: 100.0, 5: 300.0}}
    plateau = {"name": "ReduceLROnPlateau", "config": {"factor": 0.5, "patience": 0}}
    changes = {ENERGY: loss, "training.scheduler": plateau}
    whole = run_training(water_file, {**changes, "training.max_epochs": 6}, name="whole")
    for epochs in (2, 4):
        name = f"cut{epochs}"
        run_training(water_file, {**changes, "training.max_epochs": epochs}, name=name)
        resumed = run_training(water_file, {**changes, "training.max_epochs": 6}, name=name, resume=True)
        assert resumed.fit.best_epoch == whole.fit.best_epoch >= 5
        for key, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.parametrize("weight", [1e-9, 1e3])
def test_files_have_weights(weight: float, tmp_path: Path, run_training: RunTraining) -> None:
    """The second file contradicts the first by a constant: the heavier one wins."""
    random = np.random.default_rng(6)
    frames = [water(random) for _ in range(16)]
    write(tmp_path / "first.extxyz", frames)
    for atoms in frames:
        atoms.info["REF_energy"] += 3.0
    write(tmp_path / "second.extxyz", frames)
    files = [str(tmp_path / "first.extxyz"), {"file": str(tmp_path / "second.extxyz"), "weight": weight}]
    changes = {
        "data.train": files,
        "data.validation": str(tmp_path / "first.extxyz"),
        "training.max_epochs": 2,
        FORCES: None,
    }
    result = run_training(tmp_path / "first.extxyz", changes)
    error = result.evaluations["valid"].errors["energy"].mae
    assert error < 200 if weight < 1 else 800 < error < 1200  # meV per atom
