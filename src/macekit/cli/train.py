"""`macekit train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macekit.cli.failures import reported_failures

if TYPE_CHECKING:
    from rich.console import Console


def train(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file: model, data, training, run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the run file, as in training.max_epochs=10."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the run directory.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print all defaults, the data, and an estimate of memory and time; write nothing.",
        ),
    ] = False,
) -> None:
    """Train a model as a run file says.

    Paths of data in the run file are relative to the folder of the run file; the run directory is relative to
    the current directory. With several processes: torchrun --nproc-per-node 2 -m macekit train RUN.yaml
    """
    with reported_failures():
        from macekit.config.loading import dump_run, load_run

        loaded = load_run(run, overrides or [])
        if dry_run:
            from macekit.training.rehearsal import rehearse

            print(dump_run(loaded), end="", flush=True)
            rehearse(loaded, log_console())
            return
    with reported_failures(Path(loaded.run.directory)):
        from macekit.training.run import train as train_run

        train_run(loaded, console=log_console(), resume=resume)


def log_console() -> Console:
    """Progress goes to stderr; tables keep their columns where that is no terminal."""
    import sys

    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160)
