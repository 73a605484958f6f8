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
    assert np.isclose(change, before)
    assert abs(mean_error(moved, structures)) < 1e-12
    assert np.isclose(moved.facts.shift["energy"], 0.5 + change)
    assert moved.facts.shift["gap"] == 0.25
    assert model.facts.shift["energy"] == 0.5
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), moved.parameters(), strict=True))


def test_structures_count_with_their_weights() -> None:
    structures = waters()
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    alone = calibrated(model, GraphDataset(structures[:1], FACTS))[1]
    other = calibrated(model, GraphDataset(structures[5:6], FACTS))[1]
    weighted = [replace(structures[0], weight=3.0), replace(structures[5], property_weights={"energy": 0.5})]
    _, change = calibrated(model, GraphDataset(weighted, FACTS))
    assert np.isclose(change, (3.0 * alone + 0.5 * other) / 3.5)
    ignored = [structures[0], replace(structures[5], weight=0.0)]
    assert np.isclose(calibrated(model, GraphDataset(ignored, FACTS))[1], alone)


def test_given_scaling_mean_stays() -> None:
    model = build_model("mace_model", {**CONFIG, "scaling_mean": 0.0}, FACTS, dtype=torch.float64)
    assert calibrated(model, GraphDataset(waters(), FACTS)) == (model, 0.0)


def test_without_energies_nothing_happens() -> None:
    structures = [Structure.from_ase(ase.build.molecule("H2O"))]
    model = build_model("mace_model", CONFIG, FACTS, dtype=torch.float64)
    assert calibrated(model, GraphDataset(structures, FACTS)) == (model, 0.0)
