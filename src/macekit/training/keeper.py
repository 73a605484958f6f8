"""What a run keeps: the best weights so far, `checkpoints/best` and `checkpoints/last`."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from torch import Tensor

from macekit.config import RunConfig
from macekit.errors import ResumeError
from macekit.training.checkpoints import read_checkpoint, read_plain, unpack, write_checkpoint
from macekit.training.run_directory import RunDirectory

INTERVAL: Final = 20.0
"""Seconds between checkpoints at the end of epochs; the first and the last epoch are always written."""
INTERVAL_WITHIN: Final = 300.0
"""Seconds between checkpoints within an epoch."""
FREE_TO_CHANGE: Final = ("training.max_epochs", "training.early_stopping")
"""Fields of a fingerprint that may differ."""
PROCESSES: Final = "processes.number"
"""The field that may differ where the run says so."""


class Keeper:
    """The best weights and the checkpoints of a run.

    Args:
        directory: Where checkpoints go.
        monitor: The metric that decides.
        fingerprint: What a checkpoint must agree with to be resumed: nested plain values.
        is_writer: Whether this process writes.
        free: Fields of the fingerprint that may differ.
    """

    def __init__(
        self,
        directory: RunDirectory,
        monitor: str,
        fingerprint: Mapping[str, Any],
        *,
        is_writer: bool,
        free: Collection[str] = FREE_TO_CHANGE,
    ) -> None:
        self.directory, self.monitor, self.fingerprint = directory, monitor, dict(fingerprint)
        self.is_writer, self.free = is_writer, free
        self.epoch = 0
        self.value = math.inf
        self.weights: dict[str, Tensor] = {}
        self._is_written = True
        self._started, self._written_at = time.monotonic(), -math.inf

    def offer(self, epoch: int, value: float, weights: Mapping[str, Tensor]) -> bool:
        """Keep a copy of the weights if the metric is better than all before; whether it was."""
        if not value < self.value:
            return False
        self.epoch, self.value = epoch, value
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self._is_written = False
        return True

    def forget(self) -> None:
        """Seek the best anew, because the metric means something else from now on; its weights stay until then."""
        self.value = math.inf

    def is_stale(self, epoch: int, patience: int | None) -> bool:
        """Whether the metric has not improved for `patience` epochs."""
        return patience is not None and epoch - self.epoch >= patience

    def is_due(self, *, within_epoch: bool = False) -> bool:
        """Whether this process finds it is time for a checkpoint."""
        if not self.is_writer:
            return False
        if within_epoch:
            return time.monotonic() - max(self._written_at, self._started) >= INTERVAL_WITHIN
        return time.monotonic() - self._written_at >= INTERVAL

    def write_last(self, state: Mapping[str, Any]) -> None:
        """Write `last`, and `best` with it."""
        self.write_best()
        if self.is_writer:
            best = {"epoch": self.epoch, "value": self.value, "weights": self.weights}
            write_checkpoint(self.directory.last, {**state, "best": best, "fingerprint": self.fingerprint})
            self._written_at = time.monotonic()

    def write_best(self) -> None:
        """Write `best` if it has changed."""
        if self.is_writer and not self._is_written:
            state = {
                "epoch": self.epoch,
                "value": self.value,
                "monitor": self.monitor,
                "weights": self.weights,
            }
            write_checkpoint(self.directory.best, state)
            self._is_written = True

    def check_last(self) -> None:
        """Make sure that `last` belongs to this run.

        Raises:
            ResumeError: If it is missing or damaged, or belongs to another run; names what differs.
        """
        check_fingerprint(self.directory, self.fingerprint, self.free)

    def read_last(self) -> dict[str, Any]:
        """The state to go on from, with the best so far taken over.

        Raises:
            ResumeError: If it is missing or damaged, or belongs to another run; names what differs.
        """
        self.check_last()
        state = read_checkpoint(self.directory.last)
        best = state["best"]
        self.epoch, self.value, self.weights = best["epoch"], best["value"], best["weights"]
        self._is_written = not self.weights
        return state


def free_to_change(settings: RunConfig) -> tuple[str, ...]:
    """Fields of the fingerprint that may differ when a run is resumed."""
    return (*FREE_TO_CHANGE, PROCESSES) if settings.other_processes else FREE_TO_CHANGE


def check_fingerprint(
    directory: RunDirectory, fingerprint: Mapping[str, Any], free: Collection[str] = FREE_TO_CHANGE
) -> None:
    """Make sure that the last checkpoint agrees with everything that a fingerprint names.

    Args:
        directory: The run.
        fingerprint: Nested plain values; possibly only some of its sections.
        free: Fields that may differ.

    Raises:
        ResumeError: If there is none that can be read, or it belongs to another run; names what differs.
    """
    stored = unpack(read_plain(directory.last)["fingerprint"], {})
    before = _flat({section: stored[section] for section in fingerprint if section in stored})
    now = _flat(fingerprint)
    keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key) and key not in free]
    if not keys:
        return
    differing = [f"{key}: {before.get(key, 'absent')!r} then, {now.get(key, 'absent')!r} now" for key in keys]
    hint = "resume with the settings of then, or give another run.directory"
    if keys == [PROCESSES]:
        hint = "run.other_processes=true goes on with the same batches on these processes, equal to rounding"
    raise ResumeError(f"{directory.last} belongs to another run; {'; '.join(differing)}", hint)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
