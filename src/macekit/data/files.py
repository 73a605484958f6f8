"""Files of structures: every frame of the file, or an error that names the frame."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from macekit.data.compression import read_text, stem
from macekit.data.extxyz import Frame, frames_of_text
from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

FilePath: TypeAlias = str | os.PathLike[str]


@dataclass(slots=True)
class FramesOfFile:
    """What a file holds."""

    name: str
    """File name as it appears in messages."""
    frames: list[Frame] = field(default_factory=list)
    """Frames that could be read."""
    bad: list[DataError] = field(default_factory=list)
    """Why frames were left out (only where skipping was asked for)."""
    empty_frames: list[int] = field(default_factory=list)
    """Indices of frames without atoms, left out."""
    assumed_periodic: list[int] = field(default_factory=list)
    """Indices of frames with a Lattice and no pbc, taken as periodic in all directions."""

    def take(self, frame: Frame) -> None:
        """Note a frame that could be read."""
        if len(frame.atoms) == 0:
            self.empty_frames.append(frame.index)
            return
        self.frames.append(frame)
        if frame.assumed_periodic:
            self.assumed_periodic.append(frame.index)


def read_frames(file: FilePath, *, skip_bad: bool = False, taken_names: Collection[str] = ()) -> FramesOfFile:
    """All frames of one file.

    Extended XYZ (`.xyz`, `.extxyz`, also compressed) is checked line by line; other formats are read by ASE.
    A selection follows the name after an `@`, as in ASE: `train.xyz@:200`, `run.traj@-1`.

    Args:
        file: Path, with or without a selection.
        skip_bad: Leave out frames that cannot be read, instead of raising.
        taken_names: File names that stand for other files in messages; such a file is named by its path.

    Raises:
        DataError: If the file cannot be opened, has no frames, or has a damaged frame.
    """
    path, selection = _split_selection(os.fspath(file))
    name = path if Path(path).name in taken_names else Path(path).name
    found = FramesOfFile(name)
    if not Path(path).exists():
        raise DataError(f"{path}: no such file", _near_files(path))
    if Path(path).is_dir() and not path.rstrip("/").endswith(".bundle"):
        raise DataError(f"{path}: is a directory, expected a file of structures", "list its files under data.train")
    items: Iterator[Frame | DataError]
    items = frames_of_text(read_text(path), name) if is_extxyz(path) else _frames_by_ase(path, name)
    total = 0
    for item in _selected(items, selection, path):
        total += 1
        if isinstance(item, DataError):
            if not skip_bad:
                raise item
            found.bad.append(item)
        else:
            found.take(item)
    if total == 0 or (not found.frames and not found.bad):
        what = "no frames" if total == 0 else f"no frames with atoms ({total} frames are empty)"
        raise DataError(f"{path}: {what} in the file", "check that it was written to the end")
    return found


def read_atoms(file: FilePath) -> list[Atoms]:
    """All frames of one file as ASE atoms, for prediction. Raises like `read_frames`."""
    return [frame.atoms for frame in read_frames(file).frames]


def has_selection(file: str) -> bool:
    """Whether a file name ends in a selection of frames."""
    return _split_selection(file)[1] is not None


def _split_selection(file: str) -> tuple[str, slice | int | None]:
    """A file name and what follows its last `@`, where the name as a whole is no file."""
    if "@" not in Path(file).name or Path(file).exists():
        return file, None
    from ase.utils import string2index

    path, _, text = file.rpartition("@")
    try:
        index: Any = string2index(text)
    except ValueError:
        return file, None
    if not isinstance(index, (slice, int)):
        return file, None
    return path, index


def _selected(
    items: Iterator[Frame | DataError], selection: slice | int | None, path: str
) -> Iterator[Frame | DataError]:
    if selection is None:
        yield from items
        return
    everything = list(items)
    if isinstance(selection, slice):
        yield from everything[selection]
        return
    if not -len(everything) <= selection < len(everything):
        raise DataError(f"{path}: frame {selection} was asked for, the file has {len(everything)}")
    yield everything[selection]


def is_extxyz(path: str) -> bool:
    """Whether a file is extended XYZ, by its name or, without a suffix, by its contents."""
    suffix = Path(stem(path)).suffix.lower()
    if suffix in {".xyz", ".extxyz"}:
        return True
    if suffix:
        return False
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return str(filetype(path)) == "extxyz"
    except (UnknownFileTypeError, OSError, UnicodeDecodeError):
        return False


def _frames_by_ase(path: str, name: str) -> Iterator[Frame | DataError]:
    """Frames of any other format ASE knows."""
    from ase.io import read

    if stem(path).lower().endswith((".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz")):
        raise DataError(
            f"{path}: not a file of structures that can be read safely",
            "convert it to extxyz with the program that wrote it",
        )
    try:
        images = read(path, index=":")
    except Exception as error:  # every reader of ASE has its own exceptions
        text = str(error).strip().splitlines()
        raise DataError(
            f"{path}: ASE could not read the file ({type(error).__name__}: {text[0] if text else 'no message'})",
            "check the file with `ase info`, or convert it to extxyz",
        ) from error
    for index, atoms in enumerate(images):
        yield Frame(atoms=atoms, index=index, source=f"{name} frame {index}")


def _near_files(path: str) -> str | None:
    from macekit.errors import did_you_mean

    folder = Path(path).parent
    if not folder.is_dir():
        return f"the directory '{folder}' does not exist"
    near = did_you_mean(Path(path).name, (item.name for item in folder.iterdir()))
    return near or f"paths are relative to {Path.cwd()}"
