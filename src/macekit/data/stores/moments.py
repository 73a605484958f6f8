"""Sums over structures that add up from shard to shard without losing digits.

For labels y that are fitted by numbers of atoms x, all that least squares, means and deviations need is the Gram
matrix of the rows [1, x, y]. Kept as its triangular factor R (RᵀR = AᵀA, updated by QR) it has the accuracy of the
rows themselves: nothing is squared.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from macekit.data.structure import FloatArray


class Moments:
    """The rows [1, x, y] of structures, as far as sums of squares tell.

    Args:
        elements: Atomic numbers of the columns of x, ascending.
        factor: R, float64 [S + 2, S + 2].
        count: Number of rows.
    """

    def __init__(self, elements: tuple[int, ...] = (), factor: FloatArray | None = None, count: int = 0) -> None:
        size = len(elements) + 2
        self.elements = elements
        self.factor: FloatArray = np.zeros((size, size)) if factor is None else factor
        self.count = count

    @classmethod
    def of(cls, elements: tuple[int, ...], x: FloatArray, y: FloatArray) -> Self:
        """Of rows x, float64 [G, S], and y, float64 [G]."""
        rows = np.column_stack([np.ones(len(y)), x, y])
        return cls(elements, _triangle(rows), len(y))

    def merged(self, other: Moments) -> Moments:
        """Those of both."""
        if not other.count:
            return self
        if not self.count:
            return other
        elements = tuple(sorted({*self.elements, *other.elements}))
        rows = np.concatenate([self._spread(elements), other._spread(elements)])
        return Moments(elements, _triangle(rows), self.count + other.count)

    def _spread(self, elements: tuple[int, ...]) -> FloatArray:
        """R with columns for further elements."""
        wide = np.zeros((len(self.factor), len(elements) + 2))
        wide[:, 0], wide[:, -1] = self.factor[:, 0], self.factor[:, -1]
        for column, element in enumerate(self.elements):
            wide[:, 1 + elements.index(element)] = self.factor[:, 1 + column]
        return wide

    def design(self, elements: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """A least-squares problem with the solutions of the original one: matrix [R, S] and right-hand side [R]."""
        wide = self._spread(elements)
        return wide[:, 1:-1], wide[:, -1]

    def mean_and_rms(self, elements: tuple[int, ...], coefficients: FloatArray) -> tuple[float, float]:
        """Mean and root mean square of y − x · coefficients; zeros without rows."""
        if not self.count:
            return 0.0, 0.0
        wide = self._spread(elements)
        left = wide[:, -1] - wide[:, 1:-1] @ coefficients
        return float(wide[:, 0] @ left) / self.count, float(np.sqrt(left @ left / self.count))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"elements": list(self.elements), "factor": self.factor.tolist(), "count": self.count}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(tuple(values["elements"]), np.array(values["factor"], dtype=np.float64), int(values["count"]))


def _triangle(rows: FloatArray) -> FloatArray:
    """R of the QR factorisation, square."""
    size = rows.shape[1]
    if len(rows) < size:
        rows = np.concatenate([rows, np.zeros((size - len(rows), size))])
    return np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)
