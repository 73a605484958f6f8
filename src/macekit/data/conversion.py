"""ASE atoms and structures alike, wherever a list of structures is taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from macekit.data.structure import Categories, Structure
from macekit.data.validation import validate_structure
from macekit.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms


def as_structures(
    items: Atoms | Structure | Iterable[Atoms | Structure],
    *,
    node_features: Categories | None = None,
    edge_features: str | None = None,
    validate: bool = True,
    coincident: bool = False,
) -> list[Structure]:
    """Structures from any mixture of ASE atoms and structures, in Å. Nothing given is changed.

    Args:
        items: One or several.
        node_features: As `data.node_features`, for ASE atoms.
        edge_features: As `data.edge_features`, for ASE atoms.
        validate: Whether to refuse structures that no model can describe.
        coincident: With `validate`, whether to look for atoms at the same point as well.

    Raises:
        DataError: If a structure is not valid; names it by its position in the list.
        UsageError: If an item is something else.
    """
    from ase import Atoms

    several = [items] if isinstance(items, (Atoms, Structure)) else list(items)
    found = []
    for index, item in enumerate(several):
        if isinstance(item, Structure):
            structure = item
        elif isinstance(item, Atoms):
            structure = Structure.from_ase(
                item, source=f"structure {index}", node_features=node_features, edge_features=edge_features
            )
        else:
            raise UsageError(
                f"structure {index}: expected ase.Atoms or macekit.Structure, got {type(item).__name__}",
                "read files with ase.io.read(path, ':')",
            )
        if validate:
            validate_structure(structure, coincident=coincident)
        found.append(structure)
    return found
