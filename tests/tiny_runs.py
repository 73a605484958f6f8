"""Tiny data sets with exact labels, and runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from macekit.config import TrainingRun

TINY = {
    "hidden_irreps": "8x0e + 8x1o",
    "mlp_irreps": "8x0e",
    "max_ell": 2,
    "correlation": 2,
    "radial_mlp": [16],
    "compute_forces": True,
    "y_graph_scalars_loss_config": {"name": "WeightedMSELoss"},
    "y_node_vector_loss_config": {"name": "MSELoss"},
}


def water(generator: np.random.Generator) -> Atoms:
    """A molecule of springs with charges that follow the bond lengths."""
    atoms = Atoms("OH2", positions=[[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    atoms.positions += generator.normal(scale=0.06, size=(3, 3))
    energy, forces, charges = -76.0, np.zeros((3, 3)), np.zeros(3)
    for i, j, length in ((0, 1, 0.96), (0, 2, 0.96), (1, 2, 1.52)):
        bond = atoms.positions[j] - atoms.positions[i]
        distance = np.linalg.norm(bond)
        energy += 0.5 * 20.0 * (distance - length) ** 2
        pull = 20.0 * (distance - length) * bond / distance
        forces[i] += pull
        forces[j] -= pull
        if i == 0:
            charges[j] += 0.4 + 0.3 * (distance - length)
            charges[0] -= 0.4 + 0.3 * (distance - length)
    atoms.info["REF_energy"] = energy
    atoms.info["REF_dipole"] = charges @ atoms.positions
    atoms.arrays["REF_forces"] = forces
    atoms.arrays["REF_charges"] = charges
    return atoms


def copper(generator: np.random.Generator) -> Atoms:
    """A strained and rattled cubic cell with the labels of effective medium theory."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + generator.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
    atoms.positions += generator.normal(scale=0.05, size=(4, 3))
    atoms.calc = EMT()
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
    atoms.calc = None
    return atoms


def run_of(file: Path, directory: Path, changes: dict[str, Any] | None = None) -> TrainingRun:
    """A run of the tiny model; `changes` by dotted key."""
    values: dict[str, Any] = {
        "model": dict(TINY),
        "data": {
            "train": str(file),
            "validation": 0.25,
            "cutoff": 3.0,
            "targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces"},
        },
        "training": {"max_epochs": 3, "batch_size": 6, "optimizer": {"name": "Adam", "config": {"lr": 0.01}}},
        "run": {"directory": str(directory), "device": "cpu", "dtype": "float64", "seed": 7},
    }
    for key, value in (changes or {}).items():
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        if value is None and name in place:
            del place[name]
        else:
            place[name] = value
    return TrainingRun.from_dict(values)
