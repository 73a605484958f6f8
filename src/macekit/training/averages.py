"""Other copies of the weights than those of the network: averages, and masters in higher precision."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from macekit.model.groups import ROWS
from macekit.model.mace import Mace


def master_of(model: Mace) -> Mace:
    """A copy in float64, whose parameters the optimiser changes."""
    master = copy.deepcopy(model).to(torch.float64)
    for parameter, own in zip(model.parameters(), master.parameters(), strict=True):
        if (rows := getattr(parameter, ROWS, None)) is not None:
            setattr(own, ROWS, rows)
    return master


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give a model the weights of another, converted to its precision."""
    for theirs, mine in zip(source.parameters(), target.parameters(), strict=True):
        mine.copy_(theirs)


class Averages:
    """The moving average of the weights, and from stage two on the equal average over ends of epochs.

    Args:
        model: Whose weights are averaged.
        network: What the averages are used as: a model of the same kind, in its own precision.
        ema: Decay of the moving average; None: no moving average.
    """

    def __init__(self, model: Mace, network: Mace, *, ema: float | None) -> None:
        self.model, self.network = model, network
        self.decay = ema
        self.ema = None if ema is None else AveragedModel(model)
        self._averaged: list[Tensor] = [] if self.ema is None else list(self.ema.module.parameters())
        self._current: list[Tensor] = list(model.parameters())
        self.swa: AveragedModel | None = None
        self._converted: Mace | None = None

    @property
    def deployed(self) -> Mace:
        """The model that validation and saving use: an average where there is one."""
        average = self.swa or self.ema
        if average is None:
            return self.network
        module = cast(Mace, average.module)
        if self.model is self.network:
            return module
        if self._converted is None:
            self._converted = copy.deepcopy(self.network)
        copy_weights(module, self._converted)
        return self._converted

    def after_step(self) -> None:
        """Let the moving average follow the weights, all in one operation.

        Its decay grows as (1 + n) / (10 + n) to its final value, so that a short run is not held back by its first
        weights. What `AveragedModel.update_parameters` does, without its grouping of tensors at every step.
        """
        if self.ema is None or self.decay is None:
            return
        number = int(self.ema.n_averaged)
        decay = min(self.decay, (1 + number) / (10 + number)) if number else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._current, 1.0 - decay)
        self.ema.n_averaged += 1

    def after_epoch(self, *, equally: bool) -> None:
        """Take the weights at the end of an epoch into the equal average, if there is to be one."""
        if not equally:
            return
        if self.swa is None:
            self.swa = AveragedModel(self.model)
        self.swa.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """Everything that the next average depends on."""
        return {
            "ema": None if self.ema is None else self.ema.state_dict(),
            "swa": None if self.swa is None else self.swa.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if state["swa"] is not None:
            self.swa = AveragedModel(self.model)
            self.swa.load_state_dict(state["swa"])
