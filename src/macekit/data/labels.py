"""Which key of a file is the label of which target.

The rule, file by file: the declared key (`data.keys`); else the key named exactly like the target; else the
only one of `REF_<target>` and the common names of the quantity; else `free_energy`. Several candidates are an
error, unless one is exact and in every frame that has any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from macekit.config.data import UnitsConfig
from macekit.data.extxyz import Frame
from macekit.data.quantities import Quantity, conversion, is_virial
from macekit.data.structure import FloatArray
from macekit.data.values import find, refuse_nan, to_label
from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms


class ChosenKey(NamedTuple):
    """The key of one target in one file."""

    key: str
    also_present: tuple[str, ...]
    """Other keys that could have been meant, and that differ."""


class Label(NamedTuple):
    """A label with its origin."""

    value: FloatArray
    key: str
    place: str


def choose_key(quantity: Quantity, frames: Sequence[Frame], name: str) -> ChosenKey | None:
    """The key of a target in one file, or None where the file has no label for it.

    Raises:
        DataError: If several keys could be meant and none is exact; lists them.
    """
    kind = quantity.kind
    if quantity.declared is not None:
        present = any(find(frame.atoms, quantity.declared, kind, frame.source) for frame in frames)
        return ChosenKey(quantity.declared, ()) if present else None
    candidates = (*quantity.exact, *quantity.likely)
    counts = {key: sum(_has(frame.atoms, key, kind) for frame in frames) for key in candidates}
    counts = {key: count for key, count in counts.items() if count}
    if not counts:
        return next(
            (ChosenKey(key, ()) for key in quantity.weak if any(_has(f.atoms, key, kind) for f in frames)),
            None,
        )
    if len(counts) == 1:
        return ChosenKey(next(iter(counts)), ())
    anywhere = sum(any(_has(frame.atoms, key, kind) for key in counts) for frame in frames)
    exact = quantity.target
    first = exact if exact in counts else next(iter(counts))
    others = [key for key in counts if key != first]
    same = all(_agree(frames, first, other, kind) for other in others)
    if counts[first] == anywhere and (same or first == exact):
        return ChosenKey(first, () if same else tuple(others))
    listed = ", ".join(f"'{key}' ({count} frames)" for key, count in counts.items())
    raise DataError(
        f"{name}: several keys could be target '{quantity.target}': {listed}",
        f"say which one: data.keys.{quantity.target}: {first}",
    )


def _has(atoms: Atoms, key: str, kind: str) -> bool:
    """Whether a frame has a key where values of this kind are kept.

    An entry of `info` is taken as values per atom only if it has their shape: `charge` may be the
    total charge.
    """
    results = getattr(atoms.calc, "results", None) or {}
    if results.get(key) is not None:
        return True
    if not kind.startswith("node_"):
        return atoms.info.get(key) is not None
    shape = (len(atoms),) if kind == "node_scalar" else (len(atoms), 3)
    return key in atoms.arrays or (key in atoms.info and np.shape(atoms.info[key]) == shape)


def _agree(frames: Sequence[Frame], first: str, second: str, kind: str) -> bool:
    """Whether two keys have the same value wherever both are present. A virial never agrees with a stress."""
    for frame in frames:
        one, two = (find(frame.atoms, key, kind, frame.source) for key in (first, second))
        if one is None or two is None:
            continue
        try:
            if not np.array_equal(
                np.asarray(one.value, dtype=float).ravel(), np.asarray(two.value, dtype=float).ravel()
            ):
                return False
        except (TypeError, ValueError):
            return False
    return True


def read_label(atoms: Atoms, quantity: Quantity, key: str, units: UnitsConfig, where: str) -> Label | None:
    """The label of one target in one frame, in macekit's units, or None where it has none.

    A virial W becomes the stress −W/V with the volume of the (converted) cell.

    Raises:
        DataError: If the value is malformed, or NaN where that is damage.
        ConfigError: If a declared unit is not known.
    """
    found = find(atoms, key, quantity.kind, where)
    if found is None:
        return None
    label = to_label(found.value, quantity.kind, len(atoms), key, where)
    if quantity.required:
        refuse_nan(label, quantity.kind, key, where)
    scale, _, _ = conversion(quantity, key, units)
    label = label * scale
    if quantity.name == "stress" and is_virial(key):
        volume = float(abs(np.linalg.det(np.asarray(atoms.cell))))
        if volume == 0.0:
            return None
        label = -label / volume
    return Label(label, key, found.place)
