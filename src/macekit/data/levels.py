"""Levels of theory (heads) of structures: their names, and the reference energies of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from macekit.config.data import TargetsConfig
from macekit.data.composition import symbol
from macekit.data.identity import elements_of
from macekit.data.reference_energies import ReferenceEnergies, atomic_number_of, resolve_reference_energies
from macekit.data.structure import Structure
from macekit.errors import ConfigError, did_you_mean

UNNAMED: Final = "default"
"""The level of structures that name none, where others name one."""


def heads_of(structures: Sequence[Structure]) -> list[str]:
    """Names of the levels in the order of their first structures; [""] where none is named."""
    names = list(dict.fromkeys(structure.head for structure in structures)) or [""]
    return names if len(names) == 1 else list(dict.fromkeys(name or UNNAMED for name in names))


def of_head(structures: Sequence[Structure], head: str) -> list[Structure]:
    """The structures of one level out of `heads_of`."""
    return [structure for structure in structures if (structure.head or UNNAMED) == (head or UNNAMED)]


def default_head(heads: Sequence[str]) -> str | None:
    """The level that is called default, if any; the only one otherwise."""
    named = [head for head in heads if head.lower() == UNNAMED]
    return named[0] if named else heads[0] if len(heads) == 1 else None


def reference_energies_of_head(
    choice: str | Mapping[str, Any],
    targets: TargetsConfig,
    structures: Sequence[Structure],
    elements: Sequence[int],
    head: str,
    heads: Sequence[str],
) -> tuple[dict[str, ReferenceEnergies], list[str]]:
    """E0 of every graph scalar at one level of theory; 0 for elements that this level does not have.

    Args:
        choice: As in `resolve_reference_energies`, or a mapping from every head to such a choice.
        targets: Targets of the run.
        structures: Training structures of this level, isolated atoms included.
        elements: Atomic numbers of the model, ascending.
        head: Name of the level.
        heads: Names of all levels.

    Returns:
        E0 by target, and the symbols of the elements that have none.

    Raises:
        ConfigError: If the choice is not one of these, or names some heads and not this one.
        DataError: As in `resolve_reference_energies`.
    """
    chosen = choice_of_head(choice, head, heads)
    present = set(elements_of(structures)) | elements_given(chosen)
    own = [z for z in elements if z in present]
    found = resolve_reference_energies(chosen, targets, structures, own)
    if len(own) == len(elements):
        return found, []
    columns = [list(elements).index(z) for z in own]
    expanded = {}
    for target, reference in found.items():
        values = np.zeros(len(elements))
        values[columns] = reference.values
        expanded[target] = replace(reference, elements=tuple(elements), values=values)
    return expanded, [symbol(z) for z in elements if z not in present]


def choice_of_head(choice: str | Mapping[str, Any], head: str, heads: Sequence[str]) -> str | Mapping[str, Any]:
    """The part of a choice of reference energies that speaks of one level.

    Raises:
        ConfigError: If the choice names some heads and not this one, or one that is not there.
    """
    if isinstance(choice, str) or not any(name in heads for name in choice):
        return choice
    for name in choice:
        if name not in heads:
            raise ConfigError(
                f"data.reference_energies: '{name}' is no head; heads: {', '.join(heads)}", did_you_mean(name, heads)
            )
    if head not in choice:
        raise ConfigError(
            f"data.reference_energies: nothing for head '{head}'; given for {', '.join(choice)}",
            f"add {head}: fit, isolated_atoms, none or values by symbol",
        )
    part: str | Mapping[str, Any] = choice[head]
    return part


def elements_given(choice: Any) -> set[int]:
    """Atomic numbers of the symbols in a choice, also where it is one by target."""
    if not isinstance(choice, Mapping):
        return set()
    numbers = {number for key in choice if (number := atomic_number_of(key)) is not None}
    return numbers.union(*(elements_given(part) for part in choice.values()))
