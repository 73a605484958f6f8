from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from macekit.config import TrainingRun
from macekit.config.loading import load_run
from macekit.data import Structure, read_structures
from macekit.data.stores import Store, StoredStructures, StoreWriter, open_store
from macekit.data.stores import reading as reading_module
from macekit.errors import ConfigError, DataError, UsageError
from macekit.geometry.statistics import measure_facts
from macekit.geometry.stored_statistics import count_edges, measure_stored_facts
from macekit.training.lock import run_lock
from macekit.training.stored_data import opened_store, prepare_store, sampled, stored_parts
from tiny_runs import copper, run_of, water

CHANGES = {
    "data.targets": {
        "y_graph_scalars": ["energy"],
        "y_node_vector": "forces",
        "y_graph_vector": "dipole",
        "y_node_scalars": ["charges"],
        "stress": "stress",
    },
    "data.node_features": {"colour": [0, 1, 2]},
    "data.edge_features": "bonds",
    "model.y_graph_vector_loss_config": {"name": "MSELoss"},
    "model.y_node_scalars_loss_config": {"name": "MSELoss"},
    "model.stress_loss_config": {"name": "MSELoss"},
}


def frames() -> list[Atoms]:
    generator = np.random.default_rng(4)
    found = []
    for number in range(40):
        atoms = copper(generator) if number % 3 == 0 else water(generator)
        atoms.info["config_type"] = ["bulk", "gas phase", "gas phase"][number % 3]
        if number % 3:
            atoms.info["bonds"] = [[0, 1, 1.0, 0.5], [0, 2, 2.0, 0.25]]
        atoms.arrays["colour"] = generator.integers(0, 3, len(atoms))
        if number == 7:
            del atoms.info["REF_energy"]
        if number == 8:
            atoms.info["config_weight"] = 2.0
            atoms.info["config_forces_weight"] = 0.5
        found.append(atoms)
    for symbol, energy in (("H", -13.0), ("O", -50.0), ("Cu", -3.0)):
        found.append(Atoms(symbol, info={"REF_energy": energy, "config_type": "IsolatedAtom"}))
        found[-1].arrays["colour"] = np.zeros(1, dtype=int)
        found[-1].arrays["REF_forces"] = np.zeros((1, 3))
    return found


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    everything = frames()
    write(tmp_path / "one.extxyz", everything[:25])
    write(tmp_path / "two.extxyz", everything[25:])
    changes = {
        **CHANGES,
        "data.train": [str(tmp_path / "one.extxyz"), {"file": str(tmp_path / "two.extxyz"), "weight": 3.0}],
    }
    return run_of(tmp_path / "one.extxyz", tmp_path / "run", changes)


def writer(run: TrainingRun, directory: Path, shard_frames: int = 7, **options: Any) -> StoreWriter:
    def edges(structure: Structure) -> int:
        return count_edges(structure, run.data.cutoff)

    return StoreWriter(directory, run.data, edges, shard_frames=shard_frames, **options)


def same(one: Structure, two: Structure) -> None:
    for name in ("atomic_numbers", "positions", "cell", "pbc", "node_features", "bonds", "bond_features"):
        first, second = getattr(one, name), getattr(two, name)
        assert first.dtype == second.dtype and first.shape == second.shape, (one.source, name)
        assert np.array_equal(first, second), (one.source, name)
    for name in ("weight", "property_weights", "source", "config_type", "head"):
        assert getattr(one, name) == getattr(two, name), (one.source, name)
    assert one.targets.keys() == two.targets.keys()
    for target, label in one.targets.items():
        assert np.array_equal(label, two.targets[target], equal_nan=True)
        assert label.shape == two.targets[target].shape


def test_structures_come_back_as_they_were_read(run, tmp_path: Path):
    read = read_structures(run.data.train, run.data)
    warnings = writer(run, tmp_path / "store").run()
    store = open_store(tmp_path / "store", run.data)
    stored = StoredStructures(store)
    assert len(stored) == len(read.structures) == 43
    for one, two in zip(stored, read.structures, strict=True):
        same(one, two)
    order = np.random.default_rng(0).permutation(43)
    for index in order:
        same(stored[int(index)], read.structures[index])
    assert store.num_edges().tolist() == [count_edges(s, run.data.cutoff) for s in read.structures]
    assert store.is_isolated().sum() == 3
    assert store.warnings == warnings


def test_census_and_facts_are_those_of_the_structures(run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    store = Store(tmp_path / "store")
    read = read_structures(run.data.train, run.data)
    mine, theirs = store.census.to_dict(), read.census.to_dict()
    for target, row in theirs["targets"].items():
        for name, value in row.items():
            found = mine["targets"][target][name]
            assert found == (pytest.approx(value, rel=1e-10) if isinstance(value, float) else value), (target, name)
    assert {k: v for k, v in mine.items() if k != "targets"} == {k: v for k, v in theirs.items() if k != "targets"}
    for choice in ("fit", "isolated_atoms", "none", {"H": -13.5, "O": -50.0, "Cu": -3.5}):
        for forces in (True, False):
            changed = load_run(run, {"data.reference_energies": choice, "model.compute_forces": forces})
            stored, direct = measure_stored_facts(store.levels, changed), measure_facts(read.structures, changed)
            assert_close(stored.facts.model_dump(), direct.facts.model_dump())
            for target, reference in direct.reference_energies.items():
                other = stored.reference_energies[target]
                assert (other.method, other.rank, other.unit) == (reference.method, reference.rank, reference.unit)
            assert [note for note in stored.notes if not note.startswith("warning")] == [
                note for note in direct.notes if not note.startswith("warning")
            ]


def test_levels_of_theory_are_kept_apart(run, tmp_path: Path):
    train = [
        {"file": str(tmp_path / "one.extxyz"), "head": "pbe"},
        {"file": str(tmp_path / "two.extxyz"), "head": "r2scan"},
        {"file": str(tmp_path / "gas.extxyz"), "head": "hf"},
    ]
    write(tmp_path / "gas.extxyz", [frame for frame in frames() if len(frame) == 3])
    changed = load_run(run, {"data.train": train})
    read = read_structures(changed.data.train, changed.data)
    writer(changed, tmp_path / "store").run()
    store = Store(tmp_path / "store")
    assert [s.head for s in StoredStructures(store)] == [s.head for s in read.structures]
    stored, direct = measure_stored_facts(store.levels, changed), measure_facts(read.structures, changed)
    assert_close(stored.facts.model_dump(), direct.facts.model_dump())
    assert stored.reference_energies.keys() == direct.reference_energies.keys()
    assert [n for n in stored.notes if "E0 = 0" in n] == [n for n in direct.notes if "E0 = 0" in n] != []


def assert_close(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_close(one[key], two[key])
    elif (isinstance(one, list) and one and isinstance(one[0], float)) or isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-8, abs=1e-9)
    else:
        assert one == two


def test_isolated_atoms_that_disagree_are_named(run, tmp_path: Path):
    extra = Atoms("H", info={"REF_energy": -13.1})
    extra.arrays |= {"colour": np.zeros(1, dtype=int), "REF_forces": np.zeros((1, 3))}
    write(tmp_path / "two.extxyz", [*frames()[25:], extra])
    writer(run, tmp_path / "store").run()
    changed = load_run(run, {"data.reference_energies": "isolated_atoms"})
    with pytest.raises(DataError, match=r"two isolated H atoms with different energy: two.extxyz frame 15 .*frame 18"):
        measure_stored_facts(Store(tmp_path / "store").levels, changed)


def test_size_of_shards_and_interruptions_do_not_show(run, tmp_path: Path):
    writer(run, tmp_path / "whole").run()
    for stop in range(1, 8):
        directory = tmp_path / f"stopped{stop}"
        lines: list[str] = []

        def die(line: str, lines: list[str] = lines, stop: int = stop) -> None:
            lines.append(line)
            if len(lines) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            writer(run, directory, report=die).run()
        with pytest.raises(DataError, match=r"stopped\d: the preparation of this store was not finished"):
            Store(directory)
        (directory / "shard-000099.safetensors.partial").write_text("half")
        lines.clear()
        writer(run, directory, report=lines.append).run()
        assert sum("was there" in line for line in lines) == stop
        for path in (tmp_path / "whole").glob("sh*"):
            assert path.read_bytes() == (directory / path.name).read_bytes(), path.name
        assert Store(directory).hash == Store(tmp_path / "whole").hash


def test_a_damaged_shard_is_found_and_made_again(run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    path = tmp_path / "store" / "shard-000003.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        DataError, match=r"shard-000003.safetensors: .* damaged \(sha256 .*, store.json says .*\)\nhint: restore it"
    ):
        list(StoredStructures(Store(tmp_path / "store")))
    path.write_bytes(good[:40])
    with pytest.raises(DataError, match=r"shard-000003.safetensors: this shard of the store is missing or damaged"):
        Store(tmp_path / "store")
    path.unlink()
    with pytest.raises(DataError, match=r"shard-000003.safetensors: this shard of the store is missing or damaged"):
        Store(tmp_path / "store")
    path.write_bytes(good[:-1])
    lines: list[str] = []
    writer(run, tmp_path / "store", report=lines.append).run()
    assert path.read_bytes() == good
    assert sum("was there" in line for line in lines) == 6


def test_other_data_do_not_go_into_the_same_store(run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    with pytest.raises(DataError, match=r"made from other data; cutoff: 3\.0 then, 4\.0 now"):
        writer(load_run(run, {"data.cutoff": 4.0}), tmp_path / "store")
    write(tmp_path / "two.extxyz", frames()[25:-1])
    with pytest.raises(DataError, match="made from other data; files: "):
        writer(run, tmp_path / "store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "shard-000000.safetensors").write_text("")
    with pytest.raises(DataError, match="holds shards of an unknown preparation"):
        writer(run, tmp_path / "other")
    with run_lock(tmp_path / "store"), pytest.raises(UsageError, match="in use by process"):
        prepare_store(run, tmp_path / "store")


def test_a_run_must_fit_its_store(run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    store = str(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"data\.cutoff: 4\.0, and the store .* was prepared with 3\.0"):
        open_store(store, load_run(run, {"data.cutoff": 4.0}).data)
    with pytest.raises(DataError, match=r"no target 'gap' \(graph_scalar\); it has energy \(graph_scalar\)"):
        open_store(store, load_run(run, {"data.targets.y_graph_scalars": ["energy", "gap"]}).data)
    fewer = {"data.targets.stress": None, "model.stress_loss_config": None}
    assert "stress" not in StoredStructures(open_store(store, load_run(run, fewer).data))[0].targets
    with pytest.raises(ConfigError, match=r"data\.train: .*store is a store, which must be alone and without a weight"):
        opened_store([store, "other.extxyz"], run.data, "data.train")
    assert opened_store(["other.extxyz"], run.data, "data.train") is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: not a store of structures"):
        Store(tmp_path / "folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": 9}, "store of layout 9, and this version"), ({"levels": None}, "store.json: damaged, levels missing")],
)
def test_other_layouts_and_damaged_manifests_are_named(change, message, run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    file = tmp_path / "store" / "store.json"
    values = json.loads(file.read_text()) | change
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(DataError, match=message):
        Store(tmp_path / "store")


def test_labels_that_are_needed_must_be_there(run, tmp_path: Path):
    changed = load_run(run, {"data.targets.y_graph_scalars": ["energy", "gap"]})
    with pytest.raises(DataError, match=r"one.extxyz, two.extxyz: no frame has a label for target 'gap'"):
        prepare_store(changed, tmp_path / "store")
    prepare_store(changed, tmp_path / "store", needs_labels=False)


def test_a_label_under_two_keys_in_one_file_is_refused(run, tmp_path: Path):
    everything = frames()[:25]
    for atoms in everything[14:]:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
    write(tmp_path / "one.extxyz", everything)
    with pytest.raises(DataError, match=r"one.extxyz: target 'energy' is under 'REF_energy' in some frames and under"):
        writer(run, tmp_path / "store").run()


def test_bad_frames_are_left_out_where_that_is_asked_for(run, tmp_path: Path):
    everything = frames()[:25]
    everything[9].arrays["REF_forces"][0, 0] = np.inf
    write(tmp_path / "one.extxyz", everything)
    with pytest.raises(DataError, match=r"one.extxyz frame 9"):
        writer(run, tmp_path / "store").run()
    skipping = load_run(run, {"data.on_bad_frame": "skip"})
    warnings = writer(skipping, tmp_path / "skipping").run()
    assert any("1 bad frames left out: one.extxyz frame 9" in warning for warning in warnings)
    sources = [structure.source for structure in StoredStructures(Store(tmp_path / "skipping"))]
    assert len(sources) == 42
    assert sources[9] == "one.extxyz frame 10"


def test_only_some_blocks_are_in_memory(run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(reading_module, "BLOCK", 4)
    writer(run, tmp_path / "store").run()
    store = Store(tmp_path / "store")
    store.cached_blocks = 3
    for index in np.random.default_rng(0).integers(0, 43, 200):
        store.structure(int(index))
        assert len(store._cache) <= 3
    with pytest.raises(IndexError, match="structure 43 of 43"):
        store.structure(43)


def test_parts_of_a_store(run, tmp_path: Path):
    writer(run, tmp_path / "store").run()
    store = Store(tmp_path / "store")
    train, valid = stored_parts(store, 0.25, seed=3)
    assert len(valid) == 10
    assert sorted([*train.members.tolist(), *valid.members.tolist()]) == list(range(43))
    assert set(np.flatnonzero(store.is_isolated())) <= set(train.members.tolist())
    again, _ = stored_parts(store, 0.25, seed=3)
    other, _ = stored_parts(store, 0.25, seed=4)
    assert again.members.tolist() == train.members.tolist() != other.members.tolist()
    assert train[2:5].members.tolist() == train.members[2:5].tolist()
    assert train.num_edges().tolist() == store.num_edges()[train.members].tolist()
    few = sampled(train, 5).members.tolist()
    assert few[0] == train.members[0] and few[-1] == train.members[-1] and len(few) == 5
    with pytest.raises(DataError, match="leaves none for validation"):
        stored_parts(store, 0.001, seed=3)


def test_a_full_disk_is_said(run, tmp_path: Path, monkeypatch):
    import errno
    import os

    calls = itertools.count()
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)\nhint: make room"):
        writer(run, tmp_path / "store").run()
    monkeypatch.undo()
    writer(run, tmp_path / "store").run()
    assert len(Store(tmp_path / "store")) == 43
