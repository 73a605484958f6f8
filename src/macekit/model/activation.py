"""Activations of scalars, each with unit second moment for standard normal input, as in e3nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from macekit.model.mlp import SILU_NORM


class Activation(NamedTuple):
    """A function and its normalisation."""

    function: Callable[[Tensor], Tensor]
    """The bare function."""
    norm: float
    """1/√E[f(z)²] for standard normal z."""

    def __call__(self, x: Tensor) -> Tensor:
        """The function times its normalisation."""
        return self.function(x) * self.norm if self.norm != 1.0 else self.function(x)


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS = {
    "silu": Activation(torch.nn.functional.silu, SILU_NORM),
    "tanh": Activation(torch.tanh, 1.5925374197228313),
    "sigmoid": Activation(torch.sigmoid, 1.8462285453386051),
    "abs": Activation(torch.abs, 1.0),
    "none": Activation(_identity, 1.0),
}
"""By the name that configurations use."""
