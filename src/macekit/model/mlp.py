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
from macekit.kernels.radial_layers import RadialLayers
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
    """`RadialMLP.table` as one operation of a backend."""

    @staticmethod
    def forward(ctx: Any, knots: Knots, *weights: Tensor) -> Tensor:
        table, kept = backend_for(knots.basis).radial_table(_layers(knots, weights))
        ctx.knots = knots
        ctx.save_for_backward(*weights, *kept)
        return table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        depth = len(ctx.needs_input_grad) - 1
        weights, kept = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        return None, *backend_for(grad).radial_table_backward(grad, _layers(ctx.knots, weights), kept)


def _layers(knots: Knots, weights: Sequence[Tensor]) -> RadialLayers:
    """Matrices over √fan-in, times the norm of the activation that is before all but the first."""
    norms = [1.0] + [SILU_NORM] * (len(weights) - 1)
    factors = tuple(norm / math.sqrt(weight.shape[0]) for norm, weight in zip(norms, weights, strict=True))
    return RadialLayers(knots.basis, knots.envelope, tuple(weights), factors)
