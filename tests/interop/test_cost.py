"""What converting and loading cost, in processes of their own; processor time, so that other work does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.native import save_native

pytestmark = pytest.mark.assets

LOAD = """
import sys, time
import torch
start = time.process_time()
import macekit
model = macekit.load_model(sys.argv[1], device="cpu")
print(time.process_time() - start)
assert model.elements == ("H", "C", "O")
"""
CONVERT = """
import resource, sys
from macekit.cli import app
app(["convert", sys.argv[1], sys.argv[2]], standalone_mode=False)
usage = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss is at least that of the parent
print(usage.ru_utime + usage.ru_stime, 1024 * int(status["VmHWM"].split()[0]))
"""


def run(program: str, *words: Path) -> list[float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def mp_small(assets: Path) -> Path:
    return assets / "models" / "mace_mp_small.model"


def test_a_subset_loads_at_once(mp_small: Path, tmp_path: Path) -> None:
    model, provenance = read_mace_torch(mp_small, elements=[1, 6, 8])
    save_native(model, tmp_path / "model", provenance=provenance)
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) < 4e6
    seconds = min(run(LOAD, tmp_path / "model")[0] for _ in range(3))
    assert seconds < 0.5, "beyond importing torch"


def test_converting_a_large_model(mp_small: Path, tmp_path: Path) -> None:
    seconds, bytes_at_most = run(CONVERT, mp_small, tmp_path / "model")
    assert seconds < 20.0
    assert bytes_at_most < 1.5e9
