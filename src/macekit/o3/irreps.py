"""Irreducible representations of O(3) and lists of them with multiplicities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from macekit.errors import ConfigError

_TERM = re.compile(r"^(?:(\d+)\s*x\s*)?(\d+)([eo])$")


@dataclass(frozen=True, order=True, slots=True)
class Irrep:
    """One irreducible representation: degree l and parity under inversion (+1 even, −1 odd)."""

    l: int
    parity: int

    @property
    def dim(self) -> int:
        """Number of components, 2l + 1."""
        return 2 * self.l + 1

    @property
    def is_natural(self) -> bool:
        """Whether the parity is (−1)^l, as of spherical harmonics."""
        return self.parity == (-1 if self.l % 2 else 1)

    @staticmethod
    def natural(l: int) -> Irrep:
        """The irrep of degree l with the parity of spherical harmonics."""
        return Irrep(l, -1 if l % 2 else 1)

    @staticmethod
    def parse(text: str) -> Irrep:
        """Read `0e`, `1o`, ..."""
        ((_, irrep),) = Irreps.parse(text)
        return irrep

    def __mul__(self, other: Irrep) -> Iterator[Irrep]:
        """Irreps in the product of two: |l₁ − l₂| ... l₁ + l₂ with the product of the parities."""
        for l in range(abs(self.l - other.l), self.l + other.l + 1):
            yield Irrep(l, self.parity * other.parity)

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.parity == 1 else 'o'}"


class Irreps(tuple[tuple[int, Irrep], ...]):
    """An ordered list of (multiplicity, irrep)."""

    __slots__ = ()

    @staticmethod
    def parse(text: str) -> Irreps:
        """Read a string such as `128x0e + 128x1o`.

        Raises:
            ConfigError: If a term cannot be read.
        """
        terms = []
        for term in text.split("+"):
            match = _TERM.match(term.strip())
            if match is None:
                raise ConfigError(
                    f"irreps '{text}': cannot read the term '{term.strip()}'; expected terms such as 128x0e or 1o"
                )
            multiplicity, l, parity = match.groups()
            irrep = Irrep(int(l), 1 if parity == "e" else -1)
            terms.append((int(multiplicity) if multiplicity else 1, irrep))
        return Irreps(terms)

    @property
    def dim(self) -> int:
        """Total number of components, multiplicities included."""
        return sum(multiplicity * irrep.dim for multiplicity, irrep in self)

    def __str__(self) -> str:
        return " + ".join(f"{multiplicity}x{irrep}" for multiplicity, irrep in self)


def parse_hidden_irreps(text: str) -> tuple[int, tuple[int, ...]]:
    """Channels and degrees of hidden features, such as (128, (0, 1)) of `128x0e + 128x1o`.

    Raises:
        ConfigError: If multiplicities differ, a parity is not natural, a degree repeats, or 0e is missing.
    """
    irreps = Irreps.parse(text)
    multiplicities = {multiplicity for multiplicity, _ in irreps}
    degrees = [irrep.l for _, irrep in irreps]
    if len(multiplicities) != 1 or 0 in multiplicities:
        raise ConfigError(
            f"hidden_irreps '{text}': all multiplicities must be equal and positive, such as 64x0e + 64x1o"
        )
    if unnatural := [str(irrep) for _, irrep in irreps if not irrep.is_natural]:
        raise ConfigError(
            f"hidden_irreps '{text}': {', '.join(unnatural)} does not have the parity of spherical harmonics; "
            "expected 0e, 1o, 2e, 3o, ..."
        )
    if len(set(degrees)) != len(degrees) or 0 not in degrees:
        raise ConfigError(f"hidden_irreps '{text}': expected every degree once, 0e among them")
    return multiplicities.pop(), tuple(sorted(degrees))


def parse_scalar_irreps(text: str) -> int:
    """Number of channels of purely scalar irreps, such as 16 of `16x0e`.

    Raises:
        ConfigError: If anything but 0e is asked for.
    """
    irreps = Irreps.parse(text)
    if any(irrep != Irrep(0, 1) for _, irrep in irreps) or irreps.dim == 0:
        raise ConfigError(f"mlp_irreps '{text}': expected scalars only, such as 16x0e")
    return irreps.dim
