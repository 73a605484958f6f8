"""The constant per atom is set to the mean energy error, and only where it was not given."""

from __future__ import annotations

from dataclasses import replace

import ase.build
import numpy as np
import torch

from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.geometry.batch import GraphDataset
from macekit.model.build import build_model
from macekit.outputs.predictions import predict
from macekit.training.calibration import calibrated

FACTS = DatasetFacts(
    elements=[1, 8],
    targets={"y_graph_scalars": ["gap", "energy"]},
    reference_energies={"energy": [-1.0, -2.0]},
    shift={"energy": 0.5, "gap": 0.25},
)
CONFIG = {"hidden_irreps": "4x0e", "max_ell": 1, "correlation": 2, "radial_mlp": [4]}


def waters() -> list[Structure]:
    frames = []
    for seed in range(6):
        atoms = ase.build.molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        frames.append(Structure.from_ase(atoms).with_targets({"energy": -5.0 + 0.1 * seed}))
    frames.append(Structure.from_ase(ase.Atoms("H")).with_targets({"energy": -100.0}))  # no edges: does not count
    return frames


def mean_error(model: object, structures: list[Structure]) -> float:
    predicted = predict(model, structures[:6])["energy"]  # type: ignore[arg-type]
    labels = np.array([float(structure.targets["energy"]) for structure in structures[:6]])
    return float(np.mean((labels - np.asarray(predicted)) / 3))


def test_mean_error_per_atom_vanishes_and_nothing_else_changes() -> None:
    structures = waters()
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    before = mean_error(model, structures)
    moved, change = calibrated(model, GraphDataset(structures, FACTS))
    assert abs(before) > 1e-3
    assert np.allclose(change, [before, before])
    assert abs(mean_error(moved, structures)) < 1e-12
    assert np.isclose(moved.facts.shift["energy"], 0.5 + change[0])
    assert moved.facts.shift["gap"] == 0.25
    assert model.facts.shift["energy"] == 0.5
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), moved.parameters(), strict=True))


def test_structures_count_with_their_weights() -> None:
    structures = waters()
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    alone = calibrated(model, GraphDataset(structures[:1], FACTS))[1][0]
    other = calibrated(model, GraphDataset(structures[5:6], FACTS))[1][0]
    weighted = [replace(structures[0], weight=3.0), replace(structures[5], property_weights={"energy": 0.5})]
    _, change = calibrated(model, GraphDataset(weighted, FACTS))
    assert np.allclose(change, (3.0 * alone + 0.5 * other) / 3.5)
    ignored = [structures[0], replace(structures[5], weight=0.0)]
    assert np.allclose(calibrated(model, GraphDataset(ignored, FACTS))[1], alone)


def compositions() -> list[Structure]:
    """Molecules of several compositions whose labels are those of an untrained model and a constant per element."""
    frames = [ase.build.molecule(name) for name in ("H2O", "H2O2", "O3", "H2") for _ in range(6)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    structures = [Structure.from_ase(atoms) for atoms in frames]
    found = predict(build_model("mace_model", CONFIG, FACTS, dtype=torch.float64), structures)["energy"]
    missing = np.array(
        [[0.3 * np.sum(s.atomic_numbers == 1) - 0.7 * np.sum(s.atomic_numbers == 8)] for s in structures]
    )
    return [s.with_targets({"energy": e}) for s, e in zip(structures, np.asarray(found) + missing[:, 0], strict=True)]


def test_constants_of_elements_are_found_where_reference_energies_may_change() -> None:
    structures = compositions()
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    moved, changes = calibrated(model, GraphDataset(structures, FACTS), by_element=True)
    np.testing.assert_allclose(changes, [0.3, -0.7], atol=1e-10)
    np.testing.assert_allclose(moved.facts.reference_energies["energy"], [-0.7, -2.7], atol=1e-10)
    assert moved.facts.shift == model.facts.shift
    labels = [float(structure.targets["energy"]) for structure in structures]
    np.testing.assert_allclose(predict(moved, structures)["energy"], labels, atol=1e-10)
    few = structures[::2]  # 12 structures, 2 elements: one constant for both
    moved, changes = calibrated(model, GraphDataset(few, FACTS), by_element=True)
    assert changes[0] == changes[1] and moved.facts.reference_energies == model.facts.reference_energies
    assert np.isclose(moved.facts.shift["energy"], 0.5 + changes[0])


def test_every_level_of_theory_has_constants_of_its_own() -> None:
    level = {"reference_energies": {"energy": [-1.0, -2.0]}, "shift": {"energy": 0.5}}
    facts = DatasetFacts(elements=[1, 8], targets={"y_graph_scalars": ["energy"]}, heads={"one": level, "two": level})
    moved = facts.with_atoms_moved("energy", [[1.0, 2.0], [0.0, -1.0]])
    assert moved.heads["one"].reference_energies["energy"] == [0.0, 0.0]
    assert moved.heads["two"].reference_energies["energy"] == [-1.0, -3.0]


def test_given_scaling_mean_stays() -> None:
    model = build_model("mace_model", {**CONFIG, "scaling_mean": 0.0}, FACTS, dtype=torch.float64)
    for by_element in (False, True):
        moved, change = calibrated(model, GraphDataset(waters(), FACTS), by_element=by_element)
        assert moved is model and not change.any()


def test_without_energies_nothing_happens() -> None:
    structures = [Structure.from_ase(ase.build.molecule("H2O"))]
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    moved, change = calibrated(model, GraphDataset(structures, FACTS))
    assert moved is model and not change.any()
