"""Tiny data sets with exact labels, and runs on them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import write
from rich.console import Console

from macekit.training.run import TrainingResult, train
from tiny_runs import copper, run_of, water

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

RunTraining = Callable[..., TrainingResult]


@pytest.fixture(scope="session")
def water_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "water.extxyz"
    generator = np.random.default_rng(1)
    write(path, [water(generator) for _ in range(24)])
    return path


@pytest.fixture(scope="session")
def copper_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "copper.extxyz"
    generator = np.random.default_rng(2)
    write(path, [copper(generator) for _ in range(12)])
    return path


@pytest.fixture
def run_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunTraining:
    """Train the tiny model on a file, silently and without plots, in a directory of its own."""
    for plot in ("parity_plot", "loss_curve"):
        monkeypatch.setattr(f"macekit.training.run.{plot}", lambda *arguments: None)

    def run(
        file: Path, changes: dict[str, Any] | None = None, *, name: str = "run", resume: bool = False
    ) -> TrainingResult:
        console = Console(file=io.StringIO(), width=120)
        return train(run_of(file, tmp_path / name, changes), console=console, resume=resume)

    return run
