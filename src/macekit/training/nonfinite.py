"""Which frames and labels made a loss NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from macekit.errors import NonFiniteError
from macekit.geometry.batch import Batch, GraphDataset
from macekit.training.losses import Losses
from macekit.training.steps import Stepper, TrainedLoss

_SHOWN = 5
_BAD_LABEL = "the label of"
_DIVERGED = "training diverged: lower the learning rate or training.gradient_clip; checkpoints/best is untouched"


def non_finite_error(
    stepper: Stepper, dataset: GraphDataset, indices: Sequence[int], *, epoch: int, loss: float
) -> NonFiniteError:
    """The error that stops training, with the frames of the batch that are to blame.

    Args:
        stepper: With the weights of before the failed step.
        dataset: Where the batch came from.
        indices: This process's share of the batch, as positions in the data set.
        epoch: Current epoch, from 1.
        loss: The loss that was found.
    """
    reasons = []
    for index in indices:
        reason = _reason(stepper, dataset.batch([index]).to(stepper.world.device))
        if reason:
            reasons.append(f"{dataset.structures[index].source}: {reason}")
    gathered = [line for text in stepper.world.texts("\n".join(reasons)) for line in text.splitlines()]
    size = int(stepper.world.sum(torch.tensor([len(indices)])).item())
    message = f"training stopped in epoch {epoch}: the loss is {loss:g} or its gradient is not finite; "
    if not all(bool(torch.isfinite(parameter).all()) for parameter in stepper.parameters):
        return NonFiniteError(f"{message}the weights are not finite any more", _DIVERGED)
    if len(gathered) == size > 1 and not any(_BAD_LABEL in line for line in gathered):
        return NonFiniteError(f"{message}all {size} frames of the batch are affected, as {gathered[0]}", _DIVERGED)
    if not gathered:
        frames = ", ".join(dataset.structures[index].source for index in indices[:_SHOWN])
        return NonFiniteError(f"{message}no single frame is to blame; the batch held {frames}", _DIVERGED)
    shown = "; ".join(gathered[:_SHOWN])
    more = f"; and {len(gathered) - _SHOWN} more" if len(gathered) > _SHOWN else ""
    return NonFiniteError(
        f"{message}{shown}{more}", "check the labels and positions of these frames, or leave them out"
    )


def _reason(stepper: Stepper, batch: Batch) -> str:
    """Why the only structure of a batch cannot be learned from, or an empty text."""
    infinite = [target for target, label in batch.labels.items() if bool(label.isinf().any())]
    if infinite:
        return f"{_BAD_LABEL} {', '.join(infinite)} is infinite"
    losses = stepper.losses
    loss_of = stepper.loss_of
    alone = getattr(loss_of, "module", loss_of)
    assert isinstance(alone, TrainedLoss)
    sums, predictions = alone(batch)
    wrong = [
        output
        for output in losses.outputs
        if not bool(torch.isfinite(predictions[output][_expected(output, batch)]).all())
    ]
    if wrong:
        return f"the prediction of {_targets(losses, wrong)} is not finite"
    parts = losses.per_output(sums)
    wrong = [output for output, part in zip(losses.outputs, parts.tolist(), strict=True) if not abs(part) < torch.inf]
    if wrong:
        return f"the loss of {_targets(losses, wrong)} is not finite"
    stepper.forget_gradient()
    torch.autograd.backward(losses.total(sums))
    norm = nn.utils.get_total_norm([weight.grad for weight in stepper.parameters if weight.grad is not None])
    return "" if bool(torch.isfinite(norm)) else "the gradient of its loss is not finite"


def _expected(output: str, batch: Batch) -> torch.Tensor | slice:
    """The rows of an output that must be finite: stress exists for periodic structures only."""
    return batch.graph.pbc.any(dim=1) if output == "stress" else slice(None)


def _targets(losses: Losses, outputs: list[str]) -> str:
    return ", ".join(target for output in outputs for target in losses.targets[output])
