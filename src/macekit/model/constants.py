"""Constants of a model in float64, whatever the network's precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Constants(nn.Module):
    """Float64 constants that follow the module between devices and keep their precision when it changes.

    Args:
        values: Nested lists of numbers.
    """

    value: Tensor

    def __init__(self, values: Sequence[float] | Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._values = values
        self.register_buffer("value", torch.tensor(values, dtype=torch.float64), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constants:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.value = torch.tensor(self._values, dtype=torch.float64, device=self.value.device)
        return self
