"""Files of structures read in pieces, so that a file may be larger than memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from macekit.data.compression import stem
from macekit.data.extxyz import frames_of_text
from macekit.data.files import FilePath, FramesOfFile, has_selection, is_extxyz, read_frames
from macekit.errors import DataError


class Piece(NamedTuple):
    """Some consecutive frames of a file, as text."""

    text: str
    first_line: int
    """Number of its first line in the file, from 0."""


ReadPiece: TypeAlias = Callable[[int], tuple[FramesOfFile, int]]
"""Reads a piece, given the position of its first frame in the file; returns also that of the first frame after it."""


def pieces_of_file(
    file: FilePath, size: int, *, skip_bad: bool = False, taken_names: Collection[str] = ()
) -> Iterator[ReadPiece]:
    """The frames of a file, `size` at a time. A piece is not parsed before its function is called.

    Extended XYZ, plain, gz, bz2 or xz, is never held as a whole; other formats are.

    Args:
        file: Path, with or without a selection.
        size: Frames of a piece.
        skip_bad: Leave out frames that cannot be read, instead of raising.
        taken_names: File names that stand for other files in messages.

    Raises:
        DataError: As `read_frames`, from here or from the functions.
    """
    path = os.fspath(file)
    if has_selection(path) or not Path(path).is_file() or not is_extxyz(path) or path.lower().endswith(".zst"):
        yield from _cut(read_frames(file, skip_bad=skip_bad, taken_names=taken_names), size)
        return
    name = path if Path(path).name in taken_names else Path(path).name
    is_empty = True
    for piece in _pieces_of_lines(path, size):
        is_empty = False
        yield partial(_read, piece, name, skip_bad)
    if is_empty:
        raise DataError(f"{path}: no frames in the file", "check that it was written to the end")


def _read(piece: Piece, name: str, skip_bad: bool, index: int) -> tuple[FramesOfFile, int]:
    found = FramesOfFile(name)
    for item in frames_of_text(piece.text, name, first_index=index, first_line=piece.first_line):
        index += 1
        if not isinstance(item, DataError):
            found.take(item)
        elif skip_bad:
            found.bad.append(item)
        else:
            raise item
    return found, index


def _cut(whole: FramesOfFile, size: int) -> Iterator[ReadPiece]:
    """The frames of a file that had to be read as a whole."""
    for first in range(0, max(len(whole.frames), 1), size):
        found = FramesOfFile(whole.name, frames=whole.frames[first : first + size])
        indices = {frame.index for frame in found.frames}
        found.assumed_periodic = [index for index in whole.assumed_periodic if index in indices]
        if first == 0:
            found.bad, found.empty_frames = whole.bad, whole.empty_frames
        yield partial(_given, found)


def _given(found: FramesOfFile, index: int) -> tuple[FramesOfFile, int]:
    return found, index + len(found.frames)


def _pieces_of_lines(path: str, size: int) -> Iterator[Piece]:
    """A file cut before headers of frames."""
    lines: list[str] = []
    first = line_number = frames = left = 0
    try:
        with _opened(path) as stream:
            for line in _text_lines(stream, path):
                header = line.strip()
                if left:
                    left -= 1
                elif header.isascii() and header.isdigit():
                    if frames == size:
                        yield Piece("\n".join(lines), first)
                        lines, first, frames = [], line_number, 0
                    frames += 1
                    left = int(header) + 1
                lines.append(line)
                line_number += 1
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path}: cannot be read ({error or type(error).__name__})", "check permissions, or copy the file again"
        ) from None
    if any(line.strip() for line in lines):
        yield Piece("\n".join(lines), first)


def _opened(path: str) -> BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    suffix = Path(path).suffix.lower() if stem(path) != path else ""
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix == ".bz2":
        return bz2.open(path, "rb")
    if suffix == ".xz":
        return lzma.open(path, "rb")
    return Path(path).open("rb")


def _text_lines(stream: Iterable[bytes], path: str) -> Iterator[str]:
    """Lines without their ends; UTF-8, or Latin-1 where that fails."""
    for number, data in enumerate(stream):
        if number < 64 and b"\x00" in data:
            raise DataError(
                f"{path}: holds binary data, expected extended XYZ text", "convert it, or correct its file name"
            )
        raw = data.removeprefix(b"\xef\xbb\xbf") if number == 0 else data
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line = raw.decode("latin-1")
        yield line.rstrip("\r\n")
