"""The structures of the comparison, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

WATER_SPACING = 3.104
"""Å between the molecules of a grid: 0.997 g/cm³."""

MOLECULE = Path(__file__).parent / "3bpa.xyz"


def water(side: int) -> Atoms:
    """A box of side³ water molecules on a grid, each turned at random and off its place by up to 0.2 Å."""
    rng, one = np.random.default_rng(side), molecule("H2O")
    box = Atoms(cell=[side * WATER_SPACING] * 3, pbc=True)
    for corner in np.ndindex(side, side, side):
        turned = one.copy()
        turned.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        place = (np.array(corner) + 0.5) * WATER_SPACING + rng.uniform(-0.2, 0.2, 3)
        turned.translate(place - turned.get_center_of_mass())
        box += turned
    return box


def water_with(num_atoms: int) -> Atoms:
    """A box of water with at least so many atoms: whole copies of the box of 192, cut along one direction."""
    unit = water(4)
    copies = int(np.ceil(num_atoms / len(unit)))
    side = max(1, int(np.floor(copies ** (1 / 3))))
    return unit.repeat((side, side, int(np.ceil(copies / side**2))))


def rattled(atoms: Atoms, stdev: float, seed: int) -> Atoms:
    """A copy with normal displacements, Å."""
    moved = atoms.copy()
    moved.positions += np.random.default_rng(seed).normal(0.0, stdev, moved.positions.shape)
    return moved


def aluminium_nitride(repeats: tuple[int, int, int]) -> Atoms:
    """Wurtzite AlN, 4 atoms per cell, 91 neighbours within 6 Å."""
    return rattled(bulk("AlN", "wurtzite", a=3.11, c=4.98).repeat(repeats), 0.05, 0)


def silicon() -> Atoms:
    """216 atoms of diamond silicon."""
    return rattled(bulk("Si", cubic=True).repeat(3), 0.05, 0)


def ethanols(count: int) -> list[Atoms]:
    """Rattled molecules of ethanol."""
    return [rattled(molecule("CH3CH2OH"), 0.05, seed) for seed in range(count)]


def benzyloxypyridinamines(count: int) -> list[Atoms]:
    """Rattled molecules of 3BPA, 27 atoms each."""
    found: Atoms = ase.io.read(MOLECULE, format="xyz")
    return [rattled(found, 0.05, seed) for seed in range(count)]


def named(name: str) -> list[Atoms]:
    """The structures of a name.

    Raises:
        ValueError: If there are none of that name.
    """
    kind, _, size = name.partition("-")
    if kind == "water":
        return [water(4) if size == "192" else water_with(int(size))]
    if name == "AlN-108":
        return [aluminium_nitride((3, 3, 3))]
    if name == "AlN-256":
        return [aluminium_nitride((4, 4, 4))]
    if name == "Si-216":
        return [silicon()]
    if kind == "ethanol":
        return ethanols(int(size or 1))
    if kind == "3BPA":
        return benzyloxypyridinamines(int(size or 1))
    raise ValueError(f"no structures '{name}'; there are water-N, AlN-108, AlN-256, Si-216, ethanol-N, 3BPA-N")
