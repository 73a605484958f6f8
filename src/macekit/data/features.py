"""Additional atom features and bond features of ASE atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from macekit.data.structure import Categories, FloatArray, IntArray
from macekit.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from ase import Atoms


def node_features_of(atoms: Atoms, features: Categories, source: str = "") -> FloatArray:
    """Additional atom features, side by side in the order of the mapping.

    Args:
        atoms: Arrays are looked up in `atoms.arrays`, then in the results of its calculator.
        features: Array name → its categories (one column each), or None for one column of plain numbers.
        source: For messages.

    Returns:
        float64 [N, F].

    Raises:
        DataError: If an array is missing, is not one value per atom, or holds a value that is no category.
    """
    where = source or "structure"
    columns = [np.zeros((len(atoms), 0))]
    for name, categories in features.items():
        values = _array(atoms, name, where)
        if categories is None:
            try:
                numeric = values.astype(np.float64).reshape(len(atoms), 1)
            except ValueError:
                raise DataError(
                    f"{where}: node feature '{name}' holds text such as '{values[0]}', expected numbers",
                    f"list its categories: data.node_features.{name}: [...]",
                ) from None
            if not np.isfinite(numeric).all():
                atom = int(np.flatnonzero(~np.isfinite(numeric[:, 0]))[0])
                raise DataError(
                    f"{where}: node feature '{name}' of atom {atom} is {numeric[atom, 0]}, expected a number"
                )
            columns.append(numeric)
        else:
            columns.append(_one_hot(values, categories, name, where))
    return np.concatenate(columns, axis=1)


def _array(atoms: Atoms, name: str, where: str) -> np.ndarray[Any, Any]:
    results = getattr(atoms.calc, "results", {})
    if name in atoms.arrays:
        values = np.asarray(atoms.arrays[name])
    elif name in results:
        values = np.asarray(results[name])
    else:
        present = sorted(set(atoms.arrays) - {"numbers", "positions"})
        raise DataError(
            f"{where}: no per-atom array '{name}' for the node feature; arrays present: {', '.join(present) or 'none'}",
            did_you_mean(name, present) or f"add a column '{name}' to the file or drop data.node_features.{name}",
        )
    if values.shape not in {(len(atoms),), (len(atoms), 1)}:
        raise DataError(f"{where}: node feature '{name}' has shape {list(values.shape)}, expected [{len(atoms)}]")
    return values.reshape(len(atoms))


def _one_hot(values: np.ndarray[Any, Any], categories: Sequence[float | str], name: str, where: str) -> FloatArray:
    """One column per category; numbers are compared as numbers, text as text."""
    encoded = np.zeros((len(values), len(categories)))
    for column, category in enumerate(categories):
        encoded[:, column] = [_same(value, category) for value in values]
    if (unknown := np.flatnonzero(encoded.sum(axis=1) != 1)).size:
        atom = int(unknown[0])
        raise DataError(
            f"{where}: node feature '{name}' of atom {atom} is {values[atom]!s}, expected one of "
            f"{', '.join(str(category) for category in categories)}",
            f"add the value to data.node_features.{name}, once",
        )
    return encoded


def _same(value: Any, category: float | str) -> bool:
    if isinstance(category, str):
        return str(value) == category
    try:
        return float(value) == float(category)
    except ValueError:
        return False


def bonds_of(atoms: Atoms, key: str | None, source: str = "") -> tuple[IntArray, FloatArray]:
    """Bonds and their features from rows [i, j, feature, ...] in `atoms.info[key]`.

    Returns:
        Pairs int64 [B, 2] and features float64 [B, De]; no bonds where there is no such key.

    Raises:
        DataError: If the rows have no features, name atoms that do not exist, or are not numbers.
    """
    none = np.zeros((0, 2), dtype=np.int64), np.zeros((0, 0))
    if key is None or key not in atoms.info:
        return none
    where = source or "structure"
    try:
        rows = np.atleast_2d(np.asarray(atoms.info[key], dtype=np.float64))
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: bond features '{key}' are not rows of numbers of one length",
            f'write them as {key}="_JSON [[0, 1, 1.0], [1, 2, 2.0]]": atom, atom, feature, ...',
        ) from None
    if rows.size == 0:
        return none
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise DataError(
            f"{where}: bond features '{key}' have shape {list(rows.shape)}, expected rows [i, j, feature, ...]"
        )
    if not np.isfinite(rows).all():
        raise DataError(f"{where}: bond features '{key}' hold NaN or infinity, expected numbers")
    pairs = rows[:, :2].astype(np.int64)
    wrong = (pairs != rows[:, :2]) | (pairs < 0) | (pairs >= len(atoms))
    if wrong.any() or (pairs[:, 0] == pairs[:, 1]).any():
        row = int(np.flatnonzero(wrong.any(axis=1) | (pairs[:, 0] == pairs[:, 1]))[0])
        raise DataError(
            f"{where}: bond {row} of '{key}' joins atoms {rows[row, 0]:g} and {rows[row, 1]:g}, expected "
            f"two different whole numbers from 0 to {len(atoms) - 1}"
        )
    return pairs, rows[:, 2:]
