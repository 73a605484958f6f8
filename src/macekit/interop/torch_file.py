"""Tensors as a file that torch reads with `weights_only`: written byte by byte, for exchange with other packages.

The format is a zip archive with a description in the language of pickles, version 2, and the raw numbers. Only the
dozen instructions that tensors need are written here, so nothing of the pickle module is used.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage"}
"""torch's name of the numbers of an array, by numpy's."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member, so that the same tensors are the same bytes."""


def checkpoint(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of a file that holds {"state_dict": {name: tensor}}.

    Args:
        tensors: Arrays of float32 or float64.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    members = {"data.pkl": b"".join(_instructions(arrays)), "byteorder": b"little"}
    members |= {f"data/{number}": _raw(array) for number, array in enumerate(arrays.values())}
    members["version"] = b"3\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", EPOCH), content)
    return buffer.getvalue()


def _raw(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _instructions(arrays: Mapping[str, NDArray[Any]]) -> Iterator[bytes]:
    yield b"\x80\x02}" + _text("state_dict") + b"}("  # protocol, an empty dictionary, its one key, the dictionary in it
    for number, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in array.strides]
        storage = STORAGES[array.dtype.str[1:]]
        yield _text(name)
        yield b"ctorch._utils\n_rebuild_tensor_v2\n(("  # the function, its arguments, the first of which is a storage
        yield _text("storage") + f"ctorch\n{storage}\n".encode() + _text(str(number)) + _text("cpu")
        yield _whole(array.size) + b"tQ" + _whole(0)  # offset
        yield _tuple(array.shape) + _tuple(strides) + b"\x89ccollections\nOrderedDict\n)RtR"  # needs no gradient
    yield b"us."  # into the inner dictionary, that into the outer, end


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _whole(number: int) -> bytes:
    if number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _tuple(numbers: Any) -> bytes:
    return b"(" + b"".join(_whole(number) for number in numbers) + b"t"
