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
    """Frames for training and validation."""
    num_frames: int
    """How many of its first frames are used."""
    validation: tuple[int, int, int]
    """Start, stop and step of those for validation; the others are for training."""
    tests: dict[str, str]
    """Test files by name; frames that are also in the training file are left out."""
    isolated_file: str | None
    """One frame per element; None: there is one element, and its E0 is the mean energy per atom of the training."""
    hidden_irreps: str
    batch_size: int
    forces_weight: float
    epochs: int
    test_step: int = 1
    """Every so many-th frame of the tests counts."""

    @property
    def num_train(self) -> int:
        """Frames for training."""
        return self.num_frames - len(range(*self.validation))


PROTOCOLS = {
    "ethanol": Protocol(
        "train.xyz", 200, (180, 200, 1), {"MD": "test_MD.xyz"}, "isolated_atoms.xyz", "32x0e + 32x1o", 10, 100.0, 100
    ),
    "3bpa": Protocol(
        "train_300K.xyz", 500, (450, 500, 1), {"mixedT": "train_mixedT.xyz"}, "iso_atoms.xyz", "32x0e + 32x1o", 5,
        1000.0, 12,
    ),
    "3bpa-paper": Protocol(
        "train_300K.xyz", 500, (450, 500, 1), {"mixedT": "train_mixedT.xyz"}, "iso_atoms.xyz",
        "256x0e + 256x1o + 256x2e", 5, 1000.0, 2, 8,
    ),
    "silicon": Protocol(
        "Si.training.extxyz", 214, (5, 214, 10), {"test": "Si.test.extxyz"}, None, "32x0e + 32x1o", 5, 100.0, 15
    ),
}  # fmt: skip


def labelled(atoms: Atoms) -> Atoms:
    """A structure with its labels under names that ASE leaves alone; molecules without a cell."""
    found = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell if atoms.pbc.any() else None, pbc=atoms.pbc)
    has_results = atoms.calc is not None
    found.info["REF_energy"] = float(atoms.get_potential_energy() if has_results else atoms.info["REF_energy"])
    found.arrays["REF_forces"] = atoms.get_forces() if has_results else atoms.arrays["REF_forces"]
    return found


def split(protocol: Protocol, data: Path) -> dict[str, list[Atoms]]:
    """The frames for `train` and for `validation`."""
    frames = [labelled(atoms) for atoms in ase.io.read(data / protocol.train_file, f":{protocol.num_frames}")]
    validation = range(*protocol.validation)
    return {
        "train": [atoms for number, atoms in enumerate(frames) if number not in validation],
        "validation": [atoms for number, atoms in enumerate(frames) if number in validation],
    }


def write_frames(protocol: Protocol, data: Path, folder: Path) -> dict[str, Path]:
    """Write the frames as `train`, `validation` and the tests by name; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = split(protocol, data)
    seen = {_places(atoms) for atoms in ase.io.read(data / protocol.train_file, ":")}
    for name, file in protocol.tests.items():
        unseen = [labelled(atoms) for atoms in ase.io.read(data / file, ":") if _places(atoms) not in seen]
        sets[name] = unseen[:: protocol.test_step]
    files = {name: folder / f"{name}.extxyz" for name in sets}
    for name, chosen in sets.items():
        ase.io.write(files[name], chosen)
    return files


def _places(atoms: Atoms) -> bytes:
    """Cell and positions, for comparison."""
    return bytes(np.round([*atoms.cell.array, *atoms.positions], 6).tobytes())


def isolated_atoms(protocol: Protocol, data: Path) -> dict[str, float]:
    """E0, eV, of the elements in the training frames."""
    elements = set(ase.io.read(data / protocol.train_file, 0).get_chemical_symbols())
    if protocol.isolated_file is None:
        (symbol,) = elements
        frames = split(protocol, data)["train"]
        return {symbol: float(np.mean([atoms.info["REF_energy"] / len(atoms) for atoms in frames]))}
    frames = ase.io.read(data / protocol.isolated_file, index=":")
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
