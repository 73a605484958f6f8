"""Numbers of atoms per element, and what they leave undetermined."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from macekit.data.structure import FloatArray, Structure
from macekit.errors import DataError


def symbol(atomic_number: int) -> str:
    """Chemical symbol of an atomic number."""
    from ase.data import chemical_symbols

    return str(chemical_symbols[atomic_number])


def counts_of(structures: Sequence[Structure], elements: Sequence[int]) -> FloatArray:
    """Number of atoms of each element in each structure, float64 [G, S].

    Raises:
        DataError: If a structure has an element that is not listed.
    """
    column = {int(z): index for index, z in enumerate(elements)}
    counts = np.zeros((len(structures), len(elements)))
    for row, structure in enumerate(structures):
        for z, count in zip(*np.unique(structure.atomic_numbers, return_counts=True), strict=True):
            if int(z) not in column:
                raise DataError(
                    f"{structure.source}: has {symbol(int(z))}, expected only {', '.join(symbol(e) for e in elements)}"
                )
            counts[row, column[int(z)]] = count
    return counts


def undetermined_combinations(counts: FloatArray, elements: Sequence[int]) -> tuple[str, ...]:
    """Changes of E0 that change no total energy, in words, such as "E0(H) + 1 with E0(C) − 4".

    Args:
        counts: Numbers of atoms, float64 [G, S].
        elements: Atomic numbers of the columns.
    """
    reduced, pivots = _row_echelon(np.unique(counts, axis=0))
    sentences = []
    for free in (column for column in range(counts.shape[1]) if column not in pivots):
        changes = {free: Fraction(1)}
        for row, pivot in enumerate(pivots):
            if value := Fraction(-reduced[row, free]).limit_denominator(10000):
                changes[pivot] = value
        scale = lcm(*(value.denominator for value in changes.values()))
        terms = [
            f"E0({symbol(elements[column])}) {'+' if value > 0 else '−'} {abs(value * scale)}"
            for column, value in sorted(changes.items())
        ]
        sentences.append(" with ".join(terms))
    return tuple(sentences)


def _row_echelon(matrix: FloatArray) -> tuple[FloatArray, list[int]]:
    """Reduced row-echelon form and the columns of its pivots."""
    rows: FloatArray = np.array(matrix)
    if len(rows) > rows.shape[1]:
        rows = np.asarray(np.linalg.qr(matrix, mode="r"))
    tolerance = 1e-9 * max(1.0, float(np.abs(rows).max(initial=0.0)))
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        top = len(pivots)
        if top == len(rows):
            break
        best = top + int(np.abs(rows[top:, column]).argmax())
        if abs(rows[best, column]) <= tolerance:
            continue
        rows[[top, best]] = rows[[best, top]]
        rows[top] /= rows[top, column]
        others = np.arange(len(rows)) != top
        rows[others] -= np.outer(rows[others, column], rows[top])
        pivots.append(column)
    return rows, pivots
