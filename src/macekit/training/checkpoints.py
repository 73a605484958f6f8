"""Checkpoints as safetensors and JSON: complete, verified, replaced in one step, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from macekit.errors import ModelFileError, ResumeError

SCHEMA: Final = 2
"""Version of the layout of a checkpoint."""
_STATE, _PARTIAL = "state.json", ".partial"
_ATTEMPTS: Final = 5


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
    """Write a checkpoint. Until it is complete and on disk, the one before is the one that is read.

    The tensors go to a file that is named after their content, then `state.json`, which names that file, is
    replaced in one step, then the tensors of before are removed. So whenever the process dies, `state.json`
    belongs to a whole checkpoint.

    Args:
        directory: Where the checkpoint is.
        state: Nested state with tensors.

    Raises:
        ModelFileError: If it cannot be written, as on a full disk; the one before is left as it is.
    """
    tensors: dict[str, Tensor] = {}
    packed = pack(state, tensors)
    fresh_tensors, fresh_state = directory / ("tensors" + _PARTIAL), directory / (_STATE + _PARTIAL)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(tensors, fresh_tensors)
        digest = hashlib.sha256(fresh_tensors.read_bytes()).hexdigest()
        name = f"tensors-{digest[:16]}.safetensors"
        document = {"schema": SCHEMA, "torch": torch.__version__, "sha256": {name: digest}, "state": packed}
        fresh_state.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for path in (fresh_tensors, fresh_state):
            _flush(path)
        fresh_tensors.replace(directory / name)
        _flush(directory)
        fresh_state.replace(directory / _STATE)
        _flush(directory)
    except (OSError, SafetensorError) as error:
        for path in (fresh_tensors, fresh_state):
            path.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(
            f"{directory}: the checkpoint cannot be written ({reason}); the one before is as it was",
            "make room or give another run.directory, then go on with --resume",
        ) from None
    for path in _files(directory):
        if path.name not in (name, _STATE):
            path.unlink(missing_ok=True)


def read_checkpoint(directory: Path) -> dict[str, Any]:
    """Read a checkpoint and verify it.

    Returns:
        The state as it was written, tensors on the CPU.

    Raises:
        ResumeError: If it is missing, damaged, or of another layout.
    """
    document = _read_document(directory)
    for _ in range(_ATTEMPTS):  # the process that trains may be replacing it just now
        try:
            (name, expected) = next(iter(document["sha256"].items()))
            data = (directory / name).read_bytes()
            break
        except FileNotFoundError:
            document = _read_document(directory)
        except (OSError, AttributeError, StopIteration) as error:
            raise ResumeError(f"{directory}: no readable checkpoint ({error}); start the run again") from None
    else:
        raise ResumeError(f"{directory}: no readable checkpoint ({name} is missing); start the run again")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise ResumeError(
            f"{directory / name}: damaged: sha256 {digest[:12]}…, and state.json says "
            f"{str(expected)[:12]}…; restore the file or start the run again"
        )
    try:
        tensors = {key: tensor.clone() for key, tensor in load(data).items()}  # what is loaded lies in `data`
        restored = unpack(document["state"], tensors)
    except (SafetensorError, KeyError) as error:
        raise ResumeError(f"{directory}: tensors do not match state.json ({error}); start the run again") from None
    assert isinstance(restored, dict)
    return restored


def read_plain(directory: Path) -> dict[str, Any]:
    """The state of a checkpoint without its tensors, which are left as their names.

    Raises:
        ResumeError: If it is missing, damaged, or of another layout.
    """
    state = _read_document(directory)["state"]
    if not isinstance(state, dict):
        raise ResumeError(f"{directory}: no readable checkpoint (state is no mapping); start the run again")
    return state


def _read_document(directory: Path) -> dict[str, Any]:
    try:
        document = json.loads((directory / _STATE).read_text(encoding="utf-8"))
        schema, _, _ = document["schema"], document["state"], document["sha256"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{directory}: no readable checkpoint ({error}); start the run again") from None
    if schema != SCHEMA:
        raise ResumeError(f"{directory}: checkpoint layout {schema}, and this version of macekit reads {SCHEMA}")
    assert isinstance(document, dict)
    return document


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a checkpoint to read."""
    return (directory / _STATE).is_file()


def remove_checkpoint(directory: Path) -> None:
    """Remove a checkpoint, and nothing else that may be in its directory."""
    for path in _files(directory):
        path.unlink(missing_ok=True)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def _files(directory: Path) -> list[Path]:
    """What a checkpoint is made of, and what a process that died has left."""
    return [*directory.glob("tensors*"), *directory.glob(_STATE + "*")]


def _flush(path: Path) -> None:
    """Have the operating system write a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
