"""Files made to run code, to exhaust memory or to crash are refused by name, and nothing in them runs."""

from __future__ import annotations

import builtins
import codecs
import copyreg
import functools
import importlib
import io
import operator
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import archive

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.convert import read_mace_torch

MARKER = "marker-of-malice"


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


TOUCH = f"touch {MARKER}"
PYTHON = f"open({MARKER!r}, 'w').close()"
MALICE: dict[str, Callable[[], Any]] = {
    "os.system": lambda: Call(os.system, TOUCH),
    "subprocess": lambda: Call(subprocess.call, TOUCH, -1, None),
    "eval": lambda: Call(builtins.eval, PYTHON),
    "exec": lambda: Call(builtins.exec, PYTHON),
    "compile": lambda: Call(builtins.compile, PYTHON, "x", "exec"),
    "open": lambda: Call(builtins.open, MARKER, "w"),
    "import": lambda: Call(builtins.__import__, "antigravity"),
    "importlib": lambda: Call(importlib.import_module, "antigravity"),
    "getattr chain": lambda: Call(getattr, Call(importlib.import_module, "os"), "system"),
    "getattr of a record": lambda: Call(getattr, torch.nn.functional.silu, "__globals__"),
    "getattr of a dictionary": lambda: Call(getattr, {}, "__class__"),
    "attrgetter": lambda: Call(operator.attrgetter, "__class__.__base__"),
    "methodcaller": lambda: Call(operator.methodcaller, "system", TOUCH),
    "partial": lambda: Call(functools.partial, os.system, TOUCH),
    "map": lambda: Call(builtins.map, os.system, [TOUCH]),
    "copyreg": lambda: Call(copyreg._reconstructor, dict, object, None),  # type: ignore[attr-defined]
    "codecs": lambda: Call(codecs.decode, "cebs", "rot13"),
    "encode to another encoding": lambda: Call(codecs.encode, b"payload", "zlib"),
    "torch.load": lambda: Call(torch.load, MARKER),
    "torch.hub": lambda: Call(torch.hub.load, "owner/repository", "model"),
    "torch.jit.load": lambda: Call(torch.jit.load, MARKER),
    "torch storage from a file": lambda: Call(torch.storage._load_from_bytes, b"content"),
    "numpy.load": lambda: Call(np.load, MARKER),
    "numpy objects": lambda: np.array([Call(os.system, TOUCH)], dtype=object),
    "numpy fromfile": lambda: Call(np.memmap, MARKER),
    "type": lambda: Call(type, "name", (), {}),
    "state of a function": lambda: Call(print, state={"__defaults__": (1,)}),
    "inside a list": lambda: [1, {"a": (2, Call(os.system, TOUCH))}],
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", MALICE)
def test_malice_is_refused(kind: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(MALICE[kind](), protocol=protocol)
    path = tmp_path / "evil.model"
    path.write_bytes(archive(content))
    with pytest.raises(ModelFileError) as caught:
        read_archive(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4
    assert not (tmp_path / MARKER).exists()


def test_the_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(
        ModelFileError, match=r"evil: refused: (posix|nt)\.system has no place in a model file"
    ) as caught:
        read_archive(archive(pickle.dumps(Call(os.system, TOUCH), protocol=2)), "evil")
    assert "nothing in the file was executed" in caught.value.message


def test_the_malice_would_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: Python's own unpickler runs it."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Call(os.system, TOUCH)))
    assert (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"(S'touch marker'\nios\nsystem\n.",
        b"cos\nsystem\n(S'touch marker'\ntR.",
        b"(cos\nsystem\nS'touch marker'\no.",
        b"\x82\x01.",
        b"Pid\n.",
        b"cmace.modules\n__class__.__base__\n)R)R.",
        b"cbuiltins\nset\n)R}b.",
        b"cmace\nX\n(lb0cmace\nX\n}b.",
        b"cmace..os\nsystem\n.",
        b"cmace. os\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"}" + b"\x85" * 300_000 + b"K\x01s.",
        b")" + b"\x85" * 300_000 + b"]\x94}h\x00s.",
        b"]\x94(h\x00h\x00e}(h\x00K\x01u.",
        b"K\x01r\xff\xff\xff\xff0.",
        b"h\x05.",
        b"0.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"T\xff\xff\xff\x7fx.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"(.",
        b"",
        b".",
    ],
)
def test_opcodes_by_hand(opcodes: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_archive(archive(opcodes))


def test_nested_tuples_as_a_key_do_not_overflow_the_stack() -> None:
    with pytest.raises(ModelFileError, match="a key of type tuple"):
        read_archive(archive(b"})" + b"\x85" * 300_000 + b"K\x01s."))


def tensor(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4, key: str = "0") -> bytes:
    """A pickle of one tensor with four float64."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.DoubleStorage, key, "cuda:0", count) if obj is Ellipsis else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(Call(torch._utils._rebuild_tensor_v2, ..., offset, size, stride, False, {}))
    return buffer.getvalue()


def test_a_tensor_is_read_from_any_device() -> None:
    content = archive(tensor((2, 2), (1, 2)), {"data/0": struct.pack("<4d", 1, 2, 3, 4)})
    np.testing.assert_array_equal(read_archive(content), [[1, 3], [2, 4]])
    content = archive(tensor((2, 2), (1, 2)), {"data/0": struct.pack(">4d", 1, 2, 3, 4), "byteorder": b"big"})
    np.testing.assert_array_equal(read_archive(content), [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    "content",
    [
        tensor((3, 2), (2, 1)),
        tensor((2, 2), (2, 1), offset=1),
        tensor((2, 2), (2, 1), offset=-1),
        tensor((2, 2), (-2, 1)),
        tensor((1 << 40,), (0,)),
        tensor((2, 2), (2,)),
        tensor((4,), (1,), count=5),
        tensor((4,), (1,), key="../../data/0"),
        tensor((4,), (1,), key="1"),
    ],
)
def test_tensors_beyond_their_data(content: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_archive(archive(content, {"data/0": struct.pack("<4d", 1, 2, 3, 4)}))


def test_a_bomb_is_refused() -> None:
    bomb = archive(tensor((4,), (1,)), {"data/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match=r"claims 16777\d+ bytes"):
        read_archive(bomb)


def test_damage_is_found() -> None:
    whole = archive(tensor((4,), (1,)), {"data/0": struct.pack("<4d", 1, 2, 3, 4)})
    for length in range(0, len(whole), 7):
        with pytest.raises(ModelFileError):
            read_archive(whole[:length])
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << int(generator.integers(8))
        try:
            np.testing.assert_array_equal(read_archive(bytes(damaged)), [1, 2, 3, 4])
        except ModelFileError:
            continue
    for garbage in (b"", b"garbage", bytes(1000), generator.bytes(5000), pickle.dumps([1, 2])):
        with pytest.raises(ModelFileError, match="not a model that torch saved"):
            read_archive(garbage, "a file")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"absent\.model: cannot be read: No such file"):
        read_archive(tmp_path / "absent.model")


def test_other_files_of_torch_are_named(tmp_path: Path) -> None:
    """What people take for models: checkpoints, and models compiled for other programs."""
    torch.save({"model": {"weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "run.pt")
    with pytest.raises(
        ModelFileError, match=r"expected a module, found dict\nhint: a checkpoint holds weights without"
    ):
        read_mace_torch(tmp_path / "run.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    with pytest.raises(
        ModelFileError, match=r"format before 1\.6 .* is not read\nhint: where you trust the file, open"
    ):
        read_mace_torch(tmp_path / "old.model")
    (tmp_path / "lammps.pt").write_bytes(
        archive(pickle.dumps({}, protocol=2), {"constants.pkl": b"", "code/a.py": b""})
    )
    with pytest.raises(ModelFileError, match=r"compiled to TorchScript .* is not read\nhint: convert the \.model file"):
        read_mace_torch(tmp_path / "lammps.pt")


def test_pairs_as_keys() -> None:
    assert read_archive(archive(pickle.dumps({("a", 1): 2}, protocol=2))) == {("a", 1): 2}
    with pytest.raises(ModelFileError, match="a key of type tuple"):
        read_archive(archive(pickle.dumps({(("a",), 1): 2}, protocol=2)))
