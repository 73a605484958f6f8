"""What both packages are given: data, architecture, loss weights, steps. Needs ASE alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
from ase import Atoms


class Protocol(NamedTuple):
    """Frames of a data set, and the settings that depend on it."""

    train_file: str
    """Its first frames are for training, those after them for validation."""
    num_train: int
    num_validation: int
    tests: dict[str, str]
    """Test files by name; frames that are also in the training file are left out."""
    isolated_file: str
    """One frame per element."""
    hidden_irreps: str
    batch_size: int
    forces_weight: float
    epochs: int


PROTOCOLS = {
    "ethanol": Protocol(
        "train.xyz", 180, 20, {"MD": "test_MD.xyz"}, "isolated_atoms.xyz", "32x0e + 32x1o", 10, 100.0, 100
    ),
    "3bpa": Protocol(
        "train_300K.xyz", 450, 50, {"mixedT": "train_mixedT.xyz"}, "iso_atoms.xyz", "32x0e + 32x1o", 5, 1000.0, 12
    ),
}


def labelled(atoms: Atoms) -> Atoms:
    """A molecule with its labels under names that ASE leaves alone, and without a cell."""
    found = Atoms(atoms.numbers, positions=atoms.positions)
    found.info["REF_energy"] = float(atoms.get_potential_energy())
    found.arrays["REF_forces"] = atoms.get_forces()
    return found


def write_frames(protocol: Protocol, data: Path, folder: Path) -> dict[str, Path]:
    """Write the frames as `train`, `validation` and the tests by name; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [labelled(atoms) for atoms in ase.io.read(data / protocol.train_file, ":")]
    end = protocol.num_train + protocol.num_validation
    sets = {"train": frames[: protocol.num_train], "validation": frames[protocol.num_train : end]}
    seen = {np.round(atoms.positions, 6).tobytes() for atoms in frames}
    for name, file in protocol.tests.items():
        tests = [labelled(atoms) for atoms in ase.io.read(data / file, ":")]
        sets[name] = [atoms for atoms in tests if np.round(atoms.positions, 6).tobytes() not in seen]
    files = {name: folder / f"{name}.extxyz" for name in sets}
    for name, chosen in sets.items():
        ase.io.write(files[name], chosen)
    return files


def isolated_atoms(protocol: Protocol, data: Path) -> dict[str, float]:
    """Energy of each isolated atom, eV, of the elements in the training frames."""
    elements = set(ase.io.read(data / protocol.train_file, 0).get_chemical_symbols())
    frames: list[Atoms] = ase.io.read(data / protocol.isolated_file, index=":")
    energies = {atoms.get_chemical_formula(): float(atoms.get_potential_energy()) for atoms in frames}
    return {symbol: energies[symbol] for symbol in sorted(elements)}


def rmse(predicted_energies: np.ndarray, predicted_forces: np.ndarray, frames: list[Atoms]) -> dict[str, float]:
    """Errors of energies per atom and of all components of all forces.

    Args:
        predicted_energies: [G], eV.
        predicted_forces: [N, 3], atoms of all frames in order, eV/Å.
        frames: G frames as `write_frames` wrote them.
    """
    energies = np.array([atoms.info["REF_energy"] for atoms in frames])
    sizes = np.array([len(atoms) for atoms in frames])
    forces = np.concatenate([atoms.arrays["REF_forces"] for atoms in frames])
    per_atom = (predicted_energies - energies) / sizes
    return {
        "frames": len(frames),
        "energy_rmse_meV_per_atom": round(1e3 * float(np.sqrt(np.mean(per_atom**2))), 4),
        "force_rmse_meV_per_A": round(1e3 * float(np.sqrt(np.mean((predicted_forces - forces) ** 2))), 3),
        "energy_mean_error_meV_per_atom": round(1e3 * float(per_atom.mean()), 4),
        "energy_rmse_about_mean_meV_per_atom": round(1e3 * float(per_atom.std()), 4),
    }
