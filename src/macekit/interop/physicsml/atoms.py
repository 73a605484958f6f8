"""What PhysicsML's featuriser says of atoms: elements, reference energies, additional features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ase.data import chemical_symbols

from macekit.errors import ModelFileError

CATEGORIES: dict[str, list[float | str]] = {
    "formal_charge": [float(charge) for charge in range(-5, 7)],
    "degree": [float(degree) for degree in range(11)],
    "stereo": [0.0, 1.0, 2.0],
    "is_in_ring": [0.0, 1.0],
    "is_aromatic": [0.0, 1.0],
    "is_chiral": [0.0, 1.0],
}
"""Atom features with their values in the order of their columns; stereo: none, clockwise, counter-clockwise."""


class Atoms(NamedTuple):
    """The atoms a model knows."""

    elements: list[int]
    """Atomic numbers by index."""
    energies: list[float]
    """Self energy of every element in `elements`, in the unit of the labels."""
    features: dict[str, list[float | str] | None]
    """Additional features, as in `data.node_features`."""
    notes: list[str]
    """What a user should know."""


def atoms_of(featuriser: Mapping[str, Any], num_elements: int, has_energies: bool, has_features: bool) -> Atoms:
    """Read the configuration of `physicsml_features`.

    Args:
        featuriser: The configuration.
        num_elements: Number of elements of the model.
        has_energies: Whether the model adds self energies.
        has_features: Whether the model takes additional atom features.

    Raises:
        ModelFileError: If it contradicts the model, or self energies depend on charges without a neutral one.
    """
    mapping = featuriser.get("atomic_number_mapping")
    numbers = {index + 1: index for index in range(num_elements)} if mapping is None else _whole(mapping)
    by_index = {index: number for number, index in numbers.items()}
    if sorted(by_index) != list(range(num_elements)) or not all(0 < number < 120 for number in numbers):
        raise ModelFileError(
            f"atomic_number_mapping: {mapping}, expected one atomic number for each of {num_elements} elements"
        )
    elements = [by_index[index] for index in range(num_elements)]
    notes: list[str] = []
    given = featuriser.get("atomic_energies") if has_energies else None
    energies = [0.0] * len(elements) if given is None else [_energy(given, number, notes) for number in elements]
    features: dict[str, list[float | str] | None] = {}
    for name in sorted(featuriser.get("atom_features") or []) if has_features else []:
        if name not in CATEGORIES:
            raise ModelFileError(f"the atom feature '{name}' is not known; known: {', '.join(CATEGORIES)}")
        if featuriser.get("one_hot_encoded", True):
            features[name] = list(CATEGORIES[name])
        else:
            features[f"{name}_index"] = None
    if features:
        notes.append(f"atom features must be arrays of the structures: {', '.join(features)}")
    return Atoms(elements, energies, features, notes)


def _whole(mapping: Any) -> dict[int, int]:
    try:
        return {int(number): int(index) for number, index in mapping.items()}
    except (AttributeError, TypeError, ValueError):
        raise ModelFileError(f"atomic_number_mapping: {mapping!r}, expected atomic numbers with indices") from None


def _energy(energies: Any, number: int, notes: list[str]) -> float:
    symbol = chemical_symbols[number] if number < len(chemical_symbols) else str(number)
    try:
        found = {int(key): value for key, value in energies.items()}[number]
        if not isinstance(found, dict):
            return float(found)
        by_charge = {int(charge): float(energy) for charge, energy in found.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelFileError(f"atomic_energies: no energy of {symbol}; expected a number, or one per charge") from None
    if 0 not in by_charge:
        raise ModelFileError(
            f"atomic_energies: self energies of {symbol} for the formal charges {sorted(by_charge)} but not for 0 "
            "cannot be represented"
        )
    if others := sorted(by_charge.keys() - {0}):
        notes.append(
            f"self energies of {symbol} depend on the formal charge in PhysicsML; that of the neutral atom is used, "
            f"those of the charges {', '.join(map(str, others))} are not"
        )
    return by_charge[0]
