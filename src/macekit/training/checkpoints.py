"""Checkpoints as safetensors and JSON: complete, verified, replaced atomically, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from macekit.errors import ResumeError

SCHEMA: Final = 1
"""Version of the layout of a checkpoint."""
_STATE, _TENSORS = "state.json", "tensors.safetensors"


def pack(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Turn nested state into JSON, moving its tensors to `tensors` under their path.

    Args:
        tree: Mappings, lists, tuples, tensors and plain values.
        tensors: Filled with copies on the CPU.
        path: Where in the state we are.

    Raises:
        TypeError: For a value that is none of these.
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().to("cpu", copy=True).contiguous()
        return {"__tensor__": path}
    if isinstance(tree, Mapping):
        items = [(key, pack(value, tensors, f"{path}.{key}" if path else str(key))) for key, value in tree.items()]
        if isinstance(tree, Counter):
            return {"__counter__": items}
        return dict(items) if all(isinstance(key, str) for key in tree) else {"__items__": items}
    if isinstance(tree, (list, tuple)):
        values = [pack(value, tensors, f"{path}.{index}") for index, value in enumerate(tree)]
        return {"__tuple__": values} if isinstance(tree, tuple) else values
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"__float__": repr(tree)}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"checkpoint: {path} is a {type(tree).__name__}, which has no plain form")


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(tree, list):
        return [unpack(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    kind = next(iter(tree), "")
    if kind in _UNPACKED:
        return _UNPACKED[kind](tree[kind], tensors)
    return {key: unpack(value, tensors) for key, value in tree.items()}


_UNPACKED: Final[dict[str, Callable[[Any, Mapping[str, Tensor]], Any]]] = {
    "__tensor__": lambda name, tensors: tensors[name],
    "__items__": lambda items, tensors: {key: unpack(value, tensors) for key, value in items},
    "__counter__": lambda items, tensors: Counter(dict(items)),
    "__tuple__": lambda values, tensors: tuple(unpack(value, tensors) for value in values),
    "__float__": lambda text, tensors: float(text),
}


def write_checkpoint(directory: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint next to the old one, and put it in its place only when it is complete.

    Args:
        directory: Where the checkpoint is afterwards.
        state: Nested state with tensors.
    """
    fresh, old = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    packed = pack(state, tensors)
    save_file(tensors, fresh / _TENSORS)
    digest = hashlib.sha256((fresh / _TENSORS).read_bytes()).hexdigest()
    document = {
        "schema": SCHEMA,
        "torch": torch.__version__,
        "sha256": {_TENSORS: digest},
        "state": packed,
    }
    (fresh / _STATE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for path in (fresh / _TENSORS, fresh / _STATE, fresh):
        _flush(path)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    _flush(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(directory: Path) -> dict[str, Any]:
    """Read a checkpoint and verify it.

    Returns:
        The state as it was written, tensors on the CPU.

    Raises:
        ResumeError: If it is missing, damaged, or of another layout.
    """
    directory = _existing(directory)
    try:
        document = json.loads((directory / _STATE).read_text(encoding="utf-8"))
        schema, state, digests = document["schema"], document["state"], document["sha256"]
        data = (directory / _TENSORS).read_bytes()
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{directory}: no readable checkpoint ({error}); start the run again") from None
    if schema != SCHEMA:
        raise ResumeError(f"{directory}: checkpoint layout {schema}, and this version of macekit reads {SCHEMA}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != digests.get(_TENSORS):
        raise ResumeError(
            f"{directory / _TENSORS}: damaged: sha256 {digest[:12]}…, and state.json says "
            f"{str(digests.get(_TENSORS))[:12]}…; restore the file or start the run again"
        )
    try:
        restored = unpack(state, load_file(directory / _TENSORS))
    except (SafetensorError, KeyError) as error:
        raise ResumeError(f"{directory}: tensors do not match state.json ({error}); start the run again") from None
    assert isinstance(restored, dict)
    return restored


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a checkpoint to read, possibly the previous one."""
    return (_existing(directory) / _STATE).is_file()


def _existing(directory: Path) -> Path:
    """The directory, or the previous checkpoint where the process died between the two renames."""
    old = directory.with_name(directory.name + ".old")
    return old if not directory.exists() and old.exists() else directory


def _flush(path: Path) -> None:
    """Have the operating system write a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
