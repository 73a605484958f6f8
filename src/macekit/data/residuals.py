"""What reference energies leave over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from macekit.data.census import has_label
from macekit.data.composition import counts_of
from macekit.data.structure import FloatArray, Structure


@dataclass(frozen=True, slots=True)
class Residual:
    """How well E0 alone describes a group of structures."""

    group: str
    count: int
    mean: float
    """Mean of (energy − sum of E0) per atom, meV."""
    rmse: float
    """Root mean square of it, meV."""


def residuals(
    structures: Sequence[Structure], target: str, elements: Sequence[int], values: FloatArray, limit: int = 10
) -> tuple[Residual, ...]:
    """What E0 leave over, per atom, by `config_type`, or by composition where there is one type only."""
    labelled = [structure for structure in structures if has_label(structure, target) and len(structure)]
    if not labelled:
        return ()
    left = left_per_atom(labelled, target, elements, values) * 1.0e3
    by_type = len({structure.config_type for structure in labelled}) > 1
    groups: dict[str, list[int]] = defaultdict(list)
    for row, structure in enumerate(labelled):
        groups[structure.config_type if by_type else structure.formula].append(row)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    if len(ordered) > limit:
        rest = [row for _, rows in ordered[limit - 1 :] for row in rows]
        ordered = [*ordered[: limit - 1], (f"{len(ordered) - limit + 1} others", rest)]
    if len(ordered) > 1:
        ordered.append(("all", list(range(len(labelled)))))
    return tuple(
        Residual(name, len(rows), float(left[rows].mean()), float(np.sqrt((left[rows] ** 2).mean())))
        for name, rows in ordered
    )


def left_per_atom(
    structures: Sequence[Structure], target: str, elements: Sequence[int], values: FloatArray
) -> FloatArray:
    """(Label − sum of E0) / number of atoms, float64 [G]."""
    counts = counts_of(structures, elements)
    energies = np.array([float(structure.targets[target]) for structure in structures])
    per_atom: FloatArray = (energies - counts @ values) / counts.sum(axis=1)
    return per_atom
