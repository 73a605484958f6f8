"""Wigner 3j symbols of real spherical harmonics, in e3nn's basis, sign convention and normalisation."""

from __future__ import annotations

from functools import cache
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> Array:
    """Invariant tensor of three real irreps, as `e3nn.o3.wigner_3j`.

    Args:
        l1: First degree.
        l2: Second degree.
        l3: Third degree, |l₁ − l₂| ≤ l₃ ≤ l₁ + l₂.

    Returns:
        Float64 [2l₁+1, 2l₂+1, 2l₃+1] of Frobenius norm 1; read-only.

    Raises:
        ValueError: If the degrees violate the triangle condition.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"wigner_3j({l1}, {l2}, {l3}): expected |l1 - l2| <= l3 <= l1 + l2")
    q1, q2, q3 = _real_to_complex(l1), _real_to_complex(l2), _real_to_complex(l3)
    coupled = np.einsum("ij,kl,mn,ikn->jlm", q1, q2, q3.conj().T, _clebsch_gordan(l1, l2, l3))
    tensor = np.asarray(coupled.real / np.linalg.norm(coupled.real), dtype=np.float64)
    tensor[np.abs(tensor) < 1e-14] = 0.0
    tensor.flags.writeable = False
    return tensor


def clebsch_gordan(l1: int, l2: int, l3: int) -> Array:
    """Real coupling coefficients of component normalisation: √(2l₃+1) times the 3j symbol."""
    return sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3)


def _clebsch_gordan(l1: int, l2: int, l3: int) -> Array:
    """Clebsch-Gordan coefficients ⟨l₁m₁ l₂m₂|l₃m₃⟩ of complex harmonics by Racah's formula."""
    table = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                table[l1 + m1, l2 + m2, l3 + m1 + m2] = _racah(l1, m1, l2, m2, l3, m1 + m2)
    return table


def _racah(l1: int, m1: int, l2: int, m2: int, l3: int, m3: int) -> float:
    first = max(-l1 + l2 + m3, -l1 + m1, 0)
    last = min(l2 + l3 + m1, l3 - l1 + l2, l3 + m3)
    outer = (
        (2 * l3 + 1)
        * factorial(l3 + l1 - l2)
        * factorial(l3 - l1 + l2)
        * factorial(l1 + l2 - l3)
        * factorial(l3 + m3)
        * factorial(l3 - m3)
    )
    outer_below = (
        factorial(l1 + l2 + l3 + 1) * factorial(l1 - m1) * factorial(l1 + m1) * factorial(l2 - m2) * factorial(l2 + m2)
    )
    total = sum(
        (-1) ** (v + l2 + m2)
        * (factorial(l2 + l3 + m1 - v) * factorial(l1 - m1 + v))
        / (factorial(v) * factorial(l3 - l1 + l2 - v) * factorial(l3 + m3 - v) * factorial(v + l1 - l2 - m3))
        for v in range(first, last + 1)
    )
    return sqrt(outer / outer_below) * float(total)


def _real_to_complex(l: int) -> NDArray[np.complex128]:
    """Change of basis from real to complex harmonics, with the phase (−i)^l that makes 3j symbols real."""
    matrix = np.zeros((2 * l + 1, 2 * l + 1), dtype=np.complex128)
    for m in range(-l, 0):
        matrix[l + m, l + abs(m)] = 1 / sqrt(2)
        matrix[l + m, l - abs(m)] = -1j / sqrt(2)
    matrix[l, l] = 1
    for m in range(1, l + 1):
        matrix[l + m, l + m] = (-1) ** m / sqrt(2)
        matrix[l + m, l - m] = 1j * (-1) ** m / sqrt(2)
    return np.asarray((-1j) ** l * matrix)
