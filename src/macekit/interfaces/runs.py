"""Training from Python: the same run files and changes as on the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from macekit.config.loading import Overrides, load_run
from macekit.config.run import TrainingRun
from macekit.training.run import TrainingResult
from macekit.training.run import train as train_run

if TYPE_CHECKING:
    from rich.console import Console


def train(
    run: str | os.PathLike[str] | Mapping[str, Any] | TrainingRun,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model as a run file says.

    Args:
        run: Name of a YAML file, the mapping that such a file holds, or a run.
        overrides: Changes, as in `{"training.max_epochs": 10}` or `["training.max_epochs=10"]`.
        resume: Whether to go on from the last checkpoint in the run directory.
        console: Where progress is printed; None: standard output.

    Returns:
        Directory, model, facts, history and errors of the run. The saved model is in `directory / "model"`.

    Raises:
        MacekitError: One of its classes, for anything wrong with the run file, the data or the machine.

    Example:
        >>> macekit.train("run.yaml", {"training.max_epochs": 10})  # doctest: +SKIP
    """
    return train_run(load_run(run, overrides), console=console, resume=resume)
