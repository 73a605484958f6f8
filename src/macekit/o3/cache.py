"""A disk cache of coupling coefficients: plain arrays, written atomically, recomputed where anything is odd."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def directory() -> Path:
    """Where coefficients are kept: `$MACEKIT_CACHE`, `$XDG_CACHE_HOME/macekit` or `~/.cache/macekit`."""
    if own := os.environ.get("MACEKIT_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "macekit"


def load(name: str, keys: Iterable[str]) -> dict[str, NDArray[Any]] | None:
    """Arrays stored under a name, or None where one is missing or anything in the file cannot be read."""
    try:
        with (directory() / f"{name}.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None  # zipfile raises RuntimeError and NotImplementedError for flags that damage has set


def store(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Store arrays under a name; a directory that cannot be written is no error, only slower the next time."""
    try:
        directory().mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory(), suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        Path(temporary).replace(directory() / f"{name}.npz")
    except OSError:
        return
