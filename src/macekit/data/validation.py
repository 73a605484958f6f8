"""Checks that a structure makes physical sense, and pairs of atoms that are too close."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from macekit.data.structure import BoolArray, FloatArray, IntArray, Structure
from macekit.errors import DataError

LARGEST_COORDINATE: Final = 1.0e8
"""Coordinates beyond this lose all digits of a bond length, Å."""
COINCIDENT: Final = 1.0e-6
"""Atoms nearer than this are taken as the same point, Å."""
SWEEP: Final = np.array([0.4713, 0.6137, 0.6335]) / np.linalg.norm([0.4713, 0.6137, 0.6335])
SMALLEST_VOLUME: Final = 1.0e-3
"""A fully periodic cell below this has no room for an atom, Å³."""


def validate_structure(structure: Structure, *, coincident: bool = True) -> None:
    """Refuse a structure that no model can describe.

    Args:
        structure: What to check.
        coincident: Whether to look for atoms on top of each other (a neighbour search at 1e-6 Å).

    Raises:
        DataError: NaN or infinite positions, |x| > 1e8 Å, an atomic number that is no element, a cell that is
            not finite or does not span its periodic directions, or two atoms at the same point. Names the
            source and the atom.
    """
    where = structure.source or "structure"
    numbers = structure.atomic_numbers
    if (bad := np.flatnonzero((numbers < 1) | (numbers > 118))).size:
        raise DataError(
            f"{where}: atom {bad[0]} has atomic number {numbers[bad[0]]} (X or a dummy), expected 1 to 118",
            "remove dummy atoms from the file",
        )
    finite = np.isfinite(structure.positions).all(axis=1)
    if not finite.all():
        atom = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{where}: position of atom {atom} is {_text(structure.positions[atom])}, expected finite numbers in Å",
            "remove the frame or repair the file",
        )
    far = np.abs(structure.positions).max(axis=1, initial=0.0) > LARGEST_COORDINATE
    if far.any():
        atom = int(np.flatnonzero(far)[0])
        raise DataError(
            f"{where}: position of atom {atom} is {_text(structure.positions[atom])}; coordinates beyond "
            "1e8 Å cannot be used",
            "wrap the atoms into the cell or centre the molecule",
        )
    _validate_cell(structure, where)
    if coincident and len(structure) > 1:
        first, second, _ = close_pairs(structure, COINCIDENT)
        if len(first):
            raise DataError(
                f"{where}: atoms {first[0]} and {second[0]} are at the same point "
                f"{_text(structure.positions[first[0]])}",
                "remove one of them; expected distances above 1e-6 Å (periodic images included)",
            )


def _validate_cell(structure: Structure, where: str) -> None:
    """Check the lattice vectors of the periodic directions only."""
    if not structure.is_periodic:
        return
    vectors = structure.cell[structure.pbc]
    names = ", ".join("abc"[i] for i in np.flatnonzero(structure.pbc))
    if not np.isfinite(vectors).all():
        raise DataError(f"{where}: the cell is {_text(structure.cell.ravel())}, expected finite lattice vectors in Å")
    lengths = np.linalg.norm(vectors, axis=1)
    content = math.sqrt(max(float(np.linalg.det(vectors @ vectors.T)), 0.0))
    if lengths.min() < COINCIDENT or content < 1e-6 * float(np.prod(lengths)):
        raise DataError(
            f"{where}: periodic along {names} but the lattice vectors {_text(structure.cell.ravel())} are "
            "zero or not independent",
            "give a cell, or set pbc to F along the directions without one",
        )
    if len(vectors) == 3 and content < SMALLEST_VOLUME:
        raise DataError(
            f"{where}: the volume of the cell is {content:.3g} Å³, expected at least {SMALLEST_VOLUME}",
            "check the unit of the lattice (data.units.length)",
        )


def close_pairs(structure: Structure, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of atoms nearer than a small radius, periodic images included.

    Args:
        structure: Finite positions; a cell that spans its periodic directions.
        radius: Å; meant to be short, every image within it is looked at.

    Returns:
        First atom [P], second atom [P] and distance [P], Å, nearest first. An atom and its own image count
        once.
    """
    points, owners = _with_images(structure.positions, structure.cell, structure.pbc, radius)
    pairs = _pairs_within(points, radius)
    pairs = pairs[pairs.min(axis=1, initial=len(points)) < len(structure)]
    if not len(pairs):
        return pairs[:, 0], pairs[:, 1], np.zeros(0)
    distances = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    order = np.argsort(distances, kind="stable")
    owner_pairs = np.sort(owners[pairs[order]], axis=1)
    _, first_seen = np.unique(owner_pairs, axis=0, return_index=True)
    keep = np.sort(first_seen)
    return owner_pairs[keep, 0], owner_pairs[keep, 1], distances[order][keep]


def _pairs_within(points: FloatArray, radius: float) -> IntArray:
    """Pairs of points nearer than the radius, int64 [P, 2]; of many by a sweep along an odd direction."""
    if len(points) <= 64:
        difference = points[:, None] - points
        squared = np.einsum("ijk,ijk->ij", difference, difference)
        first, second = np.nonzero(squared < radius * radius)
        return np.stack([first, second], axis=1)[first < second]
    along = points @ SWEEP
    order = np.argsort(along)
    points, along = points[order], along[order]
    found = [np.zeros((0, 2), dtype=np.int64)]
    for step in range(1, len(points)):
        near = np.flatnonzero(along[step:] - along[:-step] <= radius)
        if not near.size:
            break
        difference = points[near + step] - points[near]
        close = near[np.einsum("ij,ij->i", difference, difference) < radius * radius]
        found.append(np.stack([order[close], order[close + step]], axis=1))
    return np.concatenate(found)


def _with_images(positions: FloatArray, cell: FloatArray, pbc: BoolArray, radius: float) -> tuple[FloatArray, IntArray]:
    """Wrapped atoms, then their images within `radius` of the cell. Returns points [P, 3] and owners [P]."""
    owners = np.arange(len(positions), dtype=np.int64)
    if not pbc.any():
        return positions, owners
    lattice = spanning_cell(cell, pbc)
    inverse = np.linalg.inv(lattice)
    margins = radius * np.linalg.norm(inverse, axis=0)  # radius over the height along each lattice vector
    fractional = positions @ inverse
    fractional[:, pbc] -= np.floor(fractional[:, pbc])
    for axis in np.flatnonzero(pbc):
        copies, copy_owners = [fractional], [owners]
        for shift in range(1, math.ceil(margins[axis]) + 1):
            for sign in (-shift, shift):
                moved = fractional.copy()
                moved[:, axis] += sign
                near = (moved[:, axis] >= -margins[axis]) & (moved[:, axis] <= 1.0 + margins[axis])
                copies.append(moved[near])
                copy_owners.append(owners[near])
        fractional, owners = np.concatenate(copies), np.concatenate(copy_owners)
    return fractional @ lattice, owners


def spanning_cell(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """The periodic lattice vectors, completed by unit vectors perpendicular to them. float64 [3, 3]."""
    lattice = np.array(cell, dtype=np.float64)
    periodic = lattice[pbc]
    complement = np.linalg.svd(periodic)[2][len(periodic) :] if len(periodic) else np.eye(3)
    lattice[~pbc] = complement
    return lattice


def _text(values: FloatArray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
