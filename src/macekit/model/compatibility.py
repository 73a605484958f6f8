"""Heads of imported models that behave otherwise than ours: those of PhysicsML. For reading, not for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from macekit.geometry.graph import Graph
from macekit.model.constants import Constants
from macekit.model.features import Features
from macekit.model.linear import split_degrees
from macekit.model.readout import DeviationHead, LinearReadout, VectorHead, VectorReadouts, pool


class EarlyVectorReadouts(VectorReadouts):
    """Sum of linear vector read-outs of all layers before the last, [N, 3]; zero where these have no vectors.

    Args:
        degrees: Degrees of every layer's features.
        channels: K.
        generator: Source of the initial weights.
    """

    def __init__(self, degrees: Sequence[tuple[int, ...]], channels: int, generator: Generator) -> None:
        nn.Module.__init__(self)
        self.degrees = tuple(degrees)
        self.linear = nn.ModuleDict(
            {str(i): LinearReadout(channels, 1, generator) for i, d in enumerate(degrees[:-1]) if 1 in d}
        )

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Read the vectors of the features [N, D, K]."""
        total = per_layer[0].new_zeros(per_layer[0].shape[0], 3)
        for i, readout in self.linear.items():
            layer, degrees = int(i), self.degrees[int(i)]
            vectors = split_degrees(per_layer[layer], degrees)[degrees.index(1)]
            total = total + readout(vectors).squeeze(-1)
        return total


class ShiftedVectorHead(VectorHead):
    """A vector of every atom: scale · read-out, and a constant on each component, which is not equivariant.

    Args:
        readouts: Read-outs of all layers.
        scale: Factor of the target.
        shift: The constant.
    """

    def __init__(self, readouts: VectorReadouts, scale: float, shift: float) -> None:
        super().__init__(readouts, scale)
        self.shift = Constants([shift])

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Vectors of the atoms, float64 [N, 3]."""
        return super().forward(features, graph) + self.shift.value


class MeanDeviationHead(DeviationHead):
    """|Σ_i scale · read-out_i| / N: intensive, and zero where the atoms cancel."""

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Standard deviations of the structures, float64 [G, T]; 0 for a structure without atoms."""
        read = features.in_order(self.readouts(features.per_layer).double())
        total = pool(self.scale.value * read, graph.batch, graph.num_graphs)
        counts = torch.bincount(graph.batch, minlength=graph.num_graphs).clamp(min=1)
        return total.abs() / counts[:, None]
