"""Comparing sets of structures: fingerprints, duplicates, elements."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from macekit.data.census import count_elements
from macekit.data.structure import Structure
from macekit.data.suspicions import listed
from macekit.errors import DataError


def fingerprint(structure: Structure) -> str:
    """Hash of atomic numbers, positions (to 1e-6 Å), cell and periodicity; not of labels."""
    digest = hashlib.sha256()
    digest.update(structure.atomic_numbers.astype("<i8").tobytes())
    digest.update((np.round(structure.positions, 6) + 0.0).astype("<f8").tobytes())
    digest.update(structure.pbc.tobytes())
    if structure.is_periodic:
        digest.update((np.round(structure.cell[structure.pbc], 6) + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


def fingerprint_of_all(structures: Iterable[Structure]) -> str:
    """Hash of a whole sequence; depends on the order."""
    digest = hashlib.sha256()
    for structure in structures:
        digest.update(fingerprint(structure).encode())
    return digest.hexdigest()


def duplicates(sets: Mapping[str, Sequence[Structure]]) -> list[str]:
    """Structures that occur more than once, within a set and across sets.

    Args:
        sets: Structures by name: {"train": ..., "validation": ..., "test": ...}.

    Returns:
        One sentence for every set and every pair of sets that has any, with the frames named.
    """
    seen: dict[str, dict[str, list[str]]] = {name: {} for name in sets}
    for name, structures in sets.items():
        for structure in structures:
            key = f"{structure.head}:{fingerprint(structure)}"  # at another level of theory it is another datum
            seen[name].setdefault(key, []).append(structure.source)
    found = []
    for name, frames in seen.items():
        if repeated := [sources for sources in frames.values() if len(sources) > 1]:
            extra = sum(len(sources) - 1 for sources in repeated)
            found.append(f"{name}: {extra} structures are copies of others: {listed(' = '.join(s) for s in repeated)}")
    for one, two in itertools.combinations(seen, 2):
        if shared := [key for key in seen[two] if key in seen[one]]:
            count = sum(len(seen[two][key]) for key in shared)
            pairs = listed(f"{seen[two][key][0]} = {seen[one][key][0]}" for key in shared)
            found.append(
                f"{count} structures of {two} are also in {one}, so errors on {two} look better than they are: {pairs}"
            )
    return found


def elements_of(structures: Iterable[Structure]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return list(count_elements(structures))


def check_elements(
    train: Sequence[Structure], others: Mapping[str, Sequence[Structure]], further: Collection[int] = ()
) -> list[int]:
    """Elements of the training structures, after checking that the other sets have no further ones.

    Args:
        train: Training structures.
        others: Validation and test sets by name.
        further: Elements that the model knows besides those of the training structures.

    Returns:
        Atomic numbers, ascending.

    Raises:
        DataError: Names the element, the set and the first frame that has it.
    """
    from ase.data import chemical_symbols

    known = elements_of(train)
    for name, structures in others.items():
        for structure in structures:
            missing = sorted(set(structure.atomic_numbers.tolist()) - {*known, *further})
            if missing:
                atom = int(np.flatnonzero(np.isin(structure.atomic_numbers, missing))[0])
                raise DataError(
                    f"{name}: {structure.source} has {', '.join(chemical_symbols[z] for z in missing)} "
                    f"(atom {atom}), which no training structure has; training elements: "
                    f"{', '.join(chemical_symbols[z] for z in known)}",
                    "add structures with it to the training set, or remove these frames; "
                    "when fine-tuning, finetune.elements: all keeps the elements of the trained model",
                )
    return known
