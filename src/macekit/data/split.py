"""Training and validation sets from one: drawn once with a seed, stored, and verified when read again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from macekit.data.identity import duplicates, fingerprint_of_all
from macekit.data.structure import Structure
from macekit.errors import DataError

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Split:
    """Which structures are for training and which for validation."""

    train: tuple[int, ...]
    """Positions in the sequence that was split, ascending."""
    validation: tuple[int, ...]
    """Positions in the sequence that was split, ascending."""
    seed: int
    fraction: float
    fingerprint: str
    """Hash of the structures that were split."""

    def parts(self, structures: Sequence[Structure]) -> tuple[list[Structure], list[Structure]]:
        """The training and the validation structures."""
        return [structures[i] for i in self.train], [structures[i] for i in self.validation]

    def warnings(self, structures: Sequence[Structure]) -> list[str]:
        """Copies of training structures among those for validation."""
        train, validation = self.parts(structures)
        return [text for text in duplicates({"training": train, "validation": validation}) if " also in " in text]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, all or nothing."""
        target = Path(path)
        partial = target.with_name(target.name + ".partial")
        partial.write_text(json.dumps({"schema": SCHEMA, **self.to_dict()}) + "\n", encoding="utf-8")
        partial.replace(target)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "seed": self.seed,
            "fraction": self.fraction,
            "fingerprint": self.fingerprint,
            "train": list(self.train),
            "validation": list(self.validation),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], structures: Sequence[Structure]) -> Self:
        """Read a stored split and verify that it belongs to these structures.

        Raises:
            DataError: If the file cannot be read, or was made from other structures.
        """
        remedy = f"delete {os.fspath(path)} to draw a new split, or give the data it was made from"
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            split = cls(
                train=tuple(int(i) for i in values["train"]),
                validation=tuple(int(i) for i in values["validation"]),
                seed=int(values["seed"]),
                fraction=float(values["fraction"]),
                fingerprint=str(values["fingerprint"]),
            )
        except OSError as error:
            raise DataError(f"{os.fspath(path)}: the split cannot be read ({error.strerror})", remedy) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{os.fspath(path)}: not a stored split ({type(error).__name__}: {error})", remedy
            ) from None
        if sorted((*split.train, *split.validation)) != list(range(len(structures))):
            raise DataError(
                f"{os.fspath(path)}: the split is of {len(split.train) + len(split.validation)} structures, "
                f"there are {len(structures)}",
                remedy,
            )
        if split.fingerprint != fingerprint_of_all(structures):
            raise DataError(f"{os.fspath(path)}: the split was made from other structures, or in another order", remedy)
        return split


def draw_split(structures: Sequence[Structure], fraction: float, seed: int) -> Split:
    """Draw a fraction of the structures for validation.

    Args:
        structures: What to split.
        fraction: Part for validation, above 0 and below 1; rounded to the nearest whole number of structures.
        seed: Same seed, same structures: same split.

    Raises:
        DataError: If either part would be empty.
    """
    size = len(structures)
    if not 0.0 < fraction < 1.0:
        raise DataError(f"validation: expected a fraction above 0 and below 1, got {fraction}")
    count = int(np.floor(fraction * size + 0.5))
    if count in {0, size}:
        part = "validation" if count == 0 else "training"
        raise DataError(
            f"validation: a fraction of {fraction:g} of {size} structure{'s' if size != 1 else ''} leaves "
            f"none for {part}",
            "give more structures, another fraction, or validation files",
        )
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(size)
    return Split(
        train=tuple(sorted(int(i) for i in order[count:])),
        validation=tuple(sorted(int(i) for i in order[:count])),
        seed=seed,
        fraction=float(fraction),
        fingerprint=fingerprint_of_all(structures),
    )


def split_structures(
    structures: Sequence[Structure], fraction: float, seed: int, file: str | os.PathLike[str] | None = None
) -> tuple[list[Structure], list[Structure], list[str]]:
    """Training and validation structures, by the stored split where there is one.

    Args:
        structures: What to split.
        fraction: Part for validation.
        seed: Seed of the draw.
        file: Where the split is stored; read and verified if it exists, otherwise drawn and written.

    Returns:
        Training structures, validation structures, and warnings about copies in both.

    Raises:
        DataError: If a part would be empty, or the stored split is of other structures, fraction or seed.
    """
    if file is not None and Path(file).exists():
        split = Split.load(file, structures)
        if (split.seed, split.fraction) != (seed, fraction):
            raise DataError(
                f"{os.fspath(file)}: the stored split has seed {split.seed} and fraction {split.fraction:g}, "
                f"asked for are seed {seed} and fraction {fraction:g}",
                f"delete {os.fspath(file)} to draw a new split",
            )
    else:
        split = draw_split(structures, fraction, seed)
        if file is not None:
            split.save(file)
    return *split.parts(structures), split.warnings(structures)
