"""Training on data of several levels of theory: constants, read-outs and errors of each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

import macekit
from macekit.data import Structure, read_structures
from macekit.data.levels import default_head, heads_of, of_head
from macekit.errors import ConfigError
from macekit.geometry.neighbours import graph_for
from macekit.geometry.statistics import measure_facts
from tiny_runs import run_of, water

OFFSET = 5.0
"""Energy of an oxygen atom at the second level minus that at the first, eV; forces there are twice as large."""


def frames(seed: int, level: int, count: int = 16) -> list[Atoms]:
    generator = np.random.default_rng(seed)
    found = [water(generator) for _ in range(count)]
    for atoms in found:
        if level:
            atoms.info["REF_energy"] = 2 * (atoms.info["REF_energy"] + 76.0) - 76.0 + OFFSET
            atoms.arrays["REF_forces"] *= 2
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("levels")
    for level, name in enumerate(("pbe", "ccsd")):
        write(folder / f"{name}.xyz", frames(5, level))
    return {name: str(folder / f"{name}.xyz") for name in ("pbe", "ccsd")}


def changes(files: dict[str, str], **more: Any) -> dict[str, Any]:
    entries = [{"file": file, "head": name} for name, file in files.items()]
    return {"data.train": entries, "data.reference_energies": {"O": -76.0, "H": 0.0}} | more


def test_every_level_learns_its_own(files: dict[str, str], run_training: Any, tmp_path: Path) -> None:
    more = {
        "training.max_epochs": 25,
        "data.reference_energies": {"pbe": {"O": -76.0, "H": 0.0}, "ccsd": {"O": -76.0 + OFFSET, "H": 0.0}},
        "data.test": {"both": [{"file": file, "head": name} for name, file in files.items()]},
    }
    result = run_training(Path(files["pbe"]), changes(files, **more))
    facts = result.model.facts
    assert list(facts.heads) == ["pbe", "ccsd"]
    assert facts.default_head is None
    assert [level.reference_energies["energy"] for level in facts.levels()] == [[0.0, -76.0], [0.0, -76.0 + OFFSET]]
    scales = [level.scale["energy"] for level in facts.levels()]
    assert scales[1] == pytest.approx(2 * scales[0], rel=0.3)

    last = result.fit.history[-1]
    for head in ("pbe", "ccsd"):
        assert last[f"val/{head}/energy/rmse"] < 60.0  # meV per atom; the levels are 1700 apart
    with (result.directory / "errors.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["data"] == "both" and row["target"] == "energy"]
    assert [row["head"] for row in rows] == ["all", "pbe", "ccsd"]
    assert [int(row["count"]) for row in rows] == [32, 16, 16]
    errors = result.evaluations["both"].by_head
    assert errors["pbe"]["energy"].rmse == pytest.approx(float(rows[1]["rmse"]))

    trained = macekit.load_model(result.directory / "model", device="cpu")
    assert trained.heads == ("pbe", "ccsd")
    atoms = frames(9, 0, 1)[0]
    low, high = (float(trained.predict(atoms, head=head)["energy"][0]) for head in trained.heads)
    assert high - low > OFFSET - 0.5
    for head, energy in (("pbe", low), ("ccsd", high)):
        atoms.calc = trained.ase_calculator(device="cpu", head=head)
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
        alone = macekit.load_model(result.directory / "model", head=head, device="cpu")
        assert float(alone.predict(atoms)["energy"][0]) == pytest.approx(energy, rel=1e-12)


def test_losses_see_the_level_of_each_structure(files: dict[str, str], tmp_path: Path) -> None:
    run = run_of(Path(files["pbe"]), tmp_path / "run", changes(files))
    structures = read_structures(run.data.train, run.data).structures
    assert heads_of(structures) == ["pbe", "ccsd"]
    assert [len(of_head(structures, head)) for head in ("pbe", "ccsd")] == [16, 16]
    model = macekit.build_model("mace_model", run.model, measure_facts(structures, run).facts, dtype=torch.float64)
    rows = [graph_for(structure, model.facts).head.item() for structure in structures]
    assert rows == [0] * 16 + [1] * 16


def test_frames_name_their_level(tmp_path: Path) -> None:
    found = frames(0, 0, 4)
    for atoms in found[:2]:
        atoms.info["head"] = "ccsd"
    write(tmp_path / "mixed.xyz", found)
    run = run_of(tmp_path / "mixed.xyz", tmp_path / "run", {})
    structures = read_structures(run.data.train, run.data).structures
    assert [s.head for s in structures] == ["ccsd", "ccsd", "", ""]
    assert heads_of(structures) == ["ccsd", "default"]
    facts = measure_facts(structures, run).facts
    assert facts.default_head == "default"
    assert graph_for(structures[3], facts).head.tolist() == [1]
    entry = {"file": str(tmp_path / "mixed.xyz"), "head": "all the same"}
    run = run_of(tmp_path / "mixed.xyz", tmp_path / "run", {"data.train": [entry]})
    assert heads_of(read_structures(run.data.train, run.data).structures) == ["all the same"]


def test_elements_that_a_level_does_not_have(files: dict[str, str], tmp_path: Path) -> None:
    run = run_of(Path(files["pbe"]), tmp_path / "run", changes(files, **{"data.reference_energies": "fit"}))
    structures = read_structures(run.data.train, run.data).structures
    helium = Structure(np.array([2]), np.zeros((1, 3)), targets={"energy": np.array(-2.5)}, head="pbe", source="he")
    measured = measure_facts([*structures, helium], run)
    assert measured.facts.elements == [1, 2, 8]
    assert measured.facts.heads["pbe"].reference_energies["energy"][1] == pytest.approx(-2.5)
    assert measured.facts.heads["ccsd"].reference_energies["energy"][1] == 0.0
    assert "head 'ccsd': warning: no structure has He: E0 = 0 there" in measured.notes
    assert "Reference energies of 'energy', head 'ccsd'" in str(
        measured.reference_energies["ccsd/energy"].table().title
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"pbe": "fit"}, "data.reference_energies: nothing for head 'ccsd'; given for pbe"),
        ({"pbe": "fit", "ccds": "fit"}, "data.reference_energies: 'ccds' is no head; heads: pbe, ccsd\nhint: did you"),
    ],
)
def test_reference_energies_of_every_level(choice: Any, message: str, files: dict[str, str], tmp_path: Path) -> None:
    run = run_of(Path(files["pbe"]), tmp_path / "run", changes(files, **{"data.reference_energies": choice}))
    structures = read_structures(run.data.train, run.data).structures
    with pytest.raises(ConfigError) as caught:
        measure_facts(structures, run)
    assert message in str(caught.value)


def test_default_heads() -> None:
    assert default_head(["a", "Default"]) == "Default"
    assert default_head(["a", "b"]) is None
    assert default_head(["a"]) == "a"
