"""The model in what a file holds: itself, inside a wrapper of torch, or not there."""

from __future__ import annotations

from typing import Any

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.records import Record
from macekit.interop.mace_torch.tree import Module

WRAPPERS = ("DataParallel", "DistributedDataParallel", "AveragedModel")
"""Classes of torch that hold a model as `module` and compute the same."""
MADE_OF_A_MODEL = ("LAMMPS_MACE", "LAMMPS_MLIAP_MACE", "MACECalculator")
"""Classes of mace-torch that hold a model and something else."""


def model_of(found: Any) -> Module:
    """The module of the model.

    Args:
        found: What the file holds.

    Raises:
        ModelFileError: If it is no module; the hint says what to do about it.
    """
    if not isinstance(found, Record) or not isinstance(found.state, dict):
        raise ModelFileError(f"model: expected a module, found {_named(found)}", _hint(found))
    model = Module(found, "model")
    if model.class_name in MADE_OF_A_MODEL:
        raise ModelFileError(
            f"models of the class {model.class_name} are not read", "convert the .model file that it was made of"
        )
    while model.class_name in WRAPPERS:
        model = Module(model.child("module").record, "model")
    return model


def _named(found: Any) -> str:
    kinds = {"ndarray": "a tensor", "Record": "an object without contents"}
    return kinds.get(type(found).__name__, type(found).__name__)


def _hint(found: Any) -> str | None:
    if isinstance(found, dict | list | tuple):
        entries = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in entries:
            if isinstance(value, Record) and isinstance(value.state, dict):
                return f"it holds a {value.class_name} as entry {key!r}: save that alone with torch.save"
    if isinstance(found, dict):
        return "a checkpoint holds weights without the model; convert the .model file that belongs to it"
    return None
