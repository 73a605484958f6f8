"""Runs that end before their end, and go on: nothing is different from a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.io import read, write

import macekit
from macekit.config.loading import dump_run
from macekit.errors import ResumeError, RunStopped, UsageError
from macekit.training.checkpoints import read_checkpoint
from macekit.training.lock import run_lock
from macekit.training.run_directory import RunDirectory
from macekit.training.steps import Stepper
from macekit.training.stored_data import prepare_store
from tiny_runs import run_of

STEPS = 3
"""Steps of an epoch: 18 structures, 6 at a time."""
SCHEDULER = {"name": "ExponentialLR", "config": {"gamma": 0.9}, "interval": "step"}
CHANGES: dict[str, Any] = {"training.max_epochs": 3, "training.scheduler": SCHEDULER}
DRIVER = """
import os, signal, sys
from macekit.cli import main
from macekit.training.steps import Stepper

fatal, which, rank = int(sys.argv.pop(1)), getattr(signal, sys.argv.pop(1)), sys.argv.pop(1)
update, count = Stepper.update, 0

def deadly(self):
    global count
    update(self)
    count += 1
    if count == fatal and os.environ.get("RANK", "0") == rank:
        os.kill(os.getpid(), which)

Stepper.update = deadly
main()
"""


class Killed(BaseException):
    """Stands for a death that nothing can prepare for."""


@contextmanager
def at_step(number: int, action) -> Iterator[None]:
    """Do something after the update of a step, counted from 1."""
    update, count = Stepper.update, 0

    def counted(self: Stepper) -> None:
        nonlocal count
        update(self)
        count += 1
        if count == number:
            action()

    Stepper.update = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stepper.update = update  # type: ignore[method-assign]


def die() -> None:
    raise Killed


def assert_same_run(first: Path, second: Path) -> None:
    """Bit by bit, but for the time it took."""
    states = [read_checkpoint(path / "checkpoints" / "last") for path in (first, second)]
    assert_same(*states, "state")
    rows = [RunDirectory(path).read_metrics() for path in (first, second)]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]
    for name in ("model.safetensors",):
        assert (first / "model" / name).read_bytes() == (second / "model" / name).read_bytes()
    assert (first / "errors.csv").read_text() == (second / "errors.csv").read_text()


def assert_same(one: Any, two: Any, where: str) -> None:
    assert type(one) is type(two), where
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            if key != "fingerprint":
                assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


@pytest.fixture(scope="module")
def whole(water_file, tmp_path_factory) -> Path:
    """The run that nothing happens to."""
    from macekit.training.run import train

    directory = tmp_path_factory.mktemp("whole") / "run"
    train(run_of(water_file, directory, CHANGES), console=silent())
    return directory


def silent():
    import io

    from rich.console import Console

    return Console(file=io.StringIO())


@pytest.mark.parametrize(("period", "step"), [(1, 2), (1, 3), (1, 4), (1, 8), (2, 3), (2, 4), (2, 9)])
def test_dying_at_any_step_changes_nothing(step, period, whole, water_file, run_training, tmp_path: Path):
    changes = {**CHANGES, "run.checkpoint_steps": period}
    with at_step(step, die), pytest.raises(Killed):
        run_training(water_file, changes)
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")
    assert state["step"] == (step - 1) // period * period
    run_training(water_file, changes, resume=True)
    assert_same_run(whole, tmp_path / "run")


EVERYTHING: dict[str, Any] = {
    "training.accumulate": 2,
    "training.warmup_steps": 4,
    "training.stage_two": {"start_epoch": 2, "lr": 0.002},
    "training.optimizer": {"name": "AdamW", "config": {"lr": 0.01}, "groups": {"readouts": {"lr": 0.005}}},
    "run.dtype": "mixed",
    "run.checkpoint_steps": 1,
}


@pytest.mark.parametrize("step", [3, 5, 8])
def test_dying_changes_nothing_where_everything_is_used(step, water_file, run_training, tmp_path: Path):
    changes = {**CHANGES, **EVERYTHING}
    run_training(water_file, changes, name="whole")
    with at_step(step, die), pytest.raises(Killed):
        run_training(water_file, changes)
    run_training(water_file, changes, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")
    assert state["swa"] is not None and state["ema"] is not None
    assert state["model"]["backbone.embedding"].dtype == torch.float64
    text = (tmp_path / "whole" / "train.log").read_text()
    assert "stage two from epoch 2 on: learning rate 0.002" in text
    assert "network in float32; weights, optimiser and averages in float64; geometry" in text


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_saves_the_step_and_ends_the_run(name, whole, water_file, run_training, tmp_path: Path):
    number = getattr(signal, name)
    before = {which: signal.getsignal(which) for which in signal.Signals}
    expected = KeyboardInterrupt if name == "SIGINT" else RunStopped
    with at_step(4, lambda: os.kill(os.getpid(), number)), pytest.raises(expected) as caught:
        run_training(water_file, CHANGES)
    if name != "SIGINT":
        assert f"stopped by {name} in epoch 2 after 5 steps in all\nhint: go on with --resume" in str(caught.value)
        assert caught.value.exit_code == 143
    assert {which: signal.getsignal(which) for which in signal.Signals} == before
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")["step"] == 5
    assert "stopped by" in (tmp_path / "run" / "train.log").read_text()
    run_training(water_file, CHANGES, resume=True)
    assert "resumed after epoch 1 and 2 steps of the next" in (tmp_path / "run" / "train.log").read_text()
    assert_same_run(whole, tmp_path / "run")


def test_a_signal_during_validation_ends_the_run_after_it(whole, water_file, run_training, tmp_path: Path, monkeypatch):
    import macekit.training.loop as loop

    evaluate = loop.evaluate_losses
    monkeypatch.setattr(
        loop, "evaluate_losses", lambda *a, **k: (os.kill(os.getpid(), signal.SIGTERM), evaluate(*a, **k))[1]
    )
    with pytest.raises(RunStopped, match="after 3 steps in all"):
        run_training(water_file, CHANGES)
    monkeypatch.undo()
    for plot in ("parity_plot", "loss_curve"):
        monkeypatch.setattr(f"macekit.training.run.{plot}", lambda *arguments: None)
    run_training(water_file, CHANGES, resume=True)
    assert_same_run(whole, tmp_path / "run")


def test_the_same_signal_again_does_not_wait(water_file, run_training, tmp_path: Path):
    def twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)  # two of `os.kill` can become one on their way

    with at_step(2, twice), pytest.raises(KeyboardInterrupt):
        run_training(water_file, CHANGES)
    assert not (tmp_path / "run" / "checkpoints" / "last").exists()


def test_a_signal_that_is_ignored_stays_ignored(whole, water_file, run_training, tmp_path: Path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with at_step(2, lambda: signal.raise_signal(signal.SIGINT)):
            run_training(water_file, CHANGES)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_run(whole, tmp_path / "run")


def test_the_random_state_of_the_process_is_its_own(water_file, run_training):
    before = torch.get_rng_state()
    run_training(water_file, {"training.max_epochs": 1})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_used_directory_is_refused(water_file, run_training, tmp_path: Path):
    with run_lock(tmp_path / "run"), pytest.raises(UsageError, match="run is in use by process"):
        run_training(water_file, CHANGES)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run.seed": 8}, r"run\.seed: 7 then, 8 now"),
        ({"run.dtype": "float32"}, r"run\.dtype: 'float64' then, 'float32' now"),
        ({"model.hidden_irreps": "4x0e"}, r"model\.hidden_irreps: '8x0e \+ 8x1o' then, '4x0e' now"),
        ({"training.ema": None}, r"training\.ema: 0\.99 then, None now"),
        ({"training.batch_size": 5, "run.seed": 8}, r"run\.seed: 7 then, 8 now; training\.batch_size: 6 then, 5 now"),
    ],
)
def test_another_run_is_refused_with_the_difference(changes, message, whole, water_file):
    from macekit.training.run import train

    before = read_checkpoint(whole / "checkpoints" / "last")
    with pytest.raises(ResumeError, match=f"belongs to another run; {message}"):
        train(run_of(water_file, whole, {**CHANGES, **changes}), console=silent(), resume=True)
    assert_same(read_checkpoint(whole / "checkpoints" / "last"), before, "state")


def test_other_data_are_refused(water_file, run_training, tmp_path: Path):
    frames = read(water_file, ":")
    changes = {"data.validation": [str(water_file)], "training.max_epochs": 1}
    write(tmp_path / "data.extxyz", frames)
    run_training(tmp_path / "data.extxyz", changes)
    frames[3].info["REF_energy"] += 1e-6
    write(tmp_path / "data.extxyz", frames)
    with pytest.raises(ResumeError, match=r"belongs to another run; data\.hash: '\w+' then, '\w+' now"):
        run_training(tmp_path / "data.extxyz", changes, resume=True)
    write(tmp_path / "data.extxyz", frames[:-1])
    with pytest.raises(ResumeError, match=r"data\.training structures: 24 then, 23 now"):
        run_training(tmp_path / "data.extxyz", changes, resume=True)
    write(tmp_path / "data.extxyz", frames)
    run_training(tmp_path / "data.extxyz", {"training.max_epochs": 1}, name="split")
    write(tmp_path / "data.extxyz", frames[:-1])
    with pytest.raises(ResumeError, match=r"the split is of 24 structures, there are 23"):
        run_training(tmp_path / "data.extxyz", {"training.max_epochs": 1}, name="split", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_death_of_the_process_changes_nothing(processes, whole, water_file, tmp_path: Path):
    """Killed in the middle of an epoch, then ended by SIGTERM in another, then left alone; two processes on a store."""
    if processes == 2:
        prepare_store(run_of(water_file, tmp_path), tmp_path / "store")
        water_file = tmp_path / "store"
    run = run_of(water_file, tmp_path / "run", {**CHANGES, "run.checkpoint_steps": 1})
    (tmp_path / "run.yaml").write_text(dump_run(run))
    if processes == 2:
        alone = run_of(water_file, tmp_path / "alone", CHANGES)
        (tmp_path / "alone.yaml").write_text(dump_run(alone))
        whole = tmp_path / "alone"
        assert launched(tmp_path, processes, 99, "SIGKILL", "alone.yaml")[0] == 0
    last = str(processes - 1)
    code, text = launched(tmp_path, processes, 5, "SIGKILL", "run.yaml", rank=last)
    assert code in (-9, 1), text
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")["step"] == 4
    code, text = launched(tmp_path, processes, 3, "SIGTERM", "run.yaml", "--resume", rank=last)
    assert code == 143 if processes == 1 else "exitcode  : 143" in text, text
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")["step"] == 8
    code, text = launched(tmp_path, processes, 99, "SIGKILL", "run.yaml", "--resume")
    assert code == 0, text
    assert_same_run(whole, tmp_path / "run")


def launched(folder: Path, processes: int, step: int, name: str, *arguments: str, rank: str = "0") -> tuple[int, str]:
    """Exit code and output of a run that sends itself a signal at a step."""
    (folder / "driver.py").write_text(DRIVER)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    environment |= {"PYTHONPATH": str(Path(macekit.__file__).parents[1])}
    done = subprocess.run(
        [*command, "driver.py", str(step), name, rank, "train", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
