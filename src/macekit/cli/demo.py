"""`macekit demo`: from data to dynamics in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macekit.cli.failures import reported_failures
from macekit.cli.train import log_console

if TYPE_CHECKING:
    from macekit.cli.demo_dynamics import EnergyTrace

DATA = Path(__file__).parent.parent / "demo"
"""The bundled data and run file."""


def demo(
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Where everything is written.")] = Path(
        "demo-run"
    ),
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.  [default: as in the run file]")] = None,
    md_steps: Annotated[int, typer.Option(help="Steps of molecular dynamics, 0.5 fs each.")] = 2000,
) -> None:
    """Train a model on bundled data, test it, and run molecular dynamics with it, in a few minutes.

    The data are energies, forces, dipoles and charges of ethylene glycol at 300 and 600 K (GFN2-xTB).
    An earlier demo in the same directory is replaced.
    """
    with reported_failures(directory):
        from macekit.config.loading import load_run
        from macekit.training.run import train

        changes: dict[str, object] = {"run.directory": str(directory), "run.overwrite": True}
        if epochs is not None:
            changes["training.max_epochs"] = epochs
        train(load_run(DATA / "run.yaml", changes), console=log_console())
        if md_steps > 0:
            _print_drift(_dynamics(directory, md_steps))
        _print_files(directory)


def _dynamics(directory: Path, num_steps: int) -> EnergyTrace:
    """Run the trained model from a held-out frame; leaves a trajectory and a picture in the directory."""
    from rich.console import Console
    from rich.progress import track

    from macekit.cli.demo_dynamics import TIMESTEP_FS, constant_energy_trajectory, plot_energy
    from macekit.data.files import read_atoms
    from macekit.interfaces.trained import load_model

    start = read_atoms(DATA / "test_300K.extxyz")[0]
    calculator = load_model(directory / "model").ase_calculator()
    print(f"molecular dynamics at constant energy: {num_steps * TIMESTEP_FS / 1000:g} ps", file=sys.stderr)
    console = Console(stderr=True)
    steps = iter(track(range(num_steps), description="dynamics", console=console, disable=not sys.stderr.isatty()))
    trace = constant_energy_trajectory(
        start, calculator, directory / "md.extxyz", num_steps=num_steps, on_step=lambda _: next(steps, None)
    )
    next(steps, None)
    plot_energy(trace, directory / "md_energy.png")
    return trace


def _print_drift(trace: EnergyTrace) -> None:
    print(
        f"energy drift over {trace.time_ps[-1]:g} ps: {trace.drift:+.4f} meV/atom/ps "
        f"(largest deviation from the mean {trace.largest_deviation:.3f} meV/atom)"
    )


def _print_files(directory: Path) -> None:
    """Where everything is: the files of the run directory with their sizes."""
    print(f"\neverything is in {directory}:")
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "checkpoints" not in path.parts:
            print(f"  {path.relative_to(directory)!s:<40} {path.stat().st_size / 1024:8.1f} kB")
    print(f'\nuse the model: macekit.load_model("{directory / "model"}").ase_calculator()')
