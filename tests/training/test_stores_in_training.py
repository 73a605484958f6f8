"""Training from a store: the same as from files, without holding the data."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from rich.console import Console

from macekit.config.loading import load_run
from macekit.data import EpochSampler, sampler
from macekit.data.stores import Store, reading
from macekit.errors import ConfigError, DataError, RunStopped
from macekit.training.checkpoints import read_checkpoint
from macekit.training.run import train
from macekit.training.stored_data import opened_store, prepare_store, stored_parts
from tiny_runs import run_of, water


@pytest.fixture(scope="module")
def store(water_file, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("stores") / "store"
    prepare_store(run_of(water_file, directory), directory)
    return directory


def test_training_from_a_store_is_training_from_the_file(store, water_file, run_training):
    changes = {"data.validation": [str(water_file)], "data.test": {"again": str(store)}}
    from_file = run_training(water_file, changes, name="file")
    from_store = run_training(store, changes, name="store")
    for name, weight in from_file.model.state_dict().items():
        torch.testing.assert_close(from_store.model.state_dict()[name], weight, rtol=1e-9, atol=1e-12, msg=name)
    for mine, theirs in zip(from_file.fit.history, from_store.fit.history, strict=True):
        assert mine["val/forces/rmse"] == pytest.approx(theirs["val/forces/rmse"], rel=1e-9)
    assert from_store.evaluations["again"].errors["energy"].count == 24
    text = (from_store.directory / "train.log").read_text()
    assert "store store: 24 structures" in text
    assert "errors of the training data are those of 24 structures, spread over the store" in text


def test_a_part_of_a_store_validates_and_a_run_on_it_resumes(store, run_training, tmp_path: Path):
    from test_resume import assert_same_run, at_step

    changes = {"data.shuffle_window": 64, "training.batch_size": 5, "training.max_epochs": 2}
    whole = run_training(store, changes, name="whole")
    assert (
        "reference energies, scales and shifts are those of the whole store"
        in (whole.directory / "train.log").read_text()
    )
    assert whole.evaluations["valid"].num_structures == 6
    with at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(RunStopped):
        run_training(store, changes)
    run_training(store, changes, resume=True)
    assert_same_run(whole.directory, tmp_path / "run")
    fingerprint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")["fingerprint"]
    assert fingerprint["data"]["training structures"] == 18


def test_every_block_is_read_about_twice_in_an_epoch(store, monkeypatch):
    run = run_of(store, store, {"data.shuffle_window": 8})
    opened = opened_store([str(store)], run.data, "data.train")
    larger = run_of(store, store, {"data.shuffle_window": 100_000})
    assert opened_store([str(store)], larger.data, "data.train").cached_blocks > 2 * 100_000 / 64
    monkeypatch.setattr(reading, "BLOCK", 2)
    monkeypatch.setattr(sampler, "BLOCK", 2)
    reads: list[int] = []
    block = Store._block
    monkeypatch.setattr(Store, "_block", lambda self, number, place: reads.append(place) or block(self, number, place))
    train, _ = stored_parts(opened, 0.25, seed=1)
    for batch in EpochSampler(train.num_edges(), batch_size=3, window=8):
        for index in batch:
            train[index]
    assert len(reads) <= 2 * 12


def test_stores_that_do_not_fit_are_refused(store, copper_file, run_training, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data.cutoff: 3.5, and the store .* was prepared with 3.0"):
        run_training(store, {"data.cutoff": 3.5})
    prepare_store(run_of(copper_file, tmp_path), tmp_path / "copper")
    with pytest.raises(DataError, match=r"test data 'metal'|has Cu, which no training structure has"):
        run_training(store, {"data.test": {"metal": str(tmp_path / "copper")}})


def generated(path: Path, count: int) -> None:
    """Small molecules with labels that are cheap to make."""
    generator = np.random.default_rng(0)
    start = water(generator)
    with path.open("w") as file:
        for first in range(0, count, 1000):
            frames = []
            for _ in range(min(1000, count - first)):
                shift = generator.normal(scale=0.05, size=(3, 3))
                atoms = Atoms("OH2", positions=start.positions + shift)
                atoms.info["REF_energy"] = -76.0 + float((shift**2).sum())
                atoms.arrays["REF_forces"] = -2.0 * shift
                frames.append(atoms)
            write(file, frames, format="extxyz")


def resident() -> float:
    """Memory of this process now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


SMALL_MODEL = {
    "model.hidden_irreps": "4x0e",
    "model.max_ell": 1,
    "model.correlation": 1,
    "model.radial_mlp": [8],
    "model.num_interactions": 1,
    "run.dtype": "float32",
    "training.max_epochs": 1,
    "training.batch_edges": 6000,
    "training.batch_size": None,
    "data.validation": 0.01,
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured as Linux tells it")
@pytest.mark.parametrize("count", [1500, 200_000])
def test_memory_does_not_grow_with_the_data(count, run_training, tmp_path: Path):
    if count > 10_000 and not os.environ.get("MACEKIT_LARGE_TESTS"):
        pytest.skip("takes half an hour; set MACEKIT_LARGE_TESTS=1")
    generated(tmp_path / "many.extxyz", count)
    run = run_of(tmp_path / "many.extxyz", tmp_path / "unused", SMALL_MODEL)
    before = resident()
    prepare_store(load_run(run), tmp_path / "store")
    assert len(Store(tmp_path / "store")) == count
    prepared = resident()
    result = run_training(tmp_path / "store", SMALL_MODEL)
    after = resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    numbers = f"before {before:.0f}, prepared {prepared:.0f}, trained {after:.0f}, peak {peak:.0f} MiB"
    print(f"{count} frames, resident: {numbers}", file=sys.stderr)
    assert after - before < (2048 if count > 10_000 else 300)
    assert result.fit.history[-1]["train/forces/rmse"] > 0


def test_the_verb_makes_a_store_of_a_file_or_a_run(water_file, tmp_path: Path):
    from typer.testing import CliRunner

    from macekit.cli import app
    from macekit.config.loading import dump_run

    done = CliRunner().invoke(app, ["prepare", str(water_file), str(tmp_path / "one"), "data.cutoff=3.0"])
    assert done.exit_code == 0, done.output
    assert "24 structures so far" in done.output
    assert "train with data.train=" in done.output
    assert Store(tmp_path / "one").data["cutoff"] == 3.0
    (tmp_path / "run.yaml").write_text(dump_run(run_of(water_file, tmp_path / "run")))
    done = CliRunner().invoke(app, ["prepare", str(tmp_path / "run.yaml"), str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["prepare", str(tmp_path / "run.yaml"), str(tmp_path / "two"), "data.cutoff=4.0"])
    assert done.exit_code == 3
    assert "made from other data; cutoff: 3.0 then, 4.0 now" in done.output
    run = load_run(tmp_path / "run.yaml", {"data.train": str(tmp_path / "two"), "training.max_epochs": 1})
    assert len(train(run, console=Console(file=io.StringIO())).fit.history) == 1
