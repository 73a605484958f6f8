"""The verbs at work: what they print, write and return."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

import macekit
from macekit.config.loading import load_run

Invoke = Callable[..., Any]


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_train_evaluate_predict(invoke: Invoke, run_file: Path, data_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "water"
    trained = invoke("train", run_file, f"run.directory={run}", "training.max_epochs=1")
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == ""
    assert "epoch 1/1" in trained.stderr
    assert load_run(run / "resolved.yaml").training.max_epochs == 1

    evaluated = invoke("evaluate", run / "model", data_file, "--output", tmp_path / "errors", "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.output
    assert all(word in evaluated.stdout for word in ("waters.extxyz", "energy RMSE", "forces MAE", "meV/Å"))
    rows = rows_of(tmp_path / "errors" / "errors.csv")
    assert {row["target"] for row in rows} == {"energy", "forces"}
    assert (tmp_path / "errors" / "parity.png").stat().st_size > 1000

    again = invoke("train", run_file, f"run.directory={run}")
    assert again.exit_code == 2
    assert "already holds a run" in again.stderr
    assert "hint: " in again.stderr
    assert invoke("train", run_file, f"run.directory={run}", "--resume").exit_code in {0, 5}


def test_train_from_python_does_the_same(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = macekit.train(run_file, {"run.directory": str(tmp_path / "run"), "training.max_epochs": 1})
    assert result.directory == tmp_path / "run"
    assert "epoch 1/1" in capsys.readouterr().out
    assert macekit.load_model(result.directory / "model").elements == ("H", "O")


def test_dry_run(invoke: Invoke, run_file: Path, tmp_path: Path) -> None:
    result = invoke("train", run_file, "training.max_epochs=3", "--dry-run")
    assert result.exit_code == 0
    (tmp_path / "resolved.yaml").write_text(result.stdout)
    assert load_run(tmp_path / "resolved.yaml") == load_run(run_file, {"training.max_epochs": 3})
    sizes = ("structures", "E0(H)", "parameters", "steps per epoch", "time of all epochs", "memory of the largest")
    for said in (*sizes, "training step: "):
        assert said in result.stderr, said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (
            ["training.max_epoch=3"],
            2,
            ["override training.max_epoch: unknown key", "hint: did you mean 'max_epochs'?"],
        ),
        (["data.train=absent.extxyz"], 3, ["absent.extxyz: no such file"]),
        (["data.keys.energy=REF_enrgy"], 3, ["REF_enrgy", "REF_energy"]),
        (["run.device=tpu"], 2, ["run.device: expected auto, cpu, cuda or cuda:N, got 'tpu'"]),
    ],
)
def test_train_refuses(
    invoke: Invoke, run_file: Path, tmp_path: Path, overrides: list[str], code: int, words: list[str]
) -> None:
    result = invoke("train", run_file, f"run.directory={tmp_path / 'run'}", *overrides)
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert "\nerror: " in f"\n{result.stderr}"
    assert all(word in result.stderr for word in words), result.stderr


def test_a_missing_run_file(invoke: Invoke, run_file: Path) -> None:
    result = invoke("train", run_file.with_name("rum.yaml"))
    assert result.exit_code == 2
    assert result.stderr.endswith("rum.yaml: no such file\nhint: did you mean 'run.yaml'?\n")


def test_unexpected_errors_go_to_a_log(
    invoke: Invoke, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import macekit.training.run as training_run

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("boom")

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(training_run, "train", broken)
    result = invoke("train", run_file, f"run.directory={tmp_path / 'run'}")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: unexpected RuntimeError: boom\n")
    assert "RuntimeError: boom" in (tmp_path / "run" / "error.log").read_text()


def test_predict(invoke: Invoke, model_directory: Path, data_file: Path, waters: list[Atoms], tmp_path: Path) -> None:
    output = tmp_path / "out.extxyz"
    result = invoke("predict", model_directory, data_file, "--output", output, "--device", "cpu", "--dtype", "float64")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"wrote 10 structures with energy, dipole, charges, forces to {output}" in result.stderr
    frames = read(output, index=":")
    expected = macekit.load_model(model_directory, device="cpu", dtype="float64").predict(waters)
    for index, (frame, water) in enumerate(zip(frames, waters, strict=True)):
        assert frame.info["macekit_energy"] == pytest.approx(expected["energy"][index], abs=1e-6)
        np.testing.assert_allclose(frame.info["macekit_dipole"], expected["dipole"][index], atol=1e-6)
        np.testing.assert_allclose(frame.arrays["macekit_forces"], expected["forces"][index], atol=1e-6)
        np.testing.assert_allclose(frame.arrays["macekit_charges"], expected["charges"][index], atol=1e-6)
        assert frame.info["REF_energy"] == pytest.approx(water.info["REF_energy"])
        np.testing.assert_allclose(frame.arrays["REF_forces"], water.arrays["REF_forces"], atol=1e-6)
    assert list(tmp_path.glob(".*.part")) == []


def test_predict_with_std(
    invoke: Invoke, model_directory: Path, gaussian_directory: Path, data_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.extxyz"
    arguments = ("--output", output, "--prefix", "p_", "--std")
    assert invoke("predict", gaussian_directory, data_file, *arguments).exit_code == 0
    frame = read(output, index=0)
    assert frame.info["p_energy_std"] > 0
    assert "p_energy" in frame.info
    refused = invoke("predict", model_directory, data_file, *arguments, "--overwrite")
    assert refused.exit_code == 2
    assert "a mean_var_mace_model has them" in refused.stderr


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("absent/out.extxyz", "does not exist"),
        (".", "this is a directory"),
        ("waters.extxyz", "the file exists"),
    ],
)
def test_predict_checks_the_output_first(
    invoke: Invoke, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = data_file.read_bytes()
    result = invoke("predict", "no-model", data_file, "--output", output)
    assert result.exit_code == 2
    assert words in result.stderr
    assert data_file.read_bytes() == before


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_models_and_data_that_are_not_there(
    invoke: Invoke,
    verb: str,
    model_directory: Path,
    data_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(verb, tmp_path / "absent", data_file).exit_code == 4
    (tmp_path / "old.model").write_bytes(b"pickle")
    legacy = invoke(verb, tmp_path / "old.model", data_file)
    assert legacy.exit_code == 4
    assert "a legacy pickle is never read here" in legacy.stderr
    missing = invoke(verb, model_directory, tmp_path / "waters.xyz")
    assert missing.exit_code == 3
    assert "no such file" in missing.stderr
    helium = tmp_path / "helium.extxyz"
    write(helium, Atoms("He", info={"REF_energy": 1.0}))
    unknown = invoke(verb, model_directory, helium)
    assert unknown.exit_code == 3
    assert "model knows H, O; structure has He" in unknown.stderr


def test_evaluate_with_keys_and_units(
    invoke: Invoke,
    model_directory: Path,
    data_file: Path,
    waters: list[Atoms],
    run_file: Path,
    tmp_path: Path,
) -> None:
    def energy_error(*arguments: object) -> float:
        result = invoke("evaluate", model_directory, *arguments, "--output", tmp_path / "errors", "--device", "cpu")
        assert result.exit_code == 0, result.output
        rows = rows_of(tmp_path / "errors" / "errors.csv")
        return float(next(row["rmse"] for row in rows if row["target"] == "energy"))

    expected = energy_error(data_file)
    frames = [atoms.copy() for atoms in waters]
    for atoms in frames:
        atoms.info["my_energy"] = 1000.0 * atoms.info.pop("REF_energy")
    renamed = tmp_path / "renamed.extxyz"
    write(renamed, frames)
    run_file.write_text(run_file.read_text() + "\n")
    config = tmp_path / "units.yaml"
    config.write_text(run_file.read_text().replace("  cutoff: 3.0\n", "  cutoff: 3.0\n  units: {energy: meV}\n"))
    assert energy_error(renamed, "--key", "energy=my_energy", "--config", config) == pytest.approx(expected, rel=1e-5)
    result = invoke("evaluate", model_directory, data_file, renamed, "--key", "energy")
    assert result.exit_code == 2
    assert "--key energy: expected target=key" in result.stderr


def test_interrupt_of_a_running_process(run_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "macekit", "train", str(run_file)]
    overrides = [f"run.directory={tmp_path / 'run'}", "training.max_epochs=100000"]
    process = subprocess.Popen([*command, *overrides], stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.rstrip().endswith("interrupted")
