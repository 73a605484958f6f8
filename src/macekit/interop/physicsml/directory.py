"""A model directory of PhysicsML as data: two JSON files and a checkpoint, of which only the tensors are used."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.archive import read_archive

MODEL, FEATURISER = "model_config.json", "featurisation_metadata.json"
CHECKPOINT = "model_artefacts/module_checkpoint.ckpt"
FEATURES = "physicsml_features"


@dataclass(frozen=True, slots=True)
class Directory:
    """What is in a model directory."""

    name: str
    """Name of the model, such as mace_model."""
    version: str
    """Version that wrote it, as far as it says."""
    config: dict[str, Any]
    """Configuration of the model."""
    featuriser: dict[str, Any]
    """Configuration of `physicsml_features`."""
    tensors: dict[str, NDArray[Any]]
    """The checkpoint, in the precision of the file."""
    sha256: str
    """Of the checkpoint."""

    @property
    def dtype(self) -> str:
        """Precision of the weights: float32, or float64 where everything is."""
        floats = {value.dtype for value in self.tensors.values() if value.dtype.kind == "f" and value.size}
        return "float64" if floats == {np.dtype("f8")} else "float32"


def is_physicsml(path: str | os.PathLike[str]) -> bool:
    """Whether this is a model directory of PhysicsML."""
    return (Path(path) / MODEL).is_file()


def read_directory(path: str | os.PathLike[str]) -> Directory:
    """Read a model directory; nothing in it is executed.

    Raises:
        ModelFileError: If a file is missing or damaged, or the checkpoint asks for anything but data.
    """
    folder = Path(path)
    model = _json(folder / MODEL)
    name, config = model.get("name"), model.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        raise ModelFileError(f"{folder / MODEL}: expected a name and a config, as PhysicsML writes them")
    checkpoint = folder / CHECKPOINT
    if not checkpoint.is_file():
        raise ModelFileError(f"{checkpoint}: no such file; expected the checkpoint of the model there")
    return Directory(
        name=name,
        version=str(model.get("version", "unknown")),
        config=config,
        featuriser=_featuriser(folder / FEATURISER),
        tensors=_tensors(checkpoint),
        sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(
            f"{file}: no such file", f"a model directory of PhysicsML has {MODEL}, {FEATURISER} and {CHECKPOINT}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{file}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{file}: expected a mapping, found {type(content).__name__}")
    return content


def _featuriser(file: Path) -> dict[str, Any]:
    """The configuration of the featuriser; the only place that names the elements."""
    try:
        columns = _json(file).get("config") or []
        found = [
            representation.get("config") or {}
            for column in columns
            for representation in column["representations"]
            if representation.get("name") == FEATURES
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{file}: not as PhysicsML writes it: {error!r}") from None
    if len(found) != 1 or not isinstance(found[0], dict):
        raise ModelFileError(f"{file}: expected one representation {FEATURES}, found {len(found)}")
    return found[0]


def _tensors(file: Path) -> dict[str, NDArray[Any]]:
    content = read_archive(file)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ModelFileError(f"{file}: no state_dict in the checkpoint")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ModelFileError(f"{file}: state_dict: {name!r} is {type(value).__name__}, expected a tensor")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelFileError(f"{file}: {name} has values that are not finite")
    return state
