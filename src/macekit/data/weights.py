"""Weights of frames: `config_weight` and `config_<target>_weight` in `info`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from macekit.data.quantities import Quantity
from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms


def read_weights(atoms: Atoms, quantities: Sequence[Quantity], where: str) -> tuple[float, dict[str, float]]:
    """Weight of a frame and of its single targets; 1 where nothing is written.

    `config_weight` is the weight of the frame; `config_<name>_weight` or `<name>_weight` that of one target,
    where the name is the target's or that of its quantity (energy, forces, stress, dipole, charges).

    Raises:
        DataError: If a weight is not a number, or is negative.
    """
    weight = _weight(atoms.info.get("config_weight", 1.0), "config_weight", where)
    by_target: dict[str, float] = {}
    for quantity in quantities:
        names = dict.fromkeys((quantity.target, quantity.name))
        for key in (key for name in names for key in (f"config_{name}_weight", f"{name}_weight")):
            if key in atoms.info:
                by_target[quantity.target] = _weight(atoms.info[key], key, where)
                break
    return weight, {target: value for target, value in by_target.items() if value != 1.0}


def _weight(value: Any, key: str, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0.0):
        raise DataError(f"{where}: {key} is {value!r}, expected a number that is not negative")
    return number
