"""Structures, labels and what is made of them: reference energies, splits, batches of indices. numpy only.

Every name is imported on first use, so that a model loads quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from macekit.data.census import LabelCensus, TargetCensus
    from macekit.data.consistency import inconsistent_totals
    from macekit.data.conversion import as_structures
    from macekit.data.files import read_atoms
    from macekit.data.identity import check_elements, duplicates, elements_of, fingerprint, fingerprint_of_all
    from macekit.data.isolated import is_isolated_atom, separate_isolated_atoms
    from macekit.data.reader import StructuresRead, read_structures
    from macekit.data.reference_energies import (
        ReferenceEnergies,
        fit_reference_energies,
        resolve_reference_energies,
    )
    from macekit.data.sampler import EpochSampler, balanced_parts
    from macekit.data.split import Split, draw_split, split_structures
    from macekit.data.structure import Structure
    from macekit.data.validation import validate_structure

_HOMES = {
    "EpochSampler": "macekit.data.sampler",
    "LabelCensus": "macekit.data.census",
    "ReferenceEnergies": "macekit.data.reference_energies",
    "Split": "macekit.data.split",
    "Structure": "macekit.data.structure",
    "StructuresRead": "macekit.data.reader",
    "TargetCensus": "macekit.data.census",
    "as_structures": "macekit.data.conversion",
    "balanced_parts": "macekit.data.sampler",
    "check_elements": "macekit.data.identity",
    "draw_split": "macekit.data.split",
    "duplicates": "macekit.data.identity",
    "elements_of": "macekit.data.identity",
    "fingerprint": "macekit.data.identity",
    "fingerprint_of_all": "macekit.data.identity",
    "fit_reference_energies": "macekit.data.reference_energies",
    "inconsistent_totals": "macekit.data.consistency",
    "is_isolated_atom": "macekit.data.isolated",
    "read_atoms": "macekit.data.files",
    "read_structures": "macekit.data.reader",
    "resolve_reference_energies": "macekit.data.reference_energies",
    "separate_isolated_atoms": "macekit.data.isolated",
    "split_structures": "macekit.data.split",
    "validate_structure": "macekit.data.validation",
}

__all__ = [
    "EpochSampler",
    "LabelCensus",
    "ReferenceEnergies",
    "Split",
    "Structure",
    "StructuresRead",
    "TargetCensus",
    "as_structures",
    "balanced_parts",
    "check_elements",
    "draw_split",
    "duplicates",
    "elements_of",
    "fingerprint",
    "fingerprint_of_all",
    "fit_reference_energies",
    "inconsistent_totals",
    "is_isolated_atom",
    "read_atoms",
    "read_structures",
    "resolve_reference_energies",
    "separate_isolated_atoms",
    "split_structures",
    "validate_structure",
]


def __getattr__(name: str) -> Any:
    """Import a name from the module that defines it, once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'macekit.data' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
