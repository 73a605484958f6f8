"""torchrun with two processes, against one process on the same global batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from macekit.config.loading import dump_run
from macekit.training.checkpoints import read_checkpoint
from tiny_runs import run_of

CHANGES = {
    "training.max_epochs": 2,
    "training.batch_size": 17,  # 18 structures: the last batch has one, so one process has none
    "training.optimizer": {"name": "SGD", "config": {"lr": 1e-3}},
    "data.targets.y_graph_vector": "dipole",  # no loss: parameters that no gradient reaches
}


@pytest.mark.slow
def test_two_processes_train_the_same_model(water_file, run_training, tmp_path: Path):
    one = run_training(water_file, CHANGES, name="one")
    run_file = tmp_path / "run.yaml"
    run_file.write_text(dump_run(run_of(water_file, tmp_path / "two", CHANGES)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "macekit", "train", str(run_file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert (done.stdout + done.stderr).count("epoch 2/2") == 1, "process 0 alone prints"
    states = [read_checkpoint(tmp_path / name / "checkpoints" / "last") for name in ("one", "two")]
    for name, weight in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], weight, rtol=1e-10, atol=1e-14, msg=name)
        averages = [state["ema"][f"module.{name}"] for state in states]
        torch.testing.assert_close(averages[1], averages[0], rtol=1e-10, atol=1e-14, msg=name)
    two = read_rows(tmp_path / "two" / "metrics.jsonl")
    for mine, theirs in zip(one.fit.history, two, strict=True):
        for name, value in mine.items():
            if name != "seconds":
                assert theirs[name] == pytest.approx(value, rel=1e-10), name
    for name in ("train", "valid"):
        assert (tmp_path / "two" / "errors.csv").read_text().count(f"\n{name},all,") == 3


def read_rows(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]
