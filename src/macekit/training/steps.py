"""One step of training: predictions, loss, gradient, update."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from macekit.geometry.batch import Batch
from macekit.kernels.sweeps import scheduled, sweep
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.averages import Averages, copy_weights
from macekit.training.distributed import World
from macekit.training.losses import Losses, LossSums
from macekit.training.trainable import mask_gradients

_LARGEST_MAPPED: Final = (32 << 20) - 65536
"""Bytes; glibc maps every block larger than 32 MiB by itself, always."""


class StepResult(NamedTuple):
    """What one step leaves behind for the sums of an epoch."""

    sums: LossSums
    """Sums of the loss over this process's share of the batch, without gradient."""
    predictions: list[dict[str, Tensor]]
    """Predictions of every part by documented key, without gradient."""
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
        with scheduled():  # derivatives are by the weights alone
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
        optimizer: Over the trainable parameters of the model, or of its master.
        world: The processes that share every batch.
        ema: Decay of the moving average of the weights; None: no average.
        gradient_clip: Largest norm of the gradient; None: not clipped.
        master: The model in higher precision, whose weights the optimiser changes; None: the model itself.
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
        master: Mace | None = None,
    ) -> None:
        self.model, self.optimizer, self.world, self.gradient_clip = model, optimizer, world, gradient_clip
        self.losses = losses.to(world.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.master = model if master is None else master
        self.averages = Averages(self.master, model, ema=ema)
        self.loss_of: nn.Module = TrainedLoss(model, self.losses)
        _let_malloc_keep_memory()

    def distribute(self, batch: Batch) -> None:
        """Let the processes share gradients from now on; `batch` shows which parameters the losses reach."""
        if self.world.size == 1:
            return
        self._try_backward(batch)
        unused = sum(parameter.grad is None for parameter in self.parameters)
        self.forget_gradient()
        anywhere = bool(self.world.sum(torch.tensor([float(unused)])).item())
        known = inspect.signature(DistributedDataParallel).parameters
        constant_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {constant_buffers: False, "find_unused_parameters": anywhere}
        self.loss_of = DistributedDataParallel(self.loss_of, **options)
        self._try_backward(batch)  # after the first pass gradients are grouped anew: from here on all are alike
        self.forget_gradient()

    def _try_backward(self, batch: Batch) -> None:
        sums, _ = self.loss_of(batch)
        with sweep(geometry=False, weights=True):
            torch.autograd.backward(self.losses.total(sums))

    @property
    def deployed(self) -> Mace:
        """The model that validation and saving use: an average of the weights where there is one."""
        return self.averages.deployed

    def gradient(self, batches: Batch | Sequence[Batch], notices: Sequence[float] = ()) -> StepResult:
        """Leave the gradient of the loss of the whole batch, over all processes, in the parameters.

        Args:
            batches: This process's share, in one or several parts; the parts are gone through one by one, and the
                gradient does not depend on them.
            notices: Numbers to be added up over all processes on the way, such as 1 for a request to stop.
        """
        parts = [batches] if isinstance(batches, Batch) else list(batches)
        self.forget_gradient()
        counts = self.world.sum(self._counts(parts)) if len(parts) > 1 or self.world.size > 1 else None
        inputs = self.parameters if self.world.size == 1 else None
        sums, losses, predictions = self.losses.empty(), [], []
        for number, batch in enumerate(parts, 1):
            with self._exchange(number == len(parts)):
                found, predicted = self.loss_of(batch)
                loss = self.losses.total(LossSums(found.numerators, found.counts if counts is None else counts))
                with sweep(geometry=False, weights=True):  # positions have their gradient already
                    # DistributedDataParallel averages
                    torch.autograd.backward(loss if self.world.size == 1 else loss * self.world.size, inputs=inputs)
            sums = sums.plus(LossSums(found.numerators.detach(), found.counts))
            losses.append(loss.detach())
            predictions.append(predicted)
        mask_gradients(self.parameters)
        norm = _norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        own = torch.stack(losses).sum()
        everywhere = self.world.sum(torch.cat([own[None], own.new_tensor(notices)]))
        norm_value, loss_value, *noticed = torch.cat([norm.to(torch.float64)[None], everywhere]).tolist()
        if self.gradient_clip is not None and norm_value > self.gradient_clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.gradient_clip, norm)
        return StepResult(sums, predictions, loss_value, norm_value, tuple(noticed))

    def _counts(self, parts: Sequence[Batch]) -> Tensor:
        """Numbers of present labels per term over the parts; they need no predictions."""
        return torch.stack([self.losses.counts(batch) for batch in parts]).sum(0)

    def _exchange(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients are shared with the other processes in the last part only."""
        if is_last or not isinstance(self.loss_of, DistributedDataParallel):
            return nullcontext()
        return self.loss_of.no_sync()

    def forget_gradient(self) -> None:
        """Take the gradient away."""
        for parameter in self.parameters:
            parameter.grad = None

    def update(self) -> None:
        """Apply the gradient to the weights and their averages."""
        if self.master is not self.model:
            for mine, master in zip(self.model.parameters(), self.master.parameters(), strict=True):
                master.grad = None if mine.grad is None else mine.grad.to(master.dtype)
        self.optimizer.step()
        if self.master is not self.model:
            copy_weights(self.master, self.model)
        self.averages.after_step()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.master.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.averages.state(),
            "radial_knots": self.model.backbone.num_knots,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.master.load_state_dict(state["model"])
        if self.master is not self.model:
            copy_weights(self.master, self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.averages.restore(state)
        self.model.backbone.num_knots = self.deployed.backbone.num_knots = state.get("radial_knots", 0)


def _norm(gradients: list[Tensor]) -> Tensor:
    """Of all of them together: `nn.utils.get_total_norm` without its grouping of tensors at every step."""
    if not gradients:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return total


def _let_malloc_keep_memory() -> None:
    """Let the next step have the memory of this one, instead of giving it to the system and asking for it again.

    glibc begins with giving back whatever is free beyond 128 KiB, and learns: once a block that it had mapped by itself
    was freed, it expects more of that size, and keeps twice as much. Here is such a block; its memory is never touched.
    Page faults took 2-20 of 150 ms of a step.
    """
    torch.empty(_LARGEST_MAPPED, dtype=torch.uint8)
