# ruff: noqa: RUF043
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macekit.data import (
    Split,
    Structure,
    check_elements,
    draw_split,
    duplicates,
    fingerprint,
    split_structures,
)
from macekit.errors import DataError


def chain(count, start=0.0, name="a"):
    return [
        Structure([1, 1], [[0, 0, 0], [0, 0, 0.7 + start + 0.01 * i]], source=f"{name} frame {i}") for i in range(count)
    ]


@settings(max_examples=50, deadline=None)
@given(size=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_split_is_complete_disjoint_and_reproducible(size, fraction, seed):
    structures = chain(size)
    expected = int(np.floor(fraction * size + 0.5))
    if expected in {0, size}:
        with pytest.raises(DataError, match="leaves none for"):
            draw_split(structures, fraction, seed)
        return
    split = draw_split(structures, fraction, seed)
    assert sorted(split.train + split.validation) == list(range(size))
    assert len(split.validation) == expected
    assert split == draw_split(structures, fraction, seed)


def test_other_seed_other_split():
    assert draw_split(chain(50), 0.2, 1).validation != draw_split(chain(50), 0.2, 2).validation


@pytest.mark.parametrize(
    ("size", "fraction", "message"),
    [
        (1, 0.1, "a fraction of 0.1 of 1 structure leaves none for validation"),
        (4, 0.1, "a fraction of 0.1 of 4 structures leaves none for validation"),
        (4, 0.9, "leaves none for training"),
        (4, 1.5, "expected a fraction above 0 and below 1, got 1.5"),
    ],
)
def test_empty_parts_are_refused(size, fraction, message):
    with pytest.raises(DataError, match=message):
        draw_split(chain(size), fraction, 0)


def test_stored_split_is_read_and_verified(tmp_path):
    structures = chain(20)
    file = tmp_path / "split.json"
    train, valid, warnings = split_structures(structures, 0.2, 5, file)
    assert (len(train), len(valid), warnings) == (16, 4, [])
    again = split_structures(structures, 0.2, 5, file)
    assert [s.source for s in again[1]] == [s.source for s in valid]
    assert json.loads(file.read_text())["seed"] == 5
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(DataError, match="has seed 5 and fraction 0.2, asked for are seed 6"):
        split_structures(structures, 0.2, 6, file)
    with pytest.raises(
        DataError, match=r"split.json: the split is of 20 structures, there are 19(.|\n)*delete .*split.json"
    ):
        Split.load(file, structures[:-1])
    with pytest.raises(DataError, match="made from other structures, or in another order"):
        Split.load(file, structures[::-1])
    file.write_text("{")
    with pytest.raises(DataError, match="not a stored split"):
        Split.load(file, structures)
    with pytest.raises(DataError, match="cannot be read"):
        Split.load(tmp_path / "none.json", structures)


def test_copies_across_training_and_validation_are_reported():
    structures = chain(10) + chain(10, name="b")
    warnings = draw_split(structures, 0.5, 3).warnings(structures)
    assert len(warnings) == 1
    assert "structures of validation are also in training" in warnings[0]


def test_duplicates_within_and_across_sets():
    found = duplicates({"train": chain(3) + chain(1), "test": chain(5, start=0.01, name="t")})
    assert found[0].startswith("train: 1 structures are copies of others: a frame 0 = a frame 0")
    assert found[1].startswith("2 structures of test are also in train")
    assert "t frame 0 = a frame 1" in found[1]
    assert duplicates({"train": chain(3), "test": chain(3, start=1.0)}) == []


def test_fingerprint_is_of_geometry_only():
    one = Structure([1], [[0.0, 0, 0]], cell=np.eye(3), targets={"energy": 1.0})
    assert fingerprint(one) == fingerprint(
        Structure([1], [[-0.0, 1e-9, 0]], cell=np.eye(3) * 9, targets={"energy": 2.0})
    )
    assert fingerprint(one) != fingerprint(Structure([2], [[0, 0, 0]]))
    assert fingerprint(one) != fingerprint(Structure([1], [[0, 0, 0]], cell=np.eye(3), pbc=[True] * 3))


def test_elements_of_other_sets_must_be_in_training():
    train = [Structure([6, 1], [[0, 0, 0], [0, 0, 1]])]
    assert check_elements(train, {"validation": train}) == [1, 6]
    odd = Structure([6, 8], [[0, 0, 0], [0, 0, 1]], source="test.xyz frame 4")
    with pytest.raises(
        DataError,
        match=r"300 K: test.xyz frame 4 has O \(atom 1\), which no training structure has; "
        r"training elements: H, C",
    ):
        check_elements(train, {"300 K": [odd]})
