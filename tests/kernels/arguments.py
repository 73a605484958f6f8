"""Small helpers on argument lists of operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def strided(tensor: Tensor) -> Tensor:
    """The same numbers in memory order reversed: not contiguous."""
    return tensor.permute(*reversed(range(tensor.dim()))).contiguous().permute(*reversed(range(tensor.dim())))


def requiring(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments, the real numbers among them leaves that require gradients, strides kept."""
    return tuple(
        a.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        if isinstance(a, Tensor) and a.is_floating_point()
        else a
        for a in arguments
    )
