"""Named structures, each there for a reason. Elements: H, C, O, Cu."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from macekit.data import Structure

ELEMENTS = (1, 6, 8, 29)
"""The elements of all structures here."""
CUTOFF = 3.2
"""Å; the cutoff the structures are made for."""


def structure(numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike | None = None, pbc: str = "FFF") -> Structure:
    """A structure without labels; `pbc` such as "TTF"."""
    return Structure(
        atomic_numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.asarray(positions, dtype=np.float64).reshape(-1, 3),
        cell=np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=np.float64),
        pbc=np.array([letter == "T" for letter in pbc]),
    )


def zero_atoms() -> Structure:
    """Nothing at all."""
    return structure([], np.zeros((0, 3)))


def single_atom(number: int = 8) -> Structure:
    """N = 1, E = 0."""
    return structure([number], [[0.3, -0.2, 0.1]])


def dimer(distance: float, numbers: tuple[int, int] = (1, 8)) -> Structure:
    """Two atoms along a direction that is no axis."""
    direction = np.array([0.48, 0.6, 0.64])
    return structure(numbers, [[0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3]) + distance * direction])


def isolated_pair() -> Structure:
    """Two atoms beyond the cutoff: N = 2, E = 0."""
    return dimer(1.5 * CUTOFF)


def water() -> Structure:
    """A molecule without inversion symmetry."""
    return structure([8, 1, 1], [[0.02, 0.01, 0.05], [0.77, 0.58, 0.0], [-0.74, 0.61, 0.03]])


def methane() -> Structure:
    """A molecule of nearly tetrahedral symmetry: first and second moments vanish."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.63
    return structure([6, 1, 1, 1, 1], np.concatenate([[[0.0, 0.0, 0.0]], corners]))


def mixed_elements() -> Structure:
    """Four elements without any symmetry, chiral."""
    return structure(
        [29, 8, 6, 1, 1], [[0.0, 0.1, 0.0], [1.9, 0.2, -0.3], [2.3, 1.3, 0.4], [3.2, 1.6, -0.2], [0.4, 1.1, 1.3]]
    )


def primitive_copper() -> Structure:
    """One atom that is its own neighbour 12 times."""
    return structure([29], [[0.1, 0.2, 0.3]], 1.805 * (1 - np.eye(3)), "TTT")


def cubic_copper() -> Structure:
    """Four rattled atoms."""
    positions = 3.61 * np.array([[0, 0, 0], [0.5, 0.5, 0.03], [0.52, 0, 0.5], [0, 0.47, 0.5]])
    return structure([29] * 4, positions, 3.61 * np.eye(3), "TTT")


def triclinic() -> Structure:
    """Three species in a cell without right angles."""
    cell = np.array([[3.9, 0.2, -0.3], [1.1, 3.6, 0.4], [-0.7, 0.9, 4.1]])
    return structure([29, 8, 6], np.array([[0.1, 0.1, 0.1], [0.55, 0.45, 0.2], [0.3, 0.7, 0.75]]) @ cell, cell, "TTT")


def left_handed() -> Structure:
    """The triclinic structure in a cell of negative determinant."""
    other = triclinic()
    return structure(other.atomic_numbers, other.positions, np.array(other.cell)[[1, 0, 2]], "TTT")


def skewed() -> Structure:
    """One atom in a cell with an angle of 10 degrees: neighbours many cells away."""
    angle = np.deg2rad(10.0)
    cell = np.array([[4.0, 0.0, 0.0], [11.0 * np.cos(angle), 11.0 * np.sin(angle), 0.0], [0.3, 0.2, 3.1]])
    return structure([29], [[0.2, 0.1, 0.3]], cell, "TTT")


def slab() -> Structure:
    """Periodic along two directions, with vacuum along the third."""
    cell = np.array([[2.7, 0.1, 0.0], [0.2, 2.9, 0.1], [0.1, 0.3, 14.0]])
    return structure([29, 8, 1], [[0.1, 0.2, 3.0], [1.5, 1.4, 4.7], [1.4, 1.6, 5.7]], cell, "TTF")


def wire() -> Structure:
    """Periodic along one direction."""
    cell = np.array([[2.6, 0.2, 0.1], [0.0, 11.0, 0.4], [0.3, 0.0, 12.0]])
    return structure([6, 1, 1], [[0.0, 5.0, 5.0], [0.3, 6.0, 5.2], [-0.2, 4.5, 5.9]], cell, "TFF")


def middle_wire() -> Structure:
    """Periodic along the second lattice vector only, the others left out."""
    cell = np.array([[0.0, 0.0, 0.0], [0.3, 2.7, -0.2], [0.0, 0.0, 0.0]])
    return structure([8, 1], [[0.0, 0.0, 0.0], [0.7, 0.5, 0.2]], cell, "FTF")


def atoms_outside_cell() -> Structure:
    """The triclinic structure with atoms many cells away from the first."""
    other = triclinic()
    cells = np.array([[40, -7, 3], [-50, 11, 0], [1, 2, -33]])
    return structure(other.atomic_numbers, other.positions + cells @ other.cell, other.cell, "TTT")


PERIODIC: dict[str, Callable[[], Structure]] = {
    function.__name__: function
    for function in (primitive_copper, cubic_copper, triclinic, left_handed, skewed, slab, wire)
}
"""Every pattern of periodicity that has a volume."""
MOLECULES: dict[str, Callable[[], Structure]] = {
    function.__name__: function for function in (water, methane, mixed_elements)
}


def batch_of_everything() -> list[Structure]:
    """All of them: with edges and without, periodic along any number of directions, and empty."""
    makers = (zero_atoms, single_atom, isolated_pair, *MOLECULES.values(), *PERIODIC.values(), middle_wire, zero_atoms)
    return [maker() for maker in makers]
