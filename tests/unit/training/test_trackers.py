"""Metrics in TensorBoard and Weights & Biases, whose packages are stood in for."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

from macekit.errors import UsageError
from macekit.training.run_directory import RunDirectory
from macekit.training.trackers import open_trackers
from tiny_runs import run_of

ROW = {"epoch": 3, "val/energy/rmse": 1.5, "val/forces/rmse": float("nan"), "lr": 0.01, "is_best": True, "note": "x"}
NUMBERS = {"val/energy/rmse": 1.5, "lr": 0.01}


class FakeWriter:
    made: ClassVar[list[FakeWriter]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.scalars, self.is_closed = options, [], False
        FakeWriter.made.append(self)

    def add_scalar(self, *scalar: Any) -> None:
        self.scalars.append(scalar)

    def flush(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class FakeRun:
    def __init__(self, **options: Any) -> None:
        self.options, self.rows, self.is_finished = options, [], False
        self.id = options.get("id", "abc123")

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand-ins of both packages."""
    FakeWriter.made = []
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(**options))
        return runs[-1]

    board, wandb = types.ModuleType("torch.utils.tensorboard"), types.ModuleType("wandb")
    board.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return types.SimpleNamespace(writers=FakeWriter.made, runs=runs, wandb=wandb)


def test_numbers_arrive_at_both(packages, tmp_path: Path):
    changes = {"run.trackers": ["tensorboard", "wandb"], "run.wandb": {"project": "mine", "mode": "offline"}}
    run, directory = run_of(tmp_path / "data", tmp_path, changes), RunDirectory(tmp_path)
    with open_trackers(run, directory, resumed=False, is_main=True) as trackers:
        trackers.log(ROW)
        trackers.earlier_epochs = 10
        trackers.log(ROW)
    (writer,), (tracked,) = packages.writers, packages.runs
    assert writer.options == {"log_dir": str(tmp_path / "tensorboard")}
    assert writer.scalars == [(name, value, epoch) for epoch in (3, 13) for name, value in NUMBERS.items()]
    assert writer.is_closed
    assert tracked.rows == [(3, NUMBERS), (13, NUMBERS)]
    assert tracked.is_finished
    assert tracked.options["project"] == "mine"
    assert tracked.options["mode"] == "offline"
    assert tracked.options["name"] == tmp_path.name
    assert tracked.options["config"]["training"]["max_epochs"] == 3
    assert "id" not in tracked.options


def test_a_resumed_run_goes_on_there(packages, tmp_path: Path):
    run = run_of(tmp_path / "data", tmp_path, {"run.trackers": ["wandb", "tensorboard"]})
    directory = RunDirectory(tmp_path)
    with open_trackers(run, directory, resumed=False, is_main=True):
        pass
    for epoch in (1, 2):
        directory.append_metrics({"epoch": epoch})
    with open_trackers(run, directory, resumed=True, is_main=True):
        pass
    assert packages.runs[1].options["id"] == "abc123"
    assert packages.runs[1].options["resume"] == "allow"
    assert packages.writers[1].options["purge_step"] == 3


def test_only_the_first_process_tracks(packages, tmp_path: Path):
    run = run_of(tmp_path / "data", tmp_path, {"run.trackers": ["wandb"]})
    with open_trackers(run, RunDirectory(tmp_path), resumed=False, is_main=False) as trackers:
        trackers.log(ROW)
    assert not packages.runs


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named(name, module, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, module, None)
    run = run_of(tmp_path / "data", tmp_path, {"run.trackers": [name]})
    with (
        pytest.raises(UsageError, match=rf"{name} needs .* not installed\nhint: pip install 'macekit\[{name}\]'"),
        open_trackers(run, RunDirectory(tmp_path), resumed=False, is_main=True),
    ):
        pass


def test_a_service_that_refuses_is_quoted(packages, tmp_path: Path):
    def refuse(**options: Any) -> None:
        raise RuntimeError("api_key not configured\nand more")

    packages.wandb.init = refuse
    run = run_of(tmp_path / "data", tmp_path, {"run.trackers": ["tensorboard", "wandb"]})
    with (
        pytest.raises(UsageError, match=r"cannot be used: api_key not configured\nhint: .*WANDB_MODE=offline"),
        open_trackers(run, RunDirectory(tmp_path), resumed=False, is_main=True),
    ):
        pass
    assert packages.writers[0].is_closed
