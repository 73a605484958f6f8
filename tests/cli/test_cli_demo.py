"""`macekit demo` from end to end, with little training and few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.io import read, write

import macekit
import macekit.cli.demo
from macekit.cli.demo import DATA
from macekit.config.loading import load_run

pytestmark = pytest.mark.skipif(not (DATA / "train.extxyz").exists(), reason="no demo data in this checkout")


def test_the_bundled_run_file_is_valid() -> None:
    run = load_run(DATA / "run.yaml")
    assert set(run.data.targets.kinds()) == {"energy", "dipole", "charges", "forces"}
    assert set(run.data.test) == {"300 K", "600 K"}
    files = [item for item in run.data.train if isinstance(item, str)]
    assert all(Path(file).is_file() for file in [*files, *run.data.test["300 K"], *run.data.test["600 K"]])


@pytest.fixture
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled data with a few frames of each file, and a small network."""
    folder = tmp_path / "data"
    folder.mkdir()
    text = (DATA / "run.yaml").read_text().replace("32x0e + 32x1o", "4x0e + 4x1o").replace("max_ell: 2", "max_ell: 1")
    (folder / "run.yaml").write_text(text)
    for file in DATA.glob("*.extxyz"):
        write(folder / file.name, read(file, index=":8"))
    monkeypatch.setattr(macekit.cli.demo, "DATA", folder)
    return folder


def test_demo(invoke: Callable[..., Any], small_data: Path, tmp_path: Path) -> None:
    directory = tmp_path / "demo-run"
    directory.mkdir()
    (directory / "metrics.jsonl").write_text("an earlier demo, which is replaced")
    result = invoke("demo", "--directory", directory, "--epochs", 1, "--md-steps", 20)
    assert result.exit_code == 0, result.output
    assert "earlier" not in (directory / "metrics.jsonl").read_text()
    assert "energy drift over 0.01 ps" in result.stdout
    for name in ("model", "md.extxyz", "md_energy.png", "parity.png", "loss.png", "errors.csv"):
        assert (directory / name).exists()
        assert name in result.stdout
    assert macekit.load_model(directory / "model").elements == ("H", "C", "O")
