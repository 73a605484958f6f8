"""How far a training has come: the sums of an epoch so far, as each process has them, and the result at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from macekit.training.distributed import World
from macekit.training.losses import LossSums


@dataclass(frozen=True)
class FitResult:
    """What a run of training came to."""

    num_epochs: int
    """Epochs done in all, those before a resumed checkpoint included."""
    best_epoch: int
    """Epoch of the best monitored metric, from 1."""
    best_value: float
    """The best monitored metric."""
    monitor: str
    """Which metric was monitored."""
    stopped_early: bool
    """Whether early stopping ended training."""
    history: list[dict[str, Any]]
    """One row of metrics per epoch."""


class EpochProgress:
    """Sums of losses and errors over the steps of an epoch, on this process.

    Args:
        sums: Sums of the loss, at first those over nothing.
        num_metrics: M, number of error metrics.
        learning_rate: At the start of the epoch.
        device: Where the sums are.
    """

    def __init__(self, sums: LossSums, num_metrics: int, learning_rate: float, device: torch.device) -> None:
        self.sums = sums
        self.errors = torch.zeros(num_metrics, 3, dtype=torch.float64, device=device)
        self.learning_rate = learning_rate
        self._earlier = 0.0
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time spent on the epoch, that before a resumed checkpoint included."""
        return self._earlier + time.perf_counter() - self._start

    def add(self, sums: LossSums, errors: Tensor) -> None:
        """Add a step: its sums of the loss, and of the errors as float64 [M, 3]."""
        self.sums = self.sums.plus(sums)
        self.errors += errors

    def total(self, world: World) -> tuple[LossSums, Tensor]:
        """The sums over all processes."""
        return LossSums(world.sum(self.sums.numerators), world.sum(self.sums.counts)), world.sum(self.errors)

    def state(self, world: World) -> dict[str, Any]:
        """For a checkpoint: the sums of every process, [processes, ...] each. All processes call this."""
        return {
            "numerators": world.gathered(self.sums.numerators),
            "counts": world.gathered(self.sums.counts),
            "errors": world.gathered(self.errors),
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
        }

    def restored(self, state: dict[str, Any], world: World) -> Self:
        """Go on from the sums of a checkpoint; those of another number of processes go to the first."""
        numerators, counts, errors = (_own(state[name], world) for name in ("numerators", "counts", "errors"))
        self.sums, self.errors = LossSums(numerators, counts), errors
        self.learning_rate = float(state["learning_rate"])
        self._earlier = float(state["seconds"])
        return self


def _own(sums: Tensor, world: World) -> Tensor:
    """This process's share of sums [processes, ...]."""
    if len(sums) != world.size:
        return (sums.sum(0) if world.is_main else torch.zeros_like(sums[0])).to(world.device)
    return sums[world.rank].to(world.device)
