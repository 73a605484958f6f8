import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macekit.data.stores.moments import Moments


def rows(generator, elements, count):
    x = generator.integers(0, 9, (count, len(elements))).astype(float)
    return x, x @ generator.normal(size=len(elements)) * 1000 + generator.normal(size=count)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_parts_add_up_to_the_whole(seed, sizes):
    generator = np.random.default_rng(seed)
    parts, everything, labels = [], [], []
    for number, size in enumerate(sizes):
        elements = [(1, 6), (1, 8), (6, 7, 8), (1,)][number % 4]
        x, y = rows(generator, elements, size)
        parts.append(Moments.of(elements, x, y))
        wide = np.zeros((size, 4))
        wide[:, [(1, 6, 7, 8).index(z) for z in elements]] = x
        everything.append(wide)
        labels.append(y)
    merged = Moments()
    for part in parts:
        merged = merged.merged(Moments.from_dict(part.to_dict()))
    x, y = np.concatenate(everything), np.concatenate(labels)
    elements = (1, 6, 7, 8)
    coefficients = generator.normal(size=4) * 100
    left = y - x @ coefficients
    assert merged.count == len(y)
    mean, rms = merged.mean_and_rms(elements, coefficients)
    assert mean == pytest.approx(left.mean(), rel=1e-9, abs=1e-9)
    assert rms == pytest.approx(np.sqrt((left**2).mean()), rel=1e-10)
    matrix, right = merged.design(elements)
    mine = np.linalg.lstsq(matrix, right, rcond=1e-10)
    theirs = np.linalg.lstsq(x, y, rcond=1e-10)
    assert mine[2] == theirs[2]
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-8, atol=1e-7)


def test_large_totals_keep_their_digits():
    generator = np.random.default_rng(3)
    x = generator.integers(1, 9, (400, 2)).astype(float)
    y = x @ [-1.0e5, -2.0e5] + generator.normal(scale=1e-3, size=400)
    parts = [Moments.of((1, 8), x[i : i + 40], y[i : i + 40]) for i in range(0, 400, 40)]
    merged = Moments()
    for part in parts:
        merged = merged.merged(part)
    solution = np.linalg.lstsq(*merged.design((1, 8)), rcond=1e-10)[0]
    assert merged.mean_and_rms((1, 8), solution)[1] == pytest.approx(
        np.sqrt(((y - x @ solution) ** 2).mean()), rel=1e-4
    )


def test_nothing_has_no_mean():
    assert Moments().mean_and_rms((1,), np.zeros(1)) == (0.0, 0.0)
