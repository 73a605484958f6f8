"""The radial multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

from macekit.kernels import sweeps
from macekit.kernels.dispatch import backend_for
from macekit.kernels.splines import spline_filter
from macekit.model.radial_table import Knots

SILU_NORM = 1.6765324703310907
"""1/√E[SiLU(z)²] for standard normal z: activations of normalised input have unit second moment, as in e3nn."""


class RadialMLP(nn.Module):
    """Weights of every path and channel as a function of the radial basis; no biases, so that no input gives zero.

    Args:
        widths: Numbers of inputs, of units of every hidden layer, and of outputs.
        generator: Source of the initial weights.
    """

    def __init__(self, widths: Sequence[int], generator: Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(fan_in, fan_out, generator=generator, dtype=torch.float64))
            for fan_in, fan_out in pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [E, inputs] to [E, outputs]."""
        return self.hidden(x) @ self._scaled(self.weights[-1])

    def table(self, knots: Knots) -> Tensor:
        """Coefficients of splines through the values at G knots, [G + 2, outputs].

        The last map is linear, so what is filtered are its inputs, which are fewer.
        """
        if sweeps.is_scheduled():  # differentiated once, by the weights
            table: Tensor = _Table.apply(knots, *self.weights)  # type: ignore[no-untyped-call]
            return table
        hidden = self.hidden(knots.basis)  # [G, units]
        if knots.envelope is not None:
            hidden = hidden * knots.envelope
        return spline_filter(hidden, False) @ self._scaled(self.weights[-1])

    def hidden(self, x: Tensor) -> Tensor:
        """Map [E, inputs] to the units of the last hidden layer."""
        for weight in self.weights[:-1]:
            x = torch.nn.functional.silu(x @ self._scaled(weight)) * SILU_NORM
        return x

    @staticmethod
    def _scaled(weight: Tensor) -> Tensor:
        return weight / math.sqrt(weight.shape[0])


class _Table(torch.autograd.Function):
    """`RadialMLP.table` with its derivative written out: a few products instead of some hundred small operations."""

    @staticmethod
    def forward(ctx: Any, knots: Knots, *weights: Tensor) -> Tensor:
        scaled = _with_norms(weights)  # matrices have fewer numbers than what they are multiplied with
        x, kept = knots.basis, []
        for matrix in scaled[:-1]:
            z = x @ matrix  # [G, units]
            kept += [x, z]
            x = torch.nn.functional.silu(z)
        if knots.envelope is not None:
            x = x * knots.envelope
        filtered = backend_for(x).spline_filter(x, False)  # [G + 2, units]
        ctx.knots = knots
        ctx.save_for_backward(*scaled, *kept, filtered)
        return filtered @ scaled[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        depth = len(ctx.needs_input_grad) - 1
        scaled, kept, knots = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:], ctx.knots
        gradients = [kept[-1].T @ grad]
        if depth > 1:
            to_x = backend_for(grad).spline_filter(grad @ scaled[-1].T, True)
            if knots.envelope is not None:
                to_x *= knots.envelope
        for layer in reversed(range(depth - 1)):
            x, z = kept[2 * layer : 2 * layer + 2]
            to_z = torch.ops.aten.silu_backward(to_x, z)
            gradients.append(x.T @ to_z)
            if layer > 0:
                to_x = to_z @ scaled[layer].T
        return None, *_with_norms(gradients[::-1])


def _with_norms(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Matrices of all layers over √fan-in, times the norm of the activation that is before all but the first."""
    norms = [1.0] + [SILU_NORM] * (len(matrices) - 1)
    return [matrix * (norm / math.sqrt(matrix.shape[0])) for matrix, norm in zip(matrices, norms, strict=True)]
