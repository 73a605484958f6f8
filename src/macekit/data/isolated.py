"""Isolated atoms among the structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from macekit.data.structure import Structure

ISOLATED_TAGS: Final = frozenset({"isolatedatom", "isolatedatoms"})


def is_isolated_atom(structure: Structure) -> bool:
    """One atom that is not periodic, or whose `config_type` says isolated atom."""
    tag = structure.config_type.lower().replace("_", "").replace("-", "").replace(" ", "")
    return len(structure) == 1 and (not structure.is_periodic or tag in ISOLATED_TAGS)


def separate_isolated_atoms(structures: Sequence[Structure]) -> tuple[list[Structure], list[Structure]]:
    """The isolated atoms, and all other structures."""
    isolated = [structure for structure in structures if is_isolated_atom(structure)]
    return isolated, [structure for structure in structures if not is_isolated_atom(structure)]
