"""torchrun with two processes, against one process on the same global batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from ase.io import read, write

import macekit
from macekit.errors import ResumeError
from macekit.interop.native import load_native
from macekit.training.checkpoints import read_checkpoint
from tiny_runs import run_of

ARCHITECTURE = ("hidden_irreps", "mlp_irreps", "max_ell", "correlation", "radial_mlp", "compute_forces")

CHANGES = {
    "training.max_epochs": 2,
    "training.batch_size": 17,  # 18 structures: the last batch has one, so one process has none
    "training.optimizer": {"name": "SGD", "config": {"lr": 1e-3}},
    "data.targets.y_graph_vector": "dipole",  # no loss: parameters that no gradient reaches
}


@pytest.mark.slow
def test_two_processes_train_the_same_model(water_file, run_training, tmp_path: Path):
    one = run_training(water_file, CHANGES, name="one")
    done = torchrun(run_of(water_file, tmp_path / "two", CHANGES), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert (done.stdout + done.stderr).count("epoch 2/2") == 1, "process 0 alone prints"
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    two = read_rows(tmp_path / "two" / "metrics.jsonl")
    for mine, theirs in zip(one.fit.history, two, strict=True):
        for name, value in mine.items():
            if name != "seconds":
                assert theirs[name] == pytest.approx(value, rel=1e-10), name
    for name in ("train", "valid"):
        assert (tmp_path / "two" / "errors.csv").read_text().count(f"\n{name},all,") == 3


TUNERS = {
    "lora": {"tuner": "lora", "stages": [{"freeze_modules": ["heads"]}, {"trainer": {"max_epochs": 1}}]},
    "heads": {"tuner": "heads", "reference_energies": "refit"},
}


@pytest.mark.slow
@pytest.mark.parametrize("tuner", TUNERS)
def test_two_processes_fine_tune_the_same_model(tuner: str, water_file: Path, run_training, tmp_path: Path):
    """Stages, most parameters frozen, and rows of an element that the trained model did not know."""
    trained = run_training(water_file, {"training.max_epochs": 1}, name="trained")
    frames = read(water_file, ":")
    for atoms in frames[::2]:
        atoms.numbers[0] = 16
    write(tmp_path / "mixed.extxyz", frames)
    section = {"from": str(trained.directory), "reference_energies": "keep", **TUNERS[tuner]}
    changes = {"finetune": section, "training.max_epochs": 2, "training.optimizer": CHANGES["training.optimizer"]}
    changes |= dict.fromkeys((*(f"model.{field}" for field in ARCHITECTURE), "data.cutoff"))
    one = run_training(tmp_path / "mixed.extxyz", changes, name="one")
    done = torchrun(run_of(tmp_path / "mixed.extxyz", tmp_path / "two", changes), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    facts = load_native(tmp_path / "two" / "model").facts
    assert (facts.elements, facts.scale) == (one.facts.elements, one.facts.scale) and 16 in facts.elements
    assert facts.shift == pytest.approx(one.facts.shift, rel=1e-10)
    energies = (found.reference_energies["energy"] for found in (facts, one.facts))
    assert next(energies) == pytest.approx(next(energies), rel=1e-10)


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes_where_it_is_told_to(water_file: Path, run_training, tmp_path: Path):
    """Two processes until a signal in the middle of an epoch, then one; against one process from the start."""
    changes = {**CHANGES, "training.batch_size": 6}
    whole = run_training(water_file, changes, name="one")
    run = run_of(water_file, tmp_path / "two", changes)
    done = torchrun(run, tmp_path, stop_after=4)
    assert "143" in done.stdout + done.stderr, done.stdout + done.stderr
    assert read_checkpoint(tmp_path / "two" / "checkpoints" / "last")["progress"]["counts"].shape[0] == 2
    with pytest.raises(ResumeError, match=r"processes\.number: 2 then, 1 now") as refused:
        run_training(water_file, changes, name="two", resume=True)
    assert "run.other_processes=true" in refused.value.hint
    resumed = run_training(water_file, {**changes, "run.other_processes": True}, name="two", resume=True)
    assert "2 processes then: equal to rounding from here on" in (tmp_path / "two" / "train.log").read_text()
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    for mine, theirs in zip(whole.fit.history, resumed.fit.history, strict=True):
        for name, value in mine.items():
            if name != "seconds":
                assert theirs[name] == pytest.approx(value, rel=1e-10), name
    more = {**changes, "run.other_processes": True, "training.max_epochs": 3}
    done = torchrun(run_of(water_file, tmp_path / "two", more), tmp_path, "--resume")  # and on two again
    assert done.returncode == 0, done.stdout + done.stderr
    run_training(water_file, {**changes, "training.max_epochs": 3}, name="one", resume=True)
    assert_same_weights(tmp_path / "one", tmp_path / "two")


DRIVER = """
import os, signal, sys
from macekit.cli import main
from macekit.training.steps import Stepper

last, update, count = int(sys.argv.pop(1)), Stepper.update, 0

def counted(self):
    global count
    update(self)
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGTERM)

Stepper.update = counted
main()
"""


def torchrun(run, folder: Path, *arguments: str, stop_after: int = 0) -> subprocess.CompletedProcess[str]:
    """A run on two processes, to its end or to a step at which they are told to stop."""
    (folder / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_unset=True)))
    (folder / "driver.py").write_text(DRIVER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "driver.py"]
    places = [str(Path(macekit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [*command, str(stop_after), "train", "run.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_same_weights(one: Path, two: Path) -> None:
    """Weights and their averages in the last checkpoint, to rounding."""
    states = [read_checkpoint(path / "checkpoints" / "last") for path in (one, two)]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    for name, weight in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], weight, rtol=1e-10, atol=1e-14, msg=name)
        averages = [state["ema"][f"module.{name}"] for state in states]
        torch.testing.assert_close(averages[1], averages[0], rtol=1e-10, atol=1e-14, msg=name)


def read_rows(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]
