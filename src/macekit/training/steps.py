"""One step of training: predictions, loss, gradient, update."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from macekit.geometry.batch import Batch
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.distributed import World
from macekit.training.losses import Losses, LossSums


class StepResult(NamedTuple):
    """What one step leaves behind for the sums of an epoch."""

    sums: LossSums
    """Sums of the loss over this process's share of the batch, without gradient."""
    predictions: dict[str, Tensor]
    """Predictions by documented key, without gradient."""
    loss: float
    """Loss of the whole batch, over all processes."""
    gradient_norm: float
    """Norm of the gradient over all processes, before clipping."""
    notices: tuple[float, ...] = ()
    """Sums over all processes of what each gave notice of."""

    @property
    def is_finite(self) -> bool:
        """Whether neither loss nor gradient became NaN or infinite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class TrainedLoss(nn.Module):
    """A model with its losses: from a batch to the sums of its loss. What DistributedDataParallel wraps.

    Forces and stress are derived only where a loss needs them.
    """

    def __init__(self, model: Mace, losses: Losses) -> None:
        super().__init__()
        self.model = model
        self.losses = losses
        self.needs_forces = model.config.compute_forces and "y_node_vector" in losses.outputs
        self.needs_stress = "stress" in losses.outputs

    def forward(self, batch: Batch) -> tuple[LossSums, dict[str, Tensor]]:
        """Sums of the loss with a graph behind them, and predictions without."""
        predictions = evaluate(
            self.model, batch.graph, training=True, forces=self.needs_forces, stress=self.needs_stress
        )
        detached = {key: value.detach() for key, value in predictions.items()}
        return self.losses(predictions, batch), detached


class Stepper:
    """Everything that changes the weights.

    Args:
        model: The model to train, on its device.
        losses: Its losses.
        optimizer: Over the model's trainable parameters.
        world: The processes that share every batch.
        ema: Decay of the moving average of the weights; None: no average.
        gradient_clip: Largest norm of the gradient; None: not clipped.
    """

    def __init__(
        self,
        model: Mace,
        losses: Losses,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        ema: float | None,
        gradient_clip: float | None,
    ) -> None:
        self.model, self.optimizer, self.world, self.gradient_clip = model, optimizer, world, gradient_clip
        self.losses = losses.to(world.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.average: AveragedModel | None = None
        if ema is not None:
            self.average = AveragedModel(model, multi_avg_fn=_warming_average(ema))
        self.loss_of: nn.Module = TrainedLoss(model, self.losses)

    def distribute(self, batch: Batch) -> None:
        """Let the processes share gradients from now on; `batch` shows which parameters the losses reach."""
        if self.world.size == 1:
            return
        sums, _ = self.loss_of(batch)
        torch.autograd.backward(self.losses.total(sums))
        unused = sum(parameter.grad is None for parameter in self.parameters)
        self.optimizer.zero_grad(set_to_none=True)
        anywhere = bool(self.world.sum(torch.tensor([float(unused)])).item())
        known = inspect.signature(DistributedDataParallel).parameters
        constant_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {constant_buffers: False, "find_unused_parameters": anywhere}
        self.loss_of = DistributedDataParallel(self.loss_of, **options)
        sums, _ = self.loss_of(batch)  # after the first pass gradients are grouped anew: from here on all are alike
        torch.autograd.backward(self.losses.total(sums))
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def deployed(self) -> Mace:
        """The model that validation and saving use: the moving average where there is one."""
        if self.average is None:
            return self.model
        return cast(Mace, self.average.module)

    def gradient(self, batch: Batch, notices: Sequence[float] = ()) -> StepResult:
        """Leave the gradient of the loss of the whole batch, over all processes, in the parameters.

        Args:
            batch: This process's share.
            notices: Numbers to be added up over all processes on the way, such as 1 for a request to stop.
        """
        sums, predictions = self.loss_of(batch)
        counts = self.world.sum(sums.counts)
        loss = self.losses.total(LossSums(sums.numerators, counts))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss * self.world.size)  # DistributedDataParallel averages over processes
        if self.gradient_clip is None:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        else:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        everywhere = self.world.sum(torch.cat([loss.detach()[None], loss.new_tensor(notices)]))
        norm_value, loss_value, *noticed = torch.cat([norm.to(torch.float64)[None], everywhere]).tolist()
        detached = LossSums(sums.numerators.detach(), sums.counts)
        return StepResult(detached, predictions, loss_value, norm_value, tuple(noticed))

    def update(self) -> None:
        """Apply the gradient to the weights and their moving average."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        average = None if self.average is None else self.average.state_dict()
        return {"model": self.model.state_dict(), "ema": average, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])


def _warming_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay grows as (1 + n) / (10 + n) to its final value.

    So a short run is not held back by its first weights.
    """

    def average(averaged: Any, current: Any, count: Any) -> None:
        number = int(count)
        update: Any = get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))
        update(averaged, current, count)

    return average
