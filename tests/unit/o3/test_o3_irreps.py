"""Irreps: reading, multiplying, and what is refused."""

from __future__ import annotations

import pytest

from macekit.errors import ConfigError
from macekit.o3 import Irrep, Irreps, parse_hidden_irreps, parse_scalar_irreps


@pytest.mark.parametrize("text", ["128x0e + 128x1o", "128x0e+128x1o", " 128 x0e+ 128x1o ", "128x1o+128x0e"])
def test_hidden_irreps(text: str) -> None:
    assert parse_hidden_irreps(text) == (128, (0, 1))


def test_reading_and_writing() -> None:
    irreps = Irreps.parse("2x0e + 1o + 3x2e")
    assert str(irreps) == "2x0e + 1x1o + 3x2e"
    assert irreps.dim == 2 + 3 + 15
    assert Irrep.parse("3o") == Irrep.natural(3)
    assert not Irrep.parse("1e").is_natural


def test_product_of_irreps() -> None:
    assert [str(irrep) for irrep in Irrep.parse("1o") * Irrep.parse("2e")] == ["1o", "2o", "3o"]


@pytest.mark.parametrize("text", ["", "128", "8x0", "8y0e", "0e + ", "8x0e, 8x1o", "-8x0e", "8x0e + 8x1u", "1.5x0e"])
def test_unreadable(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the term .*; expected terms such as 128x0e"):
        Irreps.parse(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("8x0e + 4x1o", "all multiplicities must be equal and positive"),
        ("0x0e", "all multiplicities must be equal and positive"),
        ("8x0e + 8x1e", "1e does not have the parity of spherical harmonics"),
        ("8x0o", "0o does not have the parity"),
        ("8x1o", "expected every degree once, 0e among them"),
        ("8x0e + 8x0e", "expected every degree once"),
    ],
)
def test_refused_hidden_irreps(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        parse_hidden_irreps(text)
    assert f"'{text}'" in str(caught.value)


def test_scalar_irreps() -> None:
    assert parse_scalar_irreps("16x0e") == 16
    assert parse_scalar_irreps("8x0e + 8x0e") == 16
    for text in ("16x1o", "16x0e + 1x1o", "16x0o", "0x0e"):
        with pytest.raises(ConfigError, match="expected scalars only, such as 16x0e"):
            parse_scalar_irreps(text)
