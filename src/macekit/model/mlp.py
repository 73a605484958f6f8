"""The radial multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

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
        hidden = self.hidden(knots.basis)  # [G, units]
        if knots.envelope is not None:
            hidden = hidden * knots.envelope
        return (knots.prefilter @ hidden) @ self._scaled(self.weights[-1])

    def hidden(self, x: Tensor) -> Tensor:
        """Map [E, inputs] to the units of the last hidden layer."""
        for weight in self.weights[:-1]:
            x = torch.nn.functional.silu(x @ self._scaled(weight)) * SILU_NORM
        return x

    @staticmethod
    def _scaled(weight: Tensor) -> Tensor:
        return weight / math.sqrt(weight.shape[0])
