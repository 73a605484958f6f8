"""Raw values of a frame: where a key is found, and its conversion to a label of the right shape."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from macekit.data.extxyz import FULL_STRESS
from macekit.data.structure import FloatArray
from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

GEOMETRY: Final = frozenset({"numbers", "positions"})
ASYMMETRY: Final = 1.0e-3
"""Largest relative asymmetry of a stress that is taken as rounding and averaged away."""


class Found(NamedTuple):
    """A value and where it was."""

    place: str
    """info, arrays or calculator."""
    value: Any


def present_keys(atoms: Atoms) -> dict[str, list[str]]:
    """All keys of a frame by place."""
    places = {
        "info": [key for key in atoms.info if key != FULL_STRESS],
        "arrays": [key for key in atoms.arrays if key not in GEOMETRY],
        "calculator": list(_results(atoms)),
    }
    return {place: sorted(map(str, keys)) for place, keys in places.items() if keys}


def head_of(atoms: Atoms) -> str:
    """The level of theory that a frame names as `head`; empty where it names none."""
    head = atoms.info.get("head", "")
    return head if isinstance(head, str) else ""


def find(atoms: Atoms, key: str, kind: str, where: str) -> Found | None:
    """The value of a key, in `info` or `arrays` or among the results of the calculator.

    ASE moves keys such as `energy`, `forces` and `charges` from a file to the calculator, depending on its
    version; so both places are the same place here. Values per structure are looked for in `info` first,
    values per atom in `arrays` first.

    Raises:
        DataError: If two places have the key with different values.
    """
    by_place = {"info": atoms.info, "arrays": atoms.arrays, "calculator": _results(atoms)}
    usual, unusual = ("arrays", "info") if kind.startswith("node_") else ("info", "arrays")
    found = [Found(p, by_place[p][key]) for p in (usual, "calculator") if by_place[p].get(key) is not None]
    if not found and by_place[unusual].get(key) is not None:
        found = [Found(unusual, by_place[unusual][key])]
    if not found:
        return None
    for other in found[1:]:
        if not _equal(found[0].value, other.value):
            raise DataError(
                f"{where}: '{key}' is in {found[0].place} and in {other.place} with different values "
                f"({_short(found[0].value)} and {_short(other.value)})",
                "remove one of them",
            )
    if key == "stress" and found[0].place == "calculator" and FULL_STRESS in atoms.info:
        return Found("calculator", atoms.info[FULL_STRESS])
    return found[0]


def _results(atoms: Atoms) -> dict[str, Any]:
    """Results stored with the atoms. Nothing is ever calculated."""
    results = getattr(atoms.calc, "results", None)
    return {k: v for k, v in results.items() if v is not None} if isinstance(results, dict) else {}


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(
            np.array_equal(
                np.asarray(first, dtype=float).ravel(),
                np.asarray(second, dtype=float).ravel(),
                equal_nan=True,
            )
        )
    except (TypeError, ValueError):
        return str(first) == str(second)


def to_label(value: Any, kind: str, num_atoms: int, key: str, where: str) -> FloatArray:
    """A raw value as a label.

    Args:
        value: Number, text or array as ASE parsed it.
        kind: graph_scalar, graph_vector, node_scalar, node_vector or stress.
        num_atoms: Atoms of the frame.
        key: Key in the file, for messages.
        where: File and frame, for messages.

    Returns:
        float64, [], [3], [N], [N, 3] or [3, 3]; may hold NaN.

    Raises:
        DataError: If the value is text, of another shape, infinite, or an asymmetric stress.
    """
    array = _numeric(value, key, where)
    expected: dict[str, tuple[tuple[int, ...], list[tuple[int, ...]]]] = {
        "graph_scalar": ((), [(), (1,), (1, 1)]),
        "graph_vector": ((3,), [(3,), (1, 3), (3, 1)]),
        "node_scalar": ((num_atoms,), [(num_atoms,), (num_atoms, 1)] + ([()] if num_atoms == 1 else [])),
        "node_vector": ((num_atoms, 3), [(num_atoms, 3)] + ([(3,)] if num_atoms == 1 else [])),
        "stress": ((3, 3), [(6,), (9,), (3, 3), (1, 6), (1, 9), (1, 3, 3)]),
    }
    shape, accepted = expected[kind]
    if array.shape not in accepted:
        hint = None
        if kind == "graph_scalar" and array.shape == (2,):
            hint = "a decimal comma? write -1.5, not -1,5"
        wanted = "6 (xx yy zz yz xz xy), 9 or [3, 3]" if kind == "stress" else str(list(shape))
        raise DataError(f"{where}: {key} has shape {list(array.shape)}, expected {wanted}; value {_short(value)}", hint)
    if np.isinf(array).any():
        raise DataError(f"{where}: {key} is infinite, expected finite numbers", "remove the frame or its label")
    return _full_stress(array, key, where) if kind == "stress" else array.reshape(shape)


def _numeric(value: Any, key: str, where: str) -> FloatArray:
    if isinstance(value, (bool, np.bool_)):
        raise DataError(f"{where}: {key} has no number (read as {value})", f"write {key}=<number>, without a space")
    if isinstance(value, str):
        raise DataError(f"{where}: {key} is the text {value!r}, expected a number", _text_hint(value))
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise ValueError
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {key} is {_short(value)}, expected numbers") from None


def _text_hint(text: str) -> str:
    if "*" in text:
        return "the number did not fit the width of its field when it was written; write it with more digits"
    if re.search(r"\d[dD][-+]?\d", text):
        return "Fortran exponents: replace D by E"
    if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", text):
        return "decimal comma: replace it by a point"
    if re.match(r"\s*[-+]?\d", text):
        return "write the number alone, and its unit under data.units"
    return "repair the value, or remove it from the frame"


def _full_stress(array: FloatArray, key: str, where: str) -> FloatArray:
    """6 (Voigt xx yy zz yz xz xy), 9 or 3×3 components as a symmetric matrix, float64 [3, 3]."""
    if array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    matrix = array.reshape(3, 3)
    largest = float(np.abs(matrix).max())
    difference = float(np.abs(matrix - matrix.T).max())
    if difference > ASYMMETRY * largest + 1e-12:
        raise DataError(
            f"{where}: {key} is not symmetric (components differ by {difference:.3g} of {largest:.3g}): "
            f"{_short(matrix)}",
            "expected the symmetric stress; nine numbers are the rows of the matrix",
        )
    return 0.5 * (matrix + matrix.T)


def refuse_nan(label: FloatArray, kind: str, key: str, where: str) -> None:
    """Refuse NaN in a label where it is damage.

    Raises:
        DataError: Names the key and, for labels per atom, the atom.
    """
    if not np.isnan(label).any():
        return
    atom = f" of atom {int(np.argwhere(np.isnan(label))[0][0])}" if kind.startswith("node_") else ""
    raise DataError(
        f"{where}: {key}{atom} is NaN, expected a number",
        f"remove the frame, or remove {key} from it if it has no label; data.on_bad_frame: skip leaves such frames out",
    )


def nearest(key: str, present: Iterable[str]) -> str | None:
    """The key that was probably meant, as a hint."""
    from macekit.errors import did_you_mean

    return did_you_mean(key, present)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
