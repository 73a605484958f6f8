"""The label census: what was found in the files, for every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from macekit.data.quantities import Quantity
from macekit.data.structure import FloatArray, Structure

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class TargetCensus:
    """Labels of one target."""

    target: str
    kind: str
    keys: dict[str, int]
    """Frames by key and place: {"REF_energy (info)": 1000}."""
    found: int
    """Frames with the label."""
    missing: int
    """Frames without it."""
    minimum: float | None
    maximum: float | None
    mean: float | None
    """Over all components, macekit's units; None without labels."""
    conversion: str
    """"kcal/mol → eV (×0.0433641)", or the unit where nothing is converted."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class LabelCensus:
    """What was read: structures, atoms, elements, and the labels of every target."""

    rows: tuple[TargetCensus, ...]
    num_structures: int
    num_atoms: int
    elements: dict[int, int]
    """Atoms by atomic number."""
    config_types: dict[str, int]
    """Structures by config_type."""
    files: dict[str, int]
    """Structures by file."""
    frames_read: int
    """Frames in the files."""
    frames_empty: int
    """Frames without atoms, left out."""
    frames_bad: int
    """Frames that could not be used, left out."""
    not_learned: dict[str, list[str]] = field(default_factory=dict)
    """Known quantities in the files that are no target, with their keys."""

    def __getitem__(self, target: str) -> TargetCensus:
        """The row of a target."""
        return next(row for row in self.rows if row.target == target)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in {"rows", "elements"}
        }
        values["elements"] = {str(z): count for z, count in self.elements.items()}
        values["targets"] = {row.target: row.to_dict() for row in self.rows}
        return values

    def table(self, title: str = "Labels") -> Table:
        """The census for the terminal."""
        from rich.table import Table

        table = Table(title=f"{title}: {self.num_structures} structures, {self.num_atoms} atoms", title_justify="left")
        for column in ("target", "key (place)", "unit"):
            table.add_column(column)
        for column in ("frames", "missing", "min", "mean", "max"):
            table.add_column(column, justify="right")
        for row in self.rows:
            keys = ", ".join(row.keys) or "none"
            numbers = (_number(row.minimum), _number(row.mean), _number(row.maximum))
            table.add_row(row.target, keys, row.conversion, str(row.found), str(row.missing), *numbers)
        return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


@dataclass(slots=True)
class CensusTaker:
    """Counts labels while frames are read."""

    quantities: list[Quantity]
    keys: dict[str, Counter[str]] = field(default_factory=dict)
    conversions: dict[str, list[str]] = field(default_factory=dict)
    files: Counter[str] = field(default_factory=Counter)
    frames_read: int = 0
    frames_empty: int = 0
    frames_bad: int = 0

    def count(self, target: str, key: str, place: str, conversion: tuple[float, str, str]) -> None:
        """Note one label."""
        self.keys.setdefault(target, Counter())[f"{key} ({place})"] += 1
        factor, unit_from, unit_to = conversion
        text = unit_to if factor == 1.0 else f"{unit_from} → {unit_to} (×{factor:.6g})"
        if text not in (seen := self.conversions.setdefault(target, [])):
            seen.append(text)

    def census(self, structures: list[Structure], not_learned: dict[str, list[str]] | None = None) -> LabelCensus:
        """The census of what was kept, with known quantities that are no target."""
        rows = tuple(
            _row(
                quantity,
                structures,
                dict(self.keys.get(quantity.target, {})),
                self.conversions.get(quantity.target, []),
            )
            for quantity in self.quantities
        )
        return LabelCensus(
            rows=rows,
            num_structures=len(structures),
            num_atoms=sum(len(structure) for structure in structures),
            elements=count_elements(structures),
            config_types=dict(Counter(structure.config_type for structure in structures)),
            files=dict(self.files),
            frames_read=self.frames_read,
            frames_empty=self.frames_empty,
            frames_bad=self.frames_bad,
            not_learned=not_learned or {},
        )


def _row(quantity: Quantity, structures: list[Structure], keys: dict[str, int], conversions: list[str]) -> TargetCensus:
    labels = [s.targets[quantity.target] for s in structures if has_label(s, quantity.target)]
    values: FloatArray = np.concatenate([label.ravel() for label in labels]) if labels else np.zeros(0)
    values = values[~np.isnan(values)]
    return TargetCensus(
        target=quantity.target,
        kind=quantity.kind,
        keys=keys,
        found=len(labels),
        missing=len(structures) - len(labels),
        minimum=float(values.min()) if values.size else None,
        maximum=float(values.max()) if values.size else None,
        mean=float(values.mean()) if values.size else None,
        conversion=", ".join(conversions),
    )


def has_label(structure: Structure, target: str) -> bool:
    """Whether a structure has any number for a target."""
    label = structure.targets.get(target)
    return label is not None and not bool(np.isnan(label).all())


def count_elements(structures: Iterable[Structure]) -> dict[int, int]:
    """Number of atoms by atomic number, ascending."""
    total = np.zeros(256, dtype=np.int64)
    for structure in structures:
        total += np.bincount(structure.atomic_numbers, minlength=256)
    return {int(z): int(total[z]) for z in np.flatnonzero(total)}
