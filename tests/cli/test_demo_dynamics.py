"""The dynamics of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import read

from macekit.cli.demo_dynamics import (
    EnergyTrace,
    constant_energy_trajectory,
    plot_energy,
    start_momenta,
)


@pytest.fixture
def argon() -> Atoms:
    return Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0]])


def test_a_conservative_force_has_no_drift(argon: Atoms, tmp_path: Path) -> None:
    before = argon.positions.copy()
    steps: list[int] = []
    calculator = LennardJones(epsilon=0.0104, sigma=3.4, rc=12.0)
    trace = constant_energy_trajectory(argon, calculator, tmp_path / "md.extxyz", num_steps=100, on_step=steps.append)
    assert steps == list(range(1, 101))
    assert trace.time_ps[-1] == pytest.approx(0.05)
    assert trace.largest_deviation < 1e-2
    assert abs(trace.drift) < 1.0
    assert trace.temperature[0] > 10
    np.testing.assert_array_equal(argon.positions, before)
    frames = read(tmp_path / "md.extxyz", index=":")
    assert [frame.info["time_fs"] for frame in frames] == [0, 10, 20, 30, 40, 50]
    plot_energy(trace, tmp_path / "md.png")
    assert (tmp_path / "md.png").stat().st_size > 1000


def test_a_molecule_neither_moves_nor_turns(argon: Atoms) -> None:
    argon.set_momenta(start_momenta(argon, np.random.default_rng(0)))
    np.testing.assert_allclose(argon.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(argon.get_angular_momentum(), 0.0, atol=1e-10)
    assert argon.get_kinetic_energy() > 0.01


def test_the_seed_decides(argon: Atoms, tmp_path: Path) -> None:
    def run(seed: int) -> list[float]:
        calculator = LennardJones(epsilon=0.0104, sigma=3.4, rc=12.0)
        trace = constant_energy_trajectory(argon, calculator, tmp_path / "md.extxyz", num_steps=5, seed=seed)
        return trace.temperature.tolist()

    assert run(1) == run(1) != run(2)


def test_drift_is_the_slope() -> None:
    time = np.linspace(0.0, 2.0, 11)
    trace = EnergyTrace(time, 3.0 * time + 1.0, time)
    assert trace.drift == pytest.approx(3.0)
    assert trace.largest_deviation == pytest.approx(3.0)
