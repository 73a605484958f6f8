# ruff: noqa: RUF043
"""Every frame of a file is read, or an error names file, frame, line and remedy."""

import bz2
import gzip
import lzma
import sys
import types

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from extxyz_frames import config, water, write
from hypothesis import given, settings
from hypothesis import strategies as st

from macekit.data import read_atoms, read_structures
from macekit.data.extxyz import frames_of_text
from macekit.data.files import read_frames
from macekit.errors import DataError


def read(path, **fields):
    return read_structures(path, config(path, **fields), labels="none")


def test_all_frames_with_their_places(tmp_path):
    file = write(tmp_path / "a.xyz", *[water(f"energy={-14 - i}", shift=0.01 * i) for i in range(5)])
    structures, census, warnings = read(file)
    assert [s.source for s in structures] == [f"a.xyz frame {i}" for i in range(5)]
    assert [float(s.targets["energy"]) for s in structures] == [-14.0, -15.0, -16.0, -17.0, -18.0]
    assert census.frames_read == 5
    assert not warnings


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", "\t").replace("F\tF\tF", "F F F"),
        lambda text: text.replace("\n", "   \n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n  \n",
        lambda text: "\n\n" + text,
        lambda text: text.replace("\n3\n", "\n\n\n3\n"),
        lambda text: text.replace("energy=", 'comment="Å ö" energy='),
    ],
    ids=[
        "crlf",
        "cr",
        "bom",
        "tabs",
        "trailing",
        "no-newline",
        "blank-end",
        "blank-start",
        "blank-between",
        "utf8",
    ],
)
def test_harmless_differences_lose_nothing(tmp_path, change):
    plain = "".join(water(f"energy={-14 - i}") for i in range(4))
    file = tmp_path / "a.extxyz"
    file.write_bytes(change(plain).encode())
    structures = read(file).structures
    assert [float(s.targets["energy"]) for s in structures] == [-14.0, -15.0, -16.0, -17.0]
    assert structures[0].targets["forces"][1].tolist() == [0.1, 0.2, -0.3]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_files(tmp_path, suffix, compress):
    file = tmp_path / f"a.xyz{suffix}"
    file.write_bytes(compress(water().encode()))
    assert len(read(file).structures) == 1
    file.write_bytes(compress(water().encode() * 50)[:60])
    with pytest.raises(DataError, match=f"a.xyz{suffix}: cannot be read"):
        read(file)


def test_zstandard(tmp_path, monkeypatch):
    file = tmp_path / "a.xyz.zst"
    file.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match="need the package 'zstandard'"):
        read(file)
    fake = types.ModuleType("compression.zstd")
    fake.decompress = lambda data: water().encode()
    monkeypatch.setitem(sys.modules, "compression", types.ModuleType("compression"))
    monkeypatch.setitem(sys.modules, "compression.zstd", fake)
    assert len(read(file).structures) == 1


def test_latin1_comments_and_binary_data(tmp_path):
    file = tmp_path / "a.xyz"
    file.write_bytes(water('unit="Å" energy=-1').encode("latin-1"))
    assert len(read(file).structures) == 1
    file.write_bytes(b"3\n\x00\x01")
    with pytest.raises(DataError, match="holds binary data"):
        read(file)


def test_paths_with_spaces_and_other_alphabets(tmp_path):
    folder = tmp_path / "ein Ordner mit ü"
    folder.mkdir()
    assert len(read(write(folder / "wässer 1.xyz", water())).structures) == 1


GOOD = water()
BAD = {
    "count too large": (
        GOOD.replace("3\n", "4\n", 1) + GOOD,
        r"a.xyz frame 0 \(line 1\): declares 4 atoms but has 3; '3'",
    ),
    "count too small": (
        GOOD.replace("3\n", "2\n", 1) + GOOD,
        r"a.xyz frame 0 \(line 1\): declares 2 atoms but another atom line follows in line 5: 'H 0.0",
    ),
    "truncated": (
        GOOD + "\n".join(GOOD.split("\n")[:4]),
        r"a.xyz frame 1 \(line 6\): the file ends after 2 of 3 atoms",
    ),
    "truncated after the count": (
        GOOD + "3\n",
        r"frame 1 \(line 6\): the file ends after 0 of 3 atoms; it is truncated",
    ),
    "truncated in a line": (
        GOOD + GOOD[:-18],
        r"a.xyz frame 1 \(line 10\): atom 2 has . columns, expected 7",
    ),
    "blank line among the atoms": (
        GOOD.replace("\nH", "\n\nH", 1),
        "declares 3 atoms but has 1; a blank line is in line 4",
    ),
    "text in front": (
        "# my file\n" + GOOD,
        r"frame 0 \(line 1\): expected the number of atoms, found '# my file'",
    ),
    "Fortran exponent": (
        GOOD.replace("0.760000", "7.6D-01"),
        r"line 4\): atom 1: column pos is '7.6D-01'(.|\n)*replace D by E",
    ),
    "stars": (GOOD.replace("0.760000", "********"), r"column pos is '\*+'(.|\n)*did not fit the width"),
    "decimal comma": (GOOD.replace("0.760000", "0,76"), r"column pos is '0,76'(.|\n)*decimal comma"),
    "unknown symbol": (
        GOOD.replace("\nO", "\nQx"),
        r"frame 0 \(line 3\): atom 0: 'Qx' is not a chemical element",
    ),
    "dummy atom": (GOOD.replace("\nO", "\nX"), "frame 0: atom 0 has atomic number 0"),
    "column missing": (GOOD.replace(" -0.3\n", "\n", 1), r"\(line 3\): atom 0 has 6 columns, expected 7"),
    "column too many": (
        GOOD.replace(" -0.3\n", " -0.3 1\n", 1),
        r"\(line 3\): atom 0 has 8 columns, expected 7",
    ),
    "run-together numbers": (GOOD.replace("0.760000 -0.470000", "0.760000-0.470000"), "atom 1 has 6 columns"),
    "NaN position": (GOOD.replace("0.760000", "nan"), r"frame 0: position of atom 1 is \(0, nan, -0.47\)"),
    "infinite position": (GOOD.replace("0.760000", "inf"), "frame 0: position of atom 1"),
    "coincident atoms": (
        GOOD.replace("-0.760000", "0.760000"),
        "frame 0: atoms 1 and 2 are at the same point",
    ),
    "bad Properties": (GOOD.replace("pos:R:3", "pos:R"), r"frame 0 \(line 2\): Properties=.* is not a list"),
    "bad Lattice": (
        GOOD.replace("Properties", 'Lattice="1 2 3" Properties'),
        r"frame 0 \(line 2\): the comment line cannot be parsed",
    ),
    "singular cell": (
        GOOD.replace("Properties", 'Lattice="0 0 0 0 0 0 0 0 0" Properties').replace('"F F F"', '"T T T"'),
        "frame 0: periodic along a, b, c but the lattice vectors",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_frames_are_named(tmp_path, name):
    text, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "a.xyz", text))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", BAD)
def test_damaged_frames_can_be_left_out_with_count(tmp_path, name):
    text, _ = BAD[name]
    good = [water(f"energy={-20 - i}") for i in range(3)]
    structures, census, warnings = read(write(tmp_path / "a.xyz", *good, text), on_bad_frame="skip")
    assert [float(s.targets["energy"]) for s in structures][:3] == [-20.0, -21.0, -22.0]
    assert census.frames_bad >= 1
    assert census.frames_read == len(structures) + census.frames_bad
    index = 4 if name.startswith("truncated") else 3
    assert any(f"bad frames left out: a.xyz frame {index}" in warning for warning in warnings)
    assert len(structures) == 3 + text.count("\n3\n")


def test_frames_after_a_damaged_one_are_kept(tmp_path):
    wrong = GOOD.replace("3\n", "2\n", 1)
    structures, census, _ = read(write(tmp_path / "a.xyz", GOOD, wrong, water("energy=-3")), on_bad_frame="skip")
    assert float(structures[-1].targets["energy"]) == -3.0
    assert census.frames_bad == 1


def test_empty_files(tmp_path):
    for text in ("", "\n \n"):
        with pytest.raises(DataError, match="no frames in the file"):
            read(write(tmp_path / "a.xyz", text))
    with pytest.raises(DataError, match=r"no frames with atoms \(2 frames are empty\)"):
        read(write(tmp_path / "a.xyz", "0\n\n0\n\n"))


def test_frames_without_atoms_are_left_out_and_counted(tmp_path):
    structures, census, warnings = read(write(tmp_path / "a.xyz", GOOD, "0\nempty\n", water("energy=-2")))
    assert [s.source for s in structures] == ["a.xyz frame 0", "a.xyz frame 2"]
    assert census.frames_empty == 1
    assert census.frames_read == 3
    assert warnings == ["a.xyz: 1 frames without atoms left out: 1"]


def test_missing_files(tmp_path):
    write(tmp_path / "train.xyz", GOOD)
    with pytest.raises(DataError, match=r"no such file(.|\n)*did you mean 'train.xyz'"):
        read(tmp_path / "trian.xyz")
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(DataError, match="the directory .* does not exist"):
        read(tmp_path / "nowhere" / "a.xyz")


def test_selection_as_in_ase(tmp_path):
    file = write(tmp_path / "a.xyz", *[water(f"energy={-i}") for i in range(1, 6)])
    assert [a.get_potential_energy() for a in read_atoms(f"{file}@1:3")] == [-2.0, -3.0]
    assert [a.get_potential_energy() for a in read_atoms(f"{file}@-1")] == [-5.0]
    assert read_structures(f"{file}@-2:", config(file)).structures[0].source == "a.xyz frame 3"
    with pytest.raises(DataError, match="frame 9 was asked for, the file has 5"):
        read_atoms(f"{file}@9")
    with pytest.raises(DataError, match="no such file"):
        read_atoms(f"{file}@x")
    assert len(read_atoms(write(tmp_path / "odd@1.xyz", GOOD))) == 1


def test_lattice_without_pbc_is_periodic_and_said(tmp_path):
    text = GOOD.replace("Properties", 'Lattice="9 0 0 0 9 0 0 0 9" Properties').replace(' pbc="F F F"', "")
    structures, _, warnings = read(write(tmp_path / "a.xyz", text))
    assert structures[0].pbc.all()
    assert any("1 frames have a Lattice and no pbc and are taken as periodic" in w for w in warnings)


def test_cell_of_a_molecule_is_kept_and_irrelevant(tmp_path):
    text = GOOD.replace("Properties", 'Lattice="9 0 0 0 9 0 0 0 9" Properties')
    structure = read(write(tmp_path / "a.xyz", text)).structures[0]
    assert structure.cell[0, 0] == 9.0
    assert not structure.is_periodic


@pytest.mark.parametrize("name", ["a.traj", "a.json", "a.db", "a.xyz"])
def test_formats_of_ase_with_results(tmp_path, name):
    frames = []
    for shift in (0.0, 0.1):
        atoms = bulk("Cu", cubic=True)
        atoms.positions[0, 0] += shift
        atoms.calc = SinglePointCalculator(
            atoms, energy=-3.0 - shift, forces=np.full((4, 3), shift), stress=np.arange(6.0)
        )
        frames.append(atoms)
    ase_write(tmp_path / name, frames)
    targets = {"y_node_vector": "forces", "stress": "stress"}
    structures, census, _ = read_structures(tmp_path / name, config(tmp_path / name, targets=targets))
    assert [float(s.targets["energy"]) for s in structures] == [-3.0, -3.1]
    assert structures[1].targets["forces"][2, 1] == pytest.approx(0.1)
    assert structures[0].targets["stress"].tolist() == [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
    assert census["energy"].keys == {"energy (calculator)": 2}
    assert structures[1].source == f"{name} frame 1"


def test_unreadable_formats(tmp_path):
    (tmp_path / "a.cif").write_text("nonsense")
    with pytest.raises(DataError, match="ASE could not read the file|no frames"):
        read(tmp_path / "a.cif")
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="not a file of structures that can be read safely"):
        read(tmp_path / "a.pkl")


def test_plain_xyz_with_further_columns(tmp_path):
    text = "2\nmy molecule\nH 0 0 0 0.1 0.2\nh 0 0 0.74 0.1 0.2\n"
    atoms = read_atoms(write(tmp_path / "a.xyz", text))[0]
    assert atoms.get_chemical_symbols() == ["H", "H"]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    blanks=st.lists(st.integers(0, 3), min_size=7, max_size=7),
    cut=st.integers(0, 400),
)
def test_frames_are_never_lost_in_silence(sizes, blanks, cut):
    """A text cut anywhere gives its complete frames and one error for what is left."""
    text = "\n" * blanks[0]
    ends = []
    for size, blank in zip(sizes, blanks[1:], strict=False):
        text += f"{size}\nenergy=1.0\n" + "".join(f"H {i}.0 0.0 0.0\n" for i in range(size))
        ends.append(len(text.rstrip("\n")))
        text += "\n" * blank
    cut = min(cut, len(text))
    items = list(frames_of_text(text[:cut], "a.xyz"))
    complete = sum(end <= cut for end in ends)
    good = [item for item in items if not isinstance(item, DataError)]
    assert complete <= len(good) <= complete + 1
    left = text[ends[complete - 1] if complete else 0 : cut].strip()
    assert len(items) == complete + (1 if left else 0)


def test_reading_is_fast_enough(tmp_path):
    """A thousand frames in well under two seconds; generous, for loaded machines."""
    import time

    file = tmp_path / "a.xyz"
    ase_write(file, [molecule("CH3CH2OH")] * 1000)
    read_frames(file)
    start = time.process_time()
    assert len(read_frames(file).frames) == 1000
    assert time.process_time() - start < 2.0


def test_atoms_objects_are_whole(tmp_path):
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])
    ase_write(tmp_path / "a.xyz", atoms)
    assert read_atoms(tmp_path / "a.xyz")[0].positions[1, 2] == 0.7
