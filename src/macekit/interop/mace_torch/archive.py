"""torch's archives: a zip file with a pickle and the raw bytes of its tensors, read into numpy arrays.

Tensors are float, integer or boolean arrays on the CPU wherever they were saved from. TorchScript modules that e3nn
embeds are archives too, of which only the tensors are read.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.pickled import Builder, read_pickle
from macekit.interop.mace_torch.records import Global

Array = NDArray[Any]

_STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_LARGEST_TENSOR = 1 << 30
_OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""In the first bytes of what torch saves without a zip file."""
_NUMPY_TYPES = frozenset({"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "b1"})


def read_archive(file: str | os.PathLike[str] | bytes, source: str | None = None) -> Any:
    """The object that was saved, as records, containers, numbers and numpy arrays.

    Args:
        file: Path of the file, or its content.
        source: What is being read, the start of every error message; None: the path.

    Raises:
        ModelFileError: If the file cannot be read, is no archive of torch, is damaged, or asks for anything but data.
    """
    source = source or (str(file) if not isinstance(file, bytes) else "model")
    try:
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{source}: cannot be read: {error.strerror or error}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            opened = _Archive(archive, len(content), source)
            if opened.is_script and not isinstance(file, bytes):
                raise ModelFileError(
                    f"{source}: a model compiled to TorchScript (as for LAMMPS or OpenMM) is not read",
                    "convert the .model file that it was compiled from",
                )
            return opened.read()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        if _OLD_MAGIC in content[:40]:
            raise ModelFileError(
                f"{source}: saved in torch's format before 1.6 (without a zip file), which is not read",
                "where you trust the file, open it with mace-torch and save it again with torch.save",
            ) from None
        raise ModelFileError(
            f"{source}: not a model that torch saved, or damaged: {error}",
            "expected a .model file of mace-torch (a zip archive); copy it again from its source",
        ) from None


class _Archive:
    """One open archive."""

    def __init__(self, archive: zipfile.ZipFile, size: int, source: str) -> None:
        self.archive, self.source = archive, source
        self.members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ModelFileError(
                f"{source}: expected one data.pkl in the archive, as torch.save writes it, found {len(pickles)}"
            )
        self.folder = pickles[0].removesuffix("data.pkl")
        total = sum(self.members[name].file_size for name in self.members if self._is_read(name))
        if total > size:
            raise ModelFileError(f"{source}: claims {total} bytes of data in a file of {size}: refused")
        order = self._content("byteorder").decode("latin1") if f"{self.folder}byteorder" in self.members else "little"
        self.order = ">" if order == "big" else "<"
        self.storages: dict[str, Array] = {}

    @property
    def is_script(self) -> bool:
        """Whether it holds code of TorchScript; only its data would be read."""
        return f"{self.folder}constants.pkl" in self.members

    def read(self) -> Any:
        return read_pickle(self._content("data.pkl"), self.source, BUILDERS, SETTERS, self._storage)

    def _is_read(self, name: str) -> bool:
        return name.startswith((f"{self.folder}data/", f"{self.folder}data.pkl", f"{self.folder}byteorder"))

    def _content(self, name: str) -> bytes:
        info = self.members.get(self.folder + name)
        if info is None:
            raise ModelFileError(f"{self.source}: damaged: {name} is missing in the archive")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(f"{self.source}: {name} is compressed, which torch never does: refused")
        return self.archive.read(info)

    def _storage(self, identifier: Any) -> Array:
        if not (isinstance(identifier, tuple) and len(identifier) == 5 and identifier[0] == "storage"):
            raise ModelFileError(f"{self.source}: refused: a persistent identifier that is no tensor storage")
        _, kind, key, _, count = identifier
        if not (isinstance(kind, Global) and kind.name in _STORAGES and isinstance(key, str)):
            raise ModelFileError(f"{self.source}: tensors of the type {getattr(kind, 'name', kind)!r} are not read")
        if key not in self.storages:
            dtype = np.dtype(self.order + _STORAGES[kind.name])
            content = self._content(f"data/{key}")
            if not isinstance(count, int) or len(content) < count * dtype.itemsize:
                raise ModelFileError(
                    f"{self.source}: damaged: tensor data/{key} has {len(content)} bytes, expected {count} numbers"
                )
            values = np.frombuffer(content, dtype=dtype, count=count)
            if kind.name == "torch.BFloat16Storage":
                values = (values.astype("u4") << 16).view("f4")
            self.storages[key] = values.astype(values.dtype.newbyteorder("="), copy=False)
        return self.storages[key]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Array:
    """`torch._utils._rebuild_tensor_v2` as an array of its own."""
    if not isinstance(storage, np.ndarray) or len(size) != len(stride):
        raise TypeError("a tensor without its data")
    numbers = [offset, *size, *stride]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise TypeError("a tensor with an impossible shape")
    if prod(size) == 0:
        return np.zeros(size, dtype=storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage) or prod(size) * storage.itemsize > _LARGEST_TENSOR:
        raise ValueError(f"a tensor of shape {list(size)} does not fit its data")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()


def _parameter(data: Any, *_: Any) -> Array:
    if not isinstance(data, np.ndarray):
        raise TypeError("a parameter that is no tensor")
    return data


class _Dtype(str):
    """The type of numpy numbers: a code such as f8."""

    __slots__ = ()


class _Unfilled:
    """A numpy array before its content."""

    __slots__ = ()


def _numpy_dtype(code: Any, *_: Any) -> _Dtype:
    if code not in _NUMPY_TYPES:
        raise TypeError(f"numpy values of the type {code!r}")
    return _Dtype(code)


def _numpy_dtype_state(dtype: _Dtype, state: Any) -> _Dtype:
    """The byte order; anything else would be a structured type."""
    order = state[1]
    if order not in ("<", "|", "=", ">"):
        raise TypeError("numpy values of an unknown byte order")
    return _Dtype(order + dtype[-2:])


def _numpy_scalar(dtype: Any, content: Any) -> float | int | bool:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise TypeError("a numpy value that is not a number")
    (value,) = np.frombuffer(content, dtype=np.dtype(str(dtype))).tolist()
    return value  # type: ignore[no-any-return]


def _numpy_unfilled(*_: Any) -> _Unfilled:
    return _Unfilled()


def _numpy_array(_: _Unfilled, state: Any) -> Array:
    _, shape, dtype, is_fortran, content = state
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise TypeError("a numpy array of something else than numbers")
    values = np.frombuffer(content, dtype=np.dtype(str(dtype)))
    return values.reshape(_integers(shape), order="F" if is_fortran else "C").copy()


def _integers(values: Any) -> tuple[int, ...]:
    """A tuple of whole numbers, such as a shape."""
    if not isinstance(values, Sequence) or not all(isinstance(value, int) for value in values):
        raise TypeError("a shape that is no list of whole numbers")
    return tuple(values)


def _tagged(value: Any, *_: Any) -> Any:
    return value


BUILDERS: dict[str, Builder] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _integers,
    "torch.jit._pickle.build_intlist": list,
    "torch.jit._pickle.build_doublelist": list,
    "torch.jit._pickle.build_boollist": list,
    "torch.jit._pickle.build_tensorlist": list,
    "torch.jit._pickle.restore_type_tag": _tagged,
    "numpy.dtype": _numpy_dtype,
    "numpy.ndarray": _numpy_unfilled,
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_unfilled for core in ("core", "_core")},
}
SETTERS: dict[type, Builder] = {_Dtype: _numpy_dtype_state, _Unfilled: _numpy_array}
"""All functions that are called on behalf of a file, `BUILDERS` by the name that it uses for them."""

__all__ = ["read_archive"]
