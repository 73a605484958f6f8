"""What users give as structures, as structures that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from macekit.config.facts import DatasetFacts
from macekit.data.structure import Structure
from macekit.data.validation import validate_structure
from macekit.errors import UsageError
from macekit.model.selection import check_head

if TYPE_CHECKING:
    from ase import Atoms


def as_structures(
    structures: Atoms | Structure | Sequence[Atoms | Structure], facts: DatasetFacts, head: str | None = None
) -> list[Structure]:
    """Structures with the features that a model reads.

    Args:
        structures: One or several; never changed.
        facts: Those of the model.
        head: Level of theory of all; None: their own, if they are macekit structures that name one.

    Raises:
        UsageError: If something is neither ASE atoms nor a structure.
        DataError: If a structure makes no physical sense, or the model has no such head.
    """
    from ase import Atoms

    if head is not None:
        check_head(facts, head)
    if isinstance(structures, (Atoms, Structure)):
        structures = [structures]
    found = []
    for index, item in enumerate(structures):
        if isinstance(item, Structure):
            structure = item
        elif isinstance(item, Atoms):
            structure = Structure.from_ase(
                item,
                source=f"structure {index}",
                node_features=facts.node_features,
                edge_features=facts.edge_features,
            )
        else:
            raise UsageError(f"structure {index}: expected ASE Atoms or macekit.Structure, got {type(item).__name__}")
        validate_structure(structure)
        found.append(structure if head is None else structure.with_head(head))
    return found
