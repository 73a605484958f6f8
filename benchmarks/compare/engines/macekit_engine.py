"""macekit: its ASE calculator and its training step, with the weights of the same `.model` file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ase import Atoms

import macekit
from macekit.interfaces import timing
from macekit.interfaces.ase import MaceCalculator


def version() -> str:
    """Name and version."""
    return f"macekit {macekit.__version__}"


def calculator(model: str, dtype: str) -> MaceCalculator:
    """The calculator of a converted model with its default settings, a skin of 0.5 Å among them."""
    return macekit.load_model(Path(model).with_suffix("")).ase_calculator(dtype=dtype)  # type: ignore[arg-type]


def training_step(model: str, dtype: str, structures: list[Atoms]) -> Callable[[], None]:
    """Loss on energy and forces, clipped gradient, AMSGrad, moving average, on one batch."""
    return timing.training_step(macekit.load_model(Path(model).with_suffix("")), structures, dtype)[0]  # type: ignore[arg-type]
