"""Where metrics go besides the run directory: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from macekit.config import TrainingRun
from macekit.errors import UsageError
from macekit.training.run_directory import RunDirectory


class Tracker(Protocol):
    """Receives the metrics of epochs."""

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Take the numbers of an epoch."""
        ...

    def close(self) -> None:
        """The run has ended."""
        ...


class Trackers:
    """All trackers of a run, possibly none."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers
        self.earlier_epochs = 0
        """Epochs of the stages before the current one."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Pass on the row of an epoch: its numbers, where they are finite."""
        values = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, (int, float)) and name not in ("epoch", "is_best") and math.isfinite(value)
        }
        for tracker in self._trackers:
            tracker.log(values, self.earlier_epochs + int(row["epoch"]))


class _TensorBoard:
    """Event files in the folder `tensorboard` of the run directory."""

    def __init__(self, run: TrainingRun, directory: RunDirectory, *, resumed: bool) -> None:
        module = _required("torch.utils.tensorboard", "tensorboard")
        done = len(directory.read_metrics()) if resumed else 0
        options = {"purge_step": done + 1} if resumed else {}
        self._writer = module.SummaryWriter(log_dir=str(directory.path / "tensorboard"), **options)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """A run of Weights & Biases; a resumed run goes on there under its old identity."""

    def __init__(self, run: TrainingRun, directory: RunDirectory, *, resumed: bool) -> None:
        module = _required("wandb", "wandb")
        file = directory.path / "wandb_run"
        known = file.read_text(encoding="utf-8").strip() if resumed and file.exists() else None
        again = {"id": known, "resume": "allow"} if known else {}
        options = {"project": "macekit", "name": directory.path.name, **run.run.wandb, **again}
        try:
            self._run = module.init(dir=str(directory.path), config=run.model_dump(mode="json"), **options)
        except Exception as error:  # its exceptions are its own
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"run.trackers: Weights & Biases cannot be used: {first}",
                "log in with `wandb login`, or set WANDB_MODE=offline",
            ) from None
        file.write_text(str(self._run.id), encoding="utf-8")

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(values), step=epoch)

    def close(self) -> None:
        self._run.finish()


_KINDS: Final[dict[str, Callable[..., Tracker]]] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases}


@contextmanager
def open_trackers(run: TrainingRun, directory: RunDirectory, *, resumed: bool, is_main: bool) -> Iterator[Trackers]:
    """The trackers that `run.trackers` names; on the first process only.

    Args:
        run: The whole run.
        directory: Its directory.
        resumed: Whether it goes on from a checkpoint.
        is_main: Whether this is the first process.

    Raises:
        UsageError: If a package is missing, or its service cannot be used.
    """
    opened: list[Tracker] = []
    try:
        for name in run.run.trackers if is_main else []:
            opened.append(_KINDS[name](run, directory, resumed=resumed))
        yield Trackers(opened)
    finally:
        for tracker in opened:
            tracker.close()


def _required(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"run.trackers: {extra} needs a package that is not installed", f"pip install 'macekit[{extra}]'"
        ) from None
