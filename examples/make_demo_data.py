"""Make the demo data: GFN2-xTB molecular dynamics of ethylene glycol at 300 K and 600 K.

Several Langevin trajectories per temperature, each with its own seed, start from different conformers.
After equilibration a frame is kept every 100 fs, its positions are rounded to what the file shows, and
energy, forces, dipole and charges are computed again at the rounded positions. Test frames come from
trajectories of their own. Needs `pip install tblite` and about ten minutes on one core:

    OMP_NUM_THREADS=1 python examples/make_demo_data.py OUTPUT_FOLDER

The method is GFN2-xTB: C. Bannwarth, S. Ehlert and S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019),
doi:10.1021/acs.jctc.8b01176.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from tblite.ase import TBLite

HALF = [[0.76, 0.0, 0.0], [1.234, 1.339, 0.0], [2.203, 1.3, 0.0], [1.12, -0.51, 0.89], [1.12, -0.51, -0.89]]
"""C, O, H (of OH), H, H of the extended conformer, Å; inversion gives the other half."""

CONFORMERS = {
    "tTt": (180, 180, 180),
    "tGg'": (180, 60, -60),
    "g'Gg": (-60, 60, 60),
    "gTt": (60, 180, 180),
    "tGt": (180, -60, 180),
    "g'Gt": (60, -60, 180),
}
"""Start values of the dihedrals H-O-C-C, O-C-C-O and C-C-O-H, degrees."""

TIME_STEP = 0.5  # fs
FRICTION = 0.02  # 1/fs
EQUILIBRATION = 500.0  # fs
SPACING = 100.0  # fs between frames
SETS = {"train": (6, 18, 1000), "test": (5, 20, 2000)}
"""Trajectories per temperature (one per conformer, in the order above), frames of each, and first seed."""


def conformer(dihedrals: tuple[int, int, int]) -> Atoms:
    """Ethylene glycol with the given dihedrals, relaxed with GFN2-xTB."""
    half = np.array(HALF)
    atoms = Atoms("COHHH" * 2, np.vstack([half, -half]))
    atoms.set_dihedral(1, 0, 5, 6, dihedrals[1], indices=[6, 7, 8, 9])
    atoms.set_dihedral(5, 0, 1, 2, dihedrals[0], indices=[2])
    atoms.set_dihedral(0, 5, 6, 7, dihedrals[2], indices=[7])
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    return atoms


def trajectory(atoms: Atoms, kelvin: float, frames: int, seed: int) -> Iterator[Atoms]:
    """Frames of a Langevin run, centred, positions rounded to four decimals."""
    rng = np.random.default_rng(seed)
    momenta = rng.standard_normal((len(atoms), 3))  # Maxwell-Boltzmann
    atoms.set_momenta(momenta * np.sqrt(atoms.get_masses() * units.kB * kelvin)[:, None])
    dynamics = Langevin(
        atoms, TIME_STEP * units.fs, temperature_K=kelvin, friction=FRICTION / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(round(EQUILIBRATION / TIME_STEP))
    for _ in range(frames):
        dynamics.run(round(SPACING / TIME_STEP))
        frame = Atoms(atoms.numbers, atoms.positions - atoms.get_center_of_mass())
        frame.positions = frame.positions.round(4)
        yield frame


def labelled(atoms: Atoms, name: str) -> str:
    """One extxyz frame with its labels, computed from scratch with tight convergence.

    The charges are Mulliken charges. The dipole includes the atomic dipoles of GFN2-xTB: it is not Σ q·x.
    """
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.01)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    dipole, charges = atoms.get_dipole_moment(), atoms.get_charges()  # e·Å (not debye), e
    head = (
        "Properties=species:S:1:pos:R:3:REF_forces:R:3:REF_charges:R:1 "
        f'REF_energy={energy:.6f} REF_dipole="{numbers(dipole, 4)}" config_type={name}'
    )
    rows = [
        f"{symbol} {numbers(x, 4)} {numbers(f, 4)} {q:.4f}"
        for symbol, x, f, q in zip(atoms.symbols, atoms.positions, forces, charges, strict=True)
    ]
    return "\n".join([str(len(atoms)), head, *rows]) + "\n"


def numbers(values: np.ndarray, decimals: int) -> str:
    """Numbers separated by blanks."""
    return " ".join(f"{value:.{decimals}f}" for value in values)


def free_atoms() -> dict[str, float]:
    """Energy of each free atom in the multiplicity of its ground state, with spin polarisation, eV.

    Without spin polarisation GFN2-xTB puts these atoms 1 to 1.5 eV too high. Closed shells do not change.
    """
    energies = {}
    for symbol, multiplicity in {"H": 2, "C": 3, "O": 3}.items():
        atom = Atoms(symbol, [(0.0, 0.0, 0.0)])
        atom.calc = TBLite(method="GFN2-xTB", verbosity=0, multiplicity=multiplicity, spin_polarization=1.0)
        energies[symbol] = float(atom.get_potential_energy())
    return energies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write train, test_300K and test_600K .extxyz to")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    starts = [conformer(dihedrals) for dihedrals in CONFORMERS.values()]
    texts: dict[str, list[str]] = {}
    for name, (trajectories, count, first_seed) in SETS.items():
        for kelvin in (300, 600):
            file = "train" if name == "train" else f"test_{kelvin}K"
            for index, start in enumerate(starts[:trajectories]):
                atoms = start.copy()
                atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
                frames = trajectory(atoms, kelvin, count, first_seed + kelvin + index)
                texts.setdefault(file, []).extend(labelled(frame, f"{kelvin}K") for frame in frames)
                print(
                    f"{file}: {len(texts[file])} frames ({kelvin} K, conformer {list(CONFORMERS)[index]})",
                    flush=True,
                )
    for file, blocks in texts.items():
        (options.output / f"{file}.extxyz").write_text("".join(blocks), encoding="utf-8")
    print("free atoms, eV:", {symbol: round(energy, 6) for symbol, energy in free_atoms().items()})


if __name__ == "__main__":
    main()
