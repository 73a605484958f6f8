"""Text of plain and compressed files."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import zlib
from pathlib import Path
from typing import Final

from macekit.errors import DataError

SUFFIXES: Final = (".gz", ".bz2", ".xz", ".zst")


def stem(path: str) -> str:
    """The path without the suffix of a compression."""
    lower = path.lower()
    return next((path[: -len(suffix)] for suffix in SUFFIXES if lower.endswith(suffix)), path)


def read_text(path: str) -> str:
    """Text of a file, decompressed by suffix, without byte-order mark.

    UTF-8; bytes that are not are read as Latin-1 (they can only be comments).

    Raises:
        DataError: If the file cannot be opened, is damaged, or is not text.
    """
    try:
        data = _decompressed(path, Path(path).read_bytes())
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error or type(error).__name__})",
            "check permissions, or copy the file again",
        ) from None
    if b"\x00" in data[:4096]:
        raise DataError(
            f"{path}: holds binary data, expected extended XYZ text", "convert it, or correct its file name"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _decompressed(path: str, data: bytes) -> bytes:
    suffix = Path(path).suffix.lower()
    if suffix == ".gz":
        return gzip.decompress(data)
    if suffix == ".bz2":
        return bz2.decompress(data)
    if suffix == ".xz":
        return lzma.decompress(data)
    if suffix == ".zst":
        return _zstandard(path, data)
    return data


def _zstandard(path: str, data: bytes) -> bytes:
    """Decompress with the standard library (from Python 3.14) or with the package `zstandard`."""
    for module, function in (("compression.zstd", "decompress"), ("zstandard", "ZstdDecompressor")):
        try:
            found = getattr(importlib.import_module(module), function)
        except ImportError:
            continue
        try:
            if function == "decompress":
                return bytes(found(data))
            return bytes(found().stream_reader(data, read_across_frames=True).read())
        except Exception as error:  # each library has its own exception
            raise DataError(f"{path}: damaged zstandard file ({error})", "copy the file again") from None
    raise DataError(f"{path}: .zst files need the package 'zstandard'", "pip install zstandard, or decompress the file")
