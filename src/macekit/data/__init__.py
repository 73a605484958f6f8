"""Structures, labels and what is made of them: reference energies, splits, batches of indices. numpy only."""

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
