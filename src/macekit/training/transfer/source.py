"""The trained model that a run starts from: of macekit, mace-torch or PhysicsML, read without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from macekit.config import FinetuneConfig
from macekit.errors import ConfigError, DataError, ModelFileError, UsageError
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.native import CONFIG, WEIGHTS, load_native, read_config
from macekit.interop.physicsml.convert import read_physicsml
from macekit.interop.physicsml.directory import is_physicsml
from macekit.model.mace import Mace
from macekit.model.selection import at_head

WHERE = "finetune.from"


class Source(NamedTuple):
    """A trained model."""

    model: Mace
    """In float64, so that nothing is lost before the precision of the run is chosen."""
    path: str
    """Where it was read."""
    provenance: dict[str, Any]
    """Where it comes from."""


def read_source(config: FinetuneConfig) -> Source:
    """Read the trained model that the finetune section names.

    Raises:
        ModelFileError: If there is none, or it cannot be read.
        UsageError: If a field of the section does not apply to this kind of model.
    """
    path = Path(config.pre_trained_model_path)
    if not path.exists():
        raise ModelFileError(
            f"{WHERE}: {path}: no such file or directory; expected a model directory of macekit or PhysicsML, or a "
            ".model file of mace-torch"
        )
    if path.is_file():
        _not_of_this_kind(config, "energy_unit", "a file of mace-torch, which is in eV")
        return _of_mace_torch(path, config)
    if is_physicsml(path):
        _not_of_this_kind(config, "head", "a model of PhysicsML, which has one level of theory")
        model, provenance = read_physicsml(path, dtype=torch.float64, energy_unit=config.energy_unit)
        return Source(model, str(path), provenance)
    _not_of_this_kind(config, "energy_unit", "a model of macekit, which is in eV")
    directory = path if (path / CONFIG).is_file() else path / "model"
    if not (directory / CONFIG).is_file():
        raise ModelFileError(
            f"{WHERE}: {path}: no trained model in this directory; expected {CONFIG} and {WEIGHTS} there or in model/"
        )
    model = load_native(directory, torch.float64)
    return Source(_one_level(model, config), str(directory), read_config(directory)["provenance"])


def _of_mace_torch(path: Path, config: FinetuneConfig) -> Source:
    try:
        model, provenance = read_mace_torch(path, dtype=torch.float64)
    except ModelFileError as error:
        hint = error.hint or f"see what it is: macekit info {path.name}; convert it: macekit convert {path.name} OUT"
        raise ModelFileError(f"{WHERE}: {error.message}", hint) from None
    return Source(_one_level(model, config), str(path), provenance)


def _one_level(model: Mace, config: FinetuneConfig) -> Mace:
    """The trained model with the level of theory that was chosen, its default, or its only one."""
    try:
        return at_head(model, config.head or "")
    except DataError as error:
        raise ConfigError(f"finetune.head: {error.message}", error.hint) from None


def _not_of_this_kind(config: FinetuneConfig, field: str, kind: str) -> None:
    if getattr(config, field) is not None:
        raise UsageError(f"finetune.{field}: given, but {config.pre_trained_model_path} is {kind}; leave it out")
