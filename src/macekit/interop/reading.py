"""Models of every format that is read, with the part of them that is wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from macekit.errors import DataError, ModelFileError, UsageError
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.native import CONFIG, load_native, read_config
from macekit.interop.physicsml.convert import read_physicsml
from macekit.interop.physicsml.directory import is_physicsml
from macekit.model.mace import Mace
from macekit.model.selection import at_head, with_elements


def read_model(
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    elements: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    energy_unit: str | None = None,
) -> tuple[Mace, dict[str, Any]]:
    """Read a model exactly, and without executing anything in its files.

    Args:
        path: A model file of mace-torch, or a model directory of PhysicsML or macekit.
        head: Level of theory to keep; None: all.
        elements: Atomic numbers to keep; None: all.
        dtype: Precision of the weights; None: float64, which keeps every digit, or as a model of macekit was saved.
        energy_unit: PhysicsML only: unit of its labels, converted to eV.

    Returns:
        The model and its provenance.

    Raises:
        ModelFileError: If it cannot be read or represented, or lacks an element or the head.
        UsageError: If something is asked for that models of this format do not have.
    """
    folder = Path(path)
    if is_physicsml(folder):
        if head is not None:
            raise UsageError("--head: models of PhysicsML have one level of theory; leave it out")
        return read_physicsml(folder, elements=elements, dtype=dtype or torch.float64, energy_unit=energy_unit)
    if energy_unit is not None:
        raise UsageError("--energy-unit: models of mace-torch and macekit are in eV; leave it out")
    if folder.is_dir() and (folder / CONFIG).exists():
        return _of_macekit(folder, head, elements, dtype)
    return read_mace_torch(folder, head=head, elements=elements, dtype=dtype or torch.float64)


def _of_macekit(
    folder: Path, head: str | None, elements: Sequence[int] | None, dtype: torch.dtype | None
) -> tuple[Mace, dict[str, Any]]:
    model = load_native(folder, dtype=dtype)
    try:
        if head is not None:
            model = at_head(model, head)
        if elements is not None:
            model = with_elements(model, elements)
    except DataError as error:
        raise ModelFileError(f"{folder}: {error.message}", error.hint) from None
    return model, read_config(folder)["provenance"]
