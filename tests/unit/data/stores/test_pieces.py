from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from macekit.data.files import read_frames
from macekit.data.pieces import pieces_of_file
from macekit.errors import DataError


def text_of(count: int) -> str:
    stream = io.StringIO()
    generator = np.random.default_rng(0)
    for size in generator.integers(1, 5, count):
        atoms = Atoms("H" * int(size), positions=generator.normal(size=(size, 3)))
        atoms.info["energy"] = float(generator.normal())
        write(stream, atoms, format="extxyz")
    return stream.getvalue()


def collected(path: Path, size: int, **options):
    index, frames, pieces = 0, [], []
    for read in pieces_of_file(path, size, **options):
        found, index = read(index)
        frames += found.frames
        pieces.append(found)
    return frames, pieces


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("form", ["plain", "crlf", "bom", "gz", "blank lines", "no end"])
def test_pieces_are_the_whole_file(size, form, tmp_path: Path):
    text = text_of(11)
    path = tmp_path / ("frames.extxyz.gz" if form == "gz" else "frames.extxyz")
    if form == "blank lines":
        lines = text.splitlines()
        first = int(lines[0]) + 2
        text = "\n\n" + "\n".join(lines[:first]) + "\n\n\n" + "\n".join(lines[first:]) + "\n\n"
    data = {"crlf": text.replace("\n", "\r\n"), "bom": "\ufeff" + text, "no end": text.rstrip("\n")}.get(
        form, text
    ).encode()
    path.write_bytes(gzip.compress(data) if form == "gz" else data)
    whole = read_frames(path).frames
    frames, pieces = collected(path, size)
    assert len(whole) == 11
    assert [frame.source for frame in frames] == [frame.source for frame in whole]
    assert [frame.index for frame in frames] == list(range(11))
    assert all((one.atoms.positions == two.atoms.positions).all() for one, two in zip(frames, whole, strict=True))
    energies = [[frame.atoms.get_potential_energy() for frame in found] for found in (frames, whole)]
    assert energies[0] == energies[1]
    assert all(len(piece.frames) <= size for piece in pieces)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_errors_name_the_same_frames_and_lines(size, tmp_path: Path):
    lines = text_of(6).splitlines()
    starts = [number for number, line in enumerate(lines) if line.isdigit()]
    lines[starts[4] + 2] = "H 0.0 oops 0.0"
    (tmp_path / "bad.extxyz").write_text("\n".join(lines) + "\n")
    whole = read_frames(tmp_path / "bad.extxyz", skip_bad=True)
    frames, pieces = collected(tmp_path / "bad.extxyz", size, skip_bad=True)
    assert [frame.source for frame in frames] == [frame.source for frame in whole.frames]
    assert [str(bad) for piece in pieces for bad in piece.bad] == [str(bad) for bad in whole.bad]
    with pytest.raises(DataError, match=rf"bad.extxyz frame 4 \(line {starts[4] + 3}\)"):
        collected(tmp_path / "bad.extxyz", size)


def test_a_truncated_file_is_found(tmp_path: Path):
    lines = text_of(6).splitlines()
    (tmp_path / "cut.extxyz").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match=r"cut.extxyz frame 5 .* is truncated"):
        collected(tmp_path / "cut.extxyz", 2)


def test_a_wrong_count_in_the_middle_is_found(tmp_path: Path):
    lines = text_of(9).splitlines()
    start = [number for number, line in enumerate(lines) if line.isdigit()][3]
    lines[start] = str(int(lines[start]) + 1)
    (tmp_path / "count.extxyz").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"count.extxyz frame 3 "):
        collected(tmp_path / "count.extxyz", 2)
    frames, _ = collected(tmp_path / "count.extxyz", 2, skip_bad=True)
    whole = read_frames(tmp_path / "count.extxyz", skip_bad=True).frames
    assert [frame.index for frame in frames] == [frame.index for frame in whole]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty.extxyz", "", "no frames in the file"),
    ("binary.extxyz", "\x00\x01\n", "holds binary data"),
    ("none.extxyz", None, "no such file"),
])  # fmt: skip
def test_files_that_hold_nothing(name, content, message, tmp_path: Path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        collected(tmp_path / name, 2)


def test_selections_and_other_formats_come_in_pieces_too(tmp_path: Path):
    (tmp_path / "frames.extxyz").write_text(text_of(9))
    frames, pieces = collected(f"{tmp_path / 'frames.extxyz'}@2:7", 2)
    assert [frame.index for frame in frames] == [2, 3, 4, 5, 6]
    assert [len(piece.frames) for piece in pieces] == [2, 2, 1]
    write(tmp_path / "frames.traj", [frame.atoms for frame in frames])
    assert [len(piece.frames) for piece in collected(tmp_path / "frames.traj", 3)[1]] == [3, 2]
