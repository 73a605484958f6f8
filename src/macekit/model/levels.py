"""Several levels of theory (heads) in one model: read-outs of each, of which every structure is given its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from macekit.geometry.graph import Graph
from macekit.model.features import Features


class PerLevel(nn.Module):
    """One output's head for every level of theory.

    All are evaluated, and the values of the structure's level are kept: a read-out costs little beside the backbone,
    and every parameter takes part in every step.

    Args:
        levels: Heads of the same kind, in the order of the model's heads.
        of_structures: Whether their values belong to structures and not to atoms.
    """

    def __init__(self, levels: Sequence[nn.Module], *, of_structures: bool = False) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.of_structures = of_structures

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Values of the atoms [N, ...] or structures [G, ...]."""
        values = torch.stack([level(features, graph) for level in self.levels], dim=1)  # [n, H, ...]
        head = graph.head if self.of_structures else graph.head.index_select(0, graph.batch)  # [n]
        return values[torch.arange(len(values), device=head.device), head]
