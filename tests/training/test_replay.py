"""Multi-head replay: a head of its own goes on to predict what the trained model did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from test_finetune_runs import finetune

from macekit.data import Structure
from macekit.errors import ConfigError
from macekit.interop.native import load_native
from macekit.outputs.predictions import predict
from macekit.training.run import TrainingResult
from tiny_runs import water

RunTraining = Callable[..., TrainingResult]


def stretched(seed: int, count: int) -> list[Atoms]:
    """Molecules far from those of the new data, without labels."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = water(random)
        atoms.positions *= 1.15
        frames.append(Atoms(atoms.numbers, atoms.positions))
    return frames


@pytest.fixture
def trained(water_file: Path, run_training: RunTraining) -> Path:
    return run_training(water_file, {"training.max_epochs": 8}, name="trained").directory


@pytest.fixture
def new_level(tmp_path: Path) -> Path:
    """Molecules with energies of another level of theory: other E0, softer springs."""
    random = np.random.default_rng(8)
    frames = [water(random) for _ in range(12)]
    for atoms in frames:
        atoms.info["REF_energy"] = 0.5 * (atoms.info["REF_energy"] + 76.0) - 80.0
        atoms.arrays["REF_forces"] *= 0.5
        del atoms.info["REF_dipole"], atoms.arrays["REF_charges"]
    write(tmp_path / "new.extxyz", frames)
    write(tmp_path / "replay.extxyz", stretched(5, 20))
    return tmp_path / "new.extxyz"


def changes(trained: Path, **section: Any) -> dict[str, Any]:
    return {
        **finetune(trained, tuner="full", **{"reference_energies": "refit", **section}),
        "training.max_epochs": 15,
        "training.batch_size": 4,
    }


def forgotten(directory: Path, trained: Path, head: str) -> float:
    """RMS difference of the forces from those of the trained model on structures that neither run has seen."""
    structures = [Structure.from_ase(atoms) for atoms in stretched(77, 10)]
    before = predict(load_native(trained / "model"), structures)["forces"]
    after = predict(load_native(directory / "model"), [s.with_head(head) for s in structures])["forces"]
    return float(np.sqrt(np.mean((np.concatenate(before) - np.concatenate(after)) ** 2)))


def test_what_was_learned_is_not_forgotten(trained: Path, new_level: Path, run_training: RunTraining) -> None:
    plain = run_training(new_level, changes(trained), name="plain")
    section = {"files": str(new_level.with_name("replay.extxyz")), "weight": 2.0}
    replayed = run_training(new_level, changes(trained, replay=section), name="replayed")
    assert list(replayed.facts.heads) == ["default", "trained"]
    assert replayed.facts.default_head == "default"
    log = (replayed.directory / "train.log").read_text()
    assert "replay: 18 training and 2 validation structures at level 'trained', weight 2" in log
    assert "kept, head 'trained'" in log
    without, with_it = forgotten(plain.directory, trained, ""), forgotten(replayed.directory, trained, "trained")
    assert with_it < 0.4 * without
    before = load_native(trained / "model").facts.reference_energies["energy"]
    assert replayed.facts.heads["trained"].reference_energies["energy"] == before
    energies = replayed.facts.heads["default"].reference_energies["energy"]
    assert abs(2 * energies[0] + energies[1] - 2 * before[0] - before[1] + 4.0) < 0.5
    new = replayed.evaluations["valid"].by_head["default"]["energy"].rmse
    assert new < 3 * plain.evaluations["valid"].errors["energy"].rmse + 20


@pytest.mark.parametrize("labels", ["model", "file"])
def test_both_heads_start_where_the_trained_model_is(
    labels: str,
    trained: Path,
    new_level: Path,
    water_file: Path,
    run_training: RunTraining,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []

    def stop(run: Any, model: Any, *arguments: Any, **options: Any) -> Any:
        started.append((model, arguments[0].structures))
        raise KeyboardInterrupt

    monkeypatch.setattr("macekit.training.run.fit_in_stages", stop)
    section = {"files": [str(water_file)], "labels": labels, "head": "old", "count": 5}
    with pytest.raises(KeyboardInterrupt):
        run_training(new_level, changes(trained, replay=section, reference_energies="keep"), name=labels)
    model, structures = started[0]
    replayed = [s for s in structures if s.head == "old"]
    assert len(replayed) == 4
    source = load_native(trained / "model")
    plain = [s.with_head("") for s in replayed]
    expected = predict(source, plain)
    for head in ("old", "default"):
        found = predict(model, [s.with_head(head) for s in replayed])
        np.testing.assert_allclose(found["energy"], expected["energy"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.stack(found["forces"]), np.stack(expected["forces"]), rtol=0, atol=1e-9)
    labelled = np.array([float(s.targets["energy"]) for s in replayed])
    assert np.allclose(labelled, expected["energy"], atol=1e-9) == (labels == "model")
    state = model.state_dict()
    for name in state:
        if ".levels.0." in name:
            assert torch.equal(state[name], state[name.replace(".levels.0.", ".levels.1.")])


def test_the_level_must_be_free(trained: Path, new_level: Path, run_training: RunTraining) -> None:
    section = {"files": [str(new_level)], "head": "pbe"}
    data = [{"file": str(new_level), "head": "pbe"}]
    with pytest.raises(ConfigError, match=r"finetune.replay.head: 'pbe' is a level of theory of the training data"):
        run_training(new_level, {**changes(trained, replay=section), "data.train": data}, name="taken")
