"""The molecular dynamics at the end of the demo: does a trained model conserve energy?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms

TIMESTEP_FS = 0.5
NUM_STEPS = 2000
START_TEMPERATURE_K = 300.0
FRAME_EVERY = 20


@dataclass(frozen=True)
class EnergyTrace:
    """Energy along a trajectory at constant energy."""

    time_ps: NDArray[np.float64]
    """Times, ps [T]."""
    energy: NDArray[np.float64]
    """Total energy per atom minus its first value, meV/atom [T]."""
    temperature: NDArray[np.float64]
    """Instantaneous temperature, K [T]."""

    @property
    def drift(self) -> float:
        """Slope of a straight line through the energies, meV/atom/ps."""
        return float(np.polyfit(self.time_ps, self.energy, 1)[0])

    @property
    def largest_deviation(self) -> float:
        """Largest distance of the energy from its mean, meV/atom."""
        return float(np.abs(self.energy - self.energy.mean()).max())


def constant_energy_trajectory(
    atoms: Atoms,
    calculator: Any,
    trajectory: Path,
    *,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    on_step: Callable[[int], object] = lambda _: None,
) -> EnergyTrace:
    """Velocity-Verlet dynamics from seeded velocities at 300 K, 0.5 fs per step.

    Args:
        atoms: Start positions; never changed.
        calculator: ASE calculator with energy and forces.
        trajectory: extxyz file for every 20th frame.
        num_steps: Number of steps.
        seed: Of the start velocities.
        on_step: Called after every step with its number.
    """
    from ase import units
    from ase.io import write
    from ase.md.verlet import VelocityVerlet

    atoms = atoms.copy()
    atoms.calc = calculator
    atoms.set_momenta(start_momenta(atoms, np.random.default_rng(seed)))
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP_FS * units.fs)
    energies, temperatures, frames = [], [], []

    def record(step: int) -> None:
        energies.append(atoms.get_total_energy())
        temperatures.append(atoms.get_temperature())
        if step % FRAME_EVERY == 0:
            frame = atoms.copy()
            frame.info |= {"time_fs": step * TIMESTEP_FS, "macekit_energy": atoms.get_potential_energy()}
            frames.append(frame)

    record(0)
    for step in range(1, num_steps + 1):
        dynamics.run(1)
        record(step)
        on_step(step)
    write(trajectory, frames, format="extxyz")
    relative = 1000.0 * (np.array(energies) - energies[0]) / len(atoms)
    times = np.arange(num_steps + 1, dtype=np.float64) * TIMESTEP_FS / 1000.0
    return EnergyTrace(times, relative, np.array(temperatures))


def start_momenta(atoms: Atoms, random: np.random.Generator) -> NDArray[np.float64]:
    """Thermal momenta at 300 K without translation, and without rotation for a molecule.

    Returns:
        float64 [N, 3], amu·Å in ASE's unit of time.
    """
    from ase import units

    masses = atoms.get_masses()[:, None]
    momenta = random.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * START_TEMPERATURE_K)
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        inertia = (masses * arms**2).sum() * np.eye(3) - (masses * arms).T @ arms
        rotation = np.linalg.pinv(inertia) @ np.cross(arms, momenta).sum(axis=0)
        momenta -= masses * np.cross(rotation, arms)
    return np.asarray(momenta, dtype=np.float64)


def plot_energy(trace: EnergyTrace, file: Path) -> None:
    """Energy and temperature over time as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    energy, temperature = figure.subplots(2, 1, sharex=True)
    energy.plot(trace.time_ps, trace.energy, linewidth=0.8)
    energy.set_ylabel("total energy − start\n(meV/atom)")
    energy.set_title(f"constant energy, {TIMESTEP_FS} fs per step: drift {trace.drift:+.3f} meV/atom/ps")
    temperature.plot(trace.time_ps, trace.temperature, linewidth=0.8, color="tab:red")
    temperature.set_ylabel("temperature (K)")
    temperature.set_xlabel("time (ps)")
    figure.savefig(file, dpi=150)
