"""What the backbone gives to the heads."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Features of the atoms after every layer. Atoms are in the order of their classes, not in that of the graph."""

    per_layer: list[Tensor]
    """[N, D, K] each."""
    position: Tensor
    """Where every atom of the graph is in this order, int64 [N]."""

    def in_order(self, values: Tensor) -> Tensor:
        """Values [N, ...] of atoms, in the order of the graph."""
        return values.index_select(0, self.position)
