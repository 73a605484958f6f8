"""SIGKILL at random moments: there is always a whole checkpoint, never older than the last that was reported."""

from __future__ import annotations

import subprocess
import sys

KILLS = 50
SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from macekit.training.checkpoints import has_checkpoint, read_checkpoint, write_checkpoint

torch.set_num_threads(1)
directory, kills = Path(sys.argv[1]), int(sys.argv[2])
generator = random.Random(11)
start = time.perf_counter()
for step in range(1, 4):
    write_checkpoint(directory, {"step": step, "weights": {"a": torch.full((64, 64), float(step))}})
duration = (time.perf_counter() - start) / 3
reached = 3
for kill in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        step = read_checkpoint(directory)["step"] if has_checkpoint(directory) else 0
        while True:
            step += 1
            weights = {"a": torch.full((64, 64), float(step)), "b": torch.full((7,), step, dtype=torch.int64)}
            write_checkpoint(directory, {"step": step, "weights": weights})
            os.write(writer, step.to_bytes(8, "little"))
    os.close(writer)
    time.sleep(generator.uniform(0.0, 8.0 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reports = b""
    while more := os.read(reader, 1 << 16):
        reports += more
    os.close(reader)
    reported = max([reached, *(int.from_bytes(reports[i : i + 8], "little") for i in range(0, len(reports), 8))])
    state = read_checkpoint(directory)
    assert state["step"] in (reported, reported + 1), (kill, state["step"], reported)
    for name, tensor in state["weights"].items():
        assert (tensor == state["step"]).all(), (kill, name)
    reached = state["step"]
write_checkpoint(directory, {"step": reached})  # takes away what those that were killed had left
print(reached, len(list(directory.iterdir())))
"""


def test_fifty_kills_lose_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "last"), str(KILLS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps, files = map(int, done.stdout.split())
    assert steps > KILLS / 5, "hardly anything was written between the kills"
    assert files <= 5
