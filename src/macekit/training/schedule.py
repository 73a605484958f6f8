"""The learning rate over a run: warm-up, torch's scheduler, stage two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from macekit.config import TrainingConfig
from macekit.training.optimizers import build_scheduler, forget_plateau


class Schedule:
    """Sets the learning rates of an optimiser.

    Args:
        config: The training section. Not changed.
        optimizer: What it acts on.
        num_steps: Gives the steps of the whole run; called only where the scheduler wants to know them.

    Raises:
        ConfigError: For an unknown scheduler or keyword.
    """

    def __init__(
        self, config: TrainingConfig, optimizer: torch.optim.Optimizer, *, num_steps: Callable[[], int]
    ) -> None:
        self.config, self.optimizer = config, optimizer
        self.steps = 0
        self.in_stage_two = False
        self.scheduler: Any = None
        if config.scheduler is not None:
            wants_steps = "num_steps" in [str(value) for value in config.scheduler.config.values()]
            steps = num_steps() if wants_steps else 0
            self.scheduler = build_scheduler(config.scheduler, optimizer, num_epochs=config.max_epochs, num_steps=steps)

    @property
    def rate(self) -> float:
        """The learning rate of the next step, that of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"]) * self._warmth

    @property
    def _warmth(self) -> float:
        """Factor of the learning rate in the next step: rises from 1/n to 1 in the first n steps."""
        warmup = self.config.warmup_steps
        return 1.0 if self.steps >= warmup else (self.steps + 1) / warmup

    @property
    def _is_active(self) -> bool:
        """Whether the scheduler decides."""
        stage_two = self.config.stage_two
        constant = self.in_stage_two and stage_two is not None and stage_two.lr is not None
        return self.scheduler is not None and not constant

    def begin_epoch(self, epoch: int) -> bool:
        """Enter stage two where this epoch, counted from 1, is its first; whether it is."""
        stage_two = self.config.stage_two
        if stage_two is None or self.in_stage_two or epoch < stage_two.start_epoch:
            return False
        self.in_stage_two = True
        if stage_two.lr is not None:
            first = float(self.optimizer.param_groups[0]["lr"])
            for group in self.optimizer.param_groups:
                group["lr"] = stage_two.lr * float(group["lr"]) / first if first else stage_two.lr
        return True

    def step(self, update: Callable[[], None]) -> None:
        """Update the weights with the learning rate of this step, and go on to the next."""
        groups, warmth = self.optimizer.param_groups, self._warmth
        rates = [group["lr"] for group in groups]
        if warmth < 1.0:
            for group in groups:
                group["lr"] = warmth * group["lr"]
        update()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self.steps += 1
        if self._is_active and self.config.scheduler is not None and self.config.scheduler.interval == "step":
            self.scheduler.step()

    def end_epoch(self, row: Mapping[str, Any], plateau_monitor: str | None) -> None:
        """Go on to the next epoch; ReduceLROnPlateau looks at its metric in the row."""
        if not self._is_active or self.config.scheduler is None:
            return
        if plateau_monitor is not None:
            self.scheduler.step(row[plateau_monitor])
        elif self.config.scheduler.interval == "epoch":
            self.scheduler.step()

    def forget_plateau(self) -> None:
        """Seek the best of the watched metric anew, because it means something else from now on."""
        forget_plateau(self.scheduler)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next learning rate depends on."""
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {"steps": self.steps, "in_stage_two": self.in_stage_two, "scheduler": scheduler}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. The rates themselves are the optimiser's state."""
        self.steps, self.in_stage_two = int(state["steps"]), bool(state["in_stage_two"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            vars(self.optimizer)["_opt_called"] = self.steps > 0  # or torch warns that no step has been made
