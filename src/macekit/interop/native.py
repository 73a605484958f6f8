"""The native format: a directory with `config.json` and `model.safetensors`. No pickle, checksummed, versioned."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from macekit import __version__
from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import ConfigError, ModelFileError
from macekit.model.build import build_model
from macekit.model.mace import Mace

SCHEMA_VERSION = 3
"""1: without levels of theory; 2: without terms of couplings that cancel (`coupling_terms`)."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
UNITS = {"energy": "eV", "length": "angstrom", "charge": "e", "stress": "eV/angstrom^3"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def save_native(model: Mace, directory: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a model; an existing model there is replaced only once the new one is complete.

    Args:
        model: The model.
        directory: Where to; its parents are made.
        provenance: Where the model comes from, for the record; plain values. Its `units` replace those of macekit.

    Returns:
        The directory.

    Raises:
        ModelFileError: If it cannot be written, or the directory holds something that is not a model.
    """
    target = Path(directory)
    if target.exists() and not ((target / CONFIG).is_file() or (target.is_dir() and not any(target.iterdir()))):
        raise ModelFileError(f"{target}: exists and is not a macekit model; expected a new or a model directory")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = save_tensors(tensors)
    config = {
        "schema_version": SCHEMA_VERSION,
        "macekit_version": __version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "model": model.config.model_dump(mode="json"),
        "facts": model.facts.model_dump(mode="json"),
        "units": {**UNITS, **(provenance or {}).get("units", {})},
        "provenance": dict(provenance or {}),
    }
    config = json.loads(json.dumps(config))
    config["sha256"] = {WEIGHTS: hashlib.sha256(weights).hexdigest(), CONFIG: _digest(config)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            _write(temporary / WEIGHTS, weights)
            _write(temporary / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
            temporary.chmod(0o755)
            _put(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ModelFileError(f"{target}: cannot write the model: {error.strerror or error}") from None
    return target


def load_native(
    directory: str | os.PathLike[str], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Mace:
    """Read a model; nothing in the files is executed.

    Args:
        directory: A directory that `save_native` wrote.
        dtype: Precision of the network; None: that it was saved with.
        device: Where to put it.

    Raises:
        ModelFileError: If a file is missing, damaged, too new, or does not fit its configuration.
    """
    folder = Path(directory)
    config = read_config(folder)
    weights = _verified(folder, config)
    try:
        choices = ModelConfig.from_dict(config["model"], f"{folder / CONFIG}: model")
        facts = DatasetFacts.from_dict(config["facts"], f"{folder / CONFIG}: facts")
        model = build_model(choices.name, choices, facts, dtype=DTYPES[config["dtype"]])
    except (KeyError, ConfigError) as error:
        raise ModelFileError(f"{folder / CONFIG}: not a usable configuration: {error}") from None
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ModelFileError(f"{folder / WEIGHTS}: not a safetensors file: {error}") from None
    _check_tensors(folder / WEIGHTS, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.to(device=device, dtype=dtype or model.dtype).eval()


def read_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The `config.json` of a model directory.

    Raises:
        ModelFileError: If there is none, or it cannot be read or is of a later version.
    """
    path = Path(directory) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(
            f"{path.parent}: not a macekit model: no {CONFIG} there",
            f"expected a directory with {CONFIG} and {WEIGHTS}",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from None
    found = config.get("schema_version") if isinstance(config, dict) else None
    if not isinstance(found, int):
        raise ModelFileError(f"{path}: no schema_version; not written by macekit or damaged")
    if found > SCHEMA_VERSION:
        raise ModelFileError(
            f"{path}: schema version {found}; this macekit ({__version__}) reads up to {SCHEMA_VERSION}",
            f"written by macekit {config.get('macekit_version', '?')}: upgrade macekit",
        )
    checksums = config.get("sha256")
    if not isinstance(checksums, dict) or checksums.get(CONFIG) != _digest(config):
        raise ModelFileError(
            f"{path}: damaged or edited: its sections do not have the checksum that was stored with them",
            "copy the model directory again from its source",
        )
    return config  # type: ignore[no-any-return]


def _digest(config: Mapping[str, Any]) -> str:
    """Checksum of everything in the configuration but the checksums."""
    sections = {name: value for name, value in config.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def _put(new: Path, target: Path) -> None:
    """Move a complete directory into place; what was there goes only once the new one stands."""
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-"))
    target.rename(old / target.name)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _verified(folder: Path, config: Mapping[str, Any]) -> bytes:
    """The bytes of the weights, their checksum compared with the configuration's."""
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    expected = config["sha256"].get(WEIGHTS)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelFileError(
            f"{path}: damaged: sha256 {found[:12]}…, expected {str(expected)[:12]}… from {CONFIG}",
            "copy the model directory again from its source",
        )
    return content


def _check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise ModelFileError(
            f"{path}: does not fit {CONFIG}: missing {', '.join(missing) or 'nothing'}; "
            f"not expected {', '.join(extra) or 'nothing'}"
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise ModelFileError(
                f"{path}: {name} is {found[name].dtype} {list(found[name].shape)}, "
                f"expected {tensor.dtype} {list(tensor.shape)}"
            )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
