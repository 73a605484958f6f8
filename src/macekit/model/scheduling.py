"""Parts of a model as one differentiable operation each, with the four sweeps of training written out by hand.

Training needs of every part, with a' the tangent of a along v = dL/dF,

1. values;
2. reverse by the geometry alone: the adjoints λ, of which forces are made;
3. tangents of the values, out of those of the inputs;
4. reverse by the weights: the adjoints μ of the values, and for every linear map y = x W the gradient xᵀμ + x'ᵀλ,
   for the adjoints of the tangents are λ.

Autograd runs 1 and 2 as a function and its derivative, 3 as the derivative of 2, and 4 as the derivative of 1, in this
order: the function of 2 takes the output of 1. Everything between parts is left to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from macekit.kernels import sweeps
from macekit.kernels.layer_parts import Gradients, Sweeps

ONLY_ONCE = "a scheduled step has gradients by the weights once; evaluate the model again"


def scheduled_output(part: Sweeps, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """The output of a part.

    Its derivatives by the inputs have derivatives by the weights and by what comes before, none by the geometry.

    Args:
        part: New for every call.
        inputs: Features and geometry.
        weights: Everything else that has a gradient.
    """
    out: Tensor = _Values.apply(part, len(inputs), *inputs, *weights)  # type: ignore[no-untyped-call]
    return out


class _Values(torch.autograd.Function):
    """The values, and their reverse by the weights; the reverse by the geometry is `_Reverse`."""

    @staticmethod
    def forward(ctx: Any, part: Sweeps, count: int, *tensors: Tensor) -> Tensor:
        ctx.part, ctx.count = part, count
        ctx.set_materialize_grads(False)
        plain = [tensor.detach() for tensor in tensors]
        out = part.values(plain[:count], plain[count:])
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Gradients:
        wanted = ctx.needs_input_grad[2 + ctx.count :]
        if ctx.part is None:
            raise RuntimeError(ONLY_ONCE)
        if sweeps.current().geometry:
            (out,) = ctx.saved_tensors
            none: Gradients = (None,) * ctx.count
            by_inputs = none if grad is None else _Reverse.apply(ctx.part, out, grad)  # type: ignore[no-untyped-call]
            return (None, None, *by_inputs, *(None,) * len(wanted))
        part, ctx.part = ctx.part, None
        by_inputs, by_weights = part.weights(grad, wanted)
        return (None, None, *by_inputs, *by_weights)


class _Reverse(torch.autograd.Function):
    """The reverse by the geometry. The output of the part is an argument so that autograd comes to `_Values` later."""

    @staticmethod
    def forward(ctx: Any, part: Sweeps, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        ctx.part = part
        ctx.set_materialize_grads(False)
        return part.geometry(grad.detach())

    @staticmethod
    def backward(ctx: Any, *changes: Tensor | None) -> Gradients:
        if all(change is None for change in changes):
            return None, None, None
        return None, None, ctx.part.tangents(changes)
