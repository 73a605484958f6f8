"""`macekit prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macekit.cli.failures import reported_failures

if TYPE_CHECKING:
    from macekit.config import TrainingRun


def prepare(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Run file, whose data.train is read; or a file of structures.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the store.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the run file, as in data.cutoff=6.0."),
    ] = None,
) -> None:
    """Make a store: for data that are larger than memory, or read many times.

    Files are read once, piece by piece. The store holds checked structures with labels in eV and Å, the label census
    and the statistics that a model needs. A preparation that was stopped goes on when it is started again. Then train
    with data.train=OUT. A file without a run file is searched for energies, forces and stress.
    """
    from macekit.cli.train import log_console

    with reported_failures():
        from macekit.config.loading import load_run
        from macekit.training.stored_data import prepare_store

        is_run_file = data.suffix.lower() in {".yaml", ".yml"}
        run = load_run(data, overrides or []) if is_run_file else _run_of_file(data, overrides or [])
        console = log_console()

        def report(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        store, warnings = prepare_store(run, out, needs_labels=is_run_file, report=report)
        for warning in warnings:
            report(f"warning: {warning}")
        console.print(store.census.table(f"store {out}"))
        statistics = store.statistics
        report(
            f"cutoff {store.data['cutoff']:g} Å, {statistics.edges / max(statistics.atoms, 1):.2f} neighbours per atom "
            f"on average; hash {store.hash}; train with data.train={out}"
        )


def _run_of_file(data: Path, overrides: list[str]) -> TrainingRun:
    """A run whose data section reads everything common from one file."""
    from macekit.config.loading import load_run

    targets = {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "stress": "stress"}
    losses = {"y_graph_scalars_loss_config": {"name": "MSELoss"}, "compute_forces": True}
    return load_run({"model": losses, "data": {"train": [str(data)], "targets": targets}}, overrides)
