"""The run files in examples/: all can be read, and those whose data are at hand train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write

import macekit

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUN_FILES = sorted(EXAMPLES.glob("*.yaml"))
DATA = {
    "silicon.yaml": {"train": "silicon/Si.training.extxyz", "test": "silicon/Si.test.extxyz"},
    "ani1x.yaml": {"train": "ani1x/ani1x_1000_wb97x_dz.extxyz"},
}
"""Files of every example below ../shared/assets/data."""
SMALL = {
    "model.hidden_irreps": "4x0e + 4x1o",
    "model.max_ell": 1,
    "model.correlation": 2,
    "model.radial_mlp": [8],
    "training.max_epochs": 1,
    "run.device": "cpu",
}


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_can_be_read(path: Path) -> None:
    run = macekit.load_run(path)
    assert run.model.compute_forces
    assert all(Path(str(file)).parent == EXAMPLES for file in run.data.train)


@pytest.mark.assets
@pytest.mark.parametrize("name", DATA)
def test_trains(name: str, assets: Path, tmp_path: Path) -> None:
    changes: dict[str, object] = {**SMALL, "run.directory": str(tmp_path / "run")}
    for section, file in DATA[name].items():
        few = tmp_path / f"{section}.extxyz"
        write(few, read(assets / "data" / file, "::20" if section == "train" else ":2"), format="extxyz")
        changes[f"data.{section}"] = str(few)
    result = macekit.train(EXAMPLES / name, changes)
    expected = {"energy", "forces", *(["stress"] if "silicon" in name else ["dipole"])}
    model = macekit.load_model(tmp_path / "run" / "model")
    assert set(model.targets) == expected
    assert np.isfinite(result.fit.history[-1]["train/total/loss"])
