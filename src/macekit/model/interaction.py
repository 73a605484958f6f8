"""The interaction: messages from neighbours, summed into the atomic basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from macekit.kernels.ops import edge_convolution
from macekit.kernels.structure import ConvolutionStructure
from macekit.kernels.table_ops import table_convolution
from macekit.model.layer_inputs import LinearMap
from macekit.model.linear import AttributeLinear, DegreeLinear, NodeAttributes, split_degrees
from macekit.model.mlp import RadialMLP
from macekit.model.radial_table import Knots


class Edges(NamedTuple):
    """What the interactions know of the edges, in the network's precision."""

    sender: Tensor
    """int64 [E]."""
    receiver: Tensor
    """int64 [E]."""
    harmonics: Tensor
    """Spherical harmonics of the directions, [E, (max_ell+1)²]."""
    radial: Tensor
    """Radial basis under the envelope, and bond features, [E, B]; B = 0 where knots are in their place."""
    envelope: Tensor | None
    """Envelope that takes messages to zero at the cutoff where bond features would not, [E, 1]."""
    lengths: Tensor
    """Distances, float64 [E], Å."""
    knots: Knots | None = None
    """Where radial functions are evaluated, and interpolated for the edges; None: for every edge itself."""


class AverageNumber(nn.Module):
    """Division by the average number of neighbours.

    Args:
        value: That number.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        """Messages [N, D, K] over the number."""
        return messages / self.value


class NeighbourDensity(nn.Module):
    """Division by 1 + Σ_j tanh((R(r_ij) · w)²): 1 for an isolated atom, smooth at the cutoff.

    Args:
        num_inputs: Size of the radial basis.
        generator: Source of the initial weights.
    """

    def __init__(self, num_inputs: int, generator: Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_inputs, 1, generator=generator, dtype=torch.float64))

    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        """Messages [N, D, K] over one plus the density."""
        per_edge = self.per_edge(edges.radial)  # [E, 1]
        if edges.envelope is not None:
            per_edge = per_edge * edges.envelope
        density = per_edge.new_zeros(messages.shape[0], 1).index_add(0, edges.receiver, per_edge)  # [N, 1]
        return messages / (density[:, None] + 1.0)

    def per_edge(self, radial: Tensor) -> Tensor:
        """What an edge with this radial basis [E, B] adds to the density, [E, 1], without envelope."""
        return torch.tanh((radial @ (self.weight / math.sqrt(self.weight.shape[0]))).square())


class Interaction(nn.Module):
    """A[i] = (1/n̄) Σ_j linear(R(r_ij) · Y(r̂_ij) ⊗ linear_up(h_j)) (arXiv 2206.07697, eq. 8-9).

    Where there is no residual connection, the atomic basis is instead mixed by a matrix per element.

    Args:
        degrees_in: Degrees of the incoming features.
        max_ell: Highest degree of the spherical harmonics and of the atomic basis.
        channels: K.
        radial_widths: Inputs and hidden units of the radial MLP.
        num_node_features: Number of node features (elements first).
        avg_num_neighbours: n̄.
        generator: Source of the initial weights.
        edge_channels: Number of channels of the messages; None: K.
        edge_degrees: Degrees that are sent; None: all of `degrees_in`.
        rounds_couplings: Whether the 3j symbols are those of float32.
        mixes_by_element: Whether the atomic basis is mixed by element.
        by_density: Whether messages are divided by a learned density instead of n̄.
    """

    def __init__(
        self,
        degrees_in: tuple[int, ...],
        max_ell: int,
        channels: int,
        radial_widths: Sequence[int],
        num_node_features: int,
        avg_num_neighbours: float,
        generator: Generator,
        edge_channels: int | None = None,
        edge_degrees: tuple[int, ...] | None = None,
        rounds_couplings: bool = False,
        mixes_by_element: bool = True,
        by_density: bool = False,
    ) -> None:
        super().__init__()
        width = channels if edge_channels is None else edge_channels
        self.degrees_up = tuple(l for l in degrees_in if edge_degrees is None or l in edge_degrees)
        self.key = ConvolutionStructure.key(self.degrees_up, max_ell, rounds_couplings)
        self.structure = ConvolutionStructure.from_key(self.key)
        self.degrees_in = degrees_in
        self.channels, self.width = channels, width
        paths = {l: len(self.structure.paths_to(l)) for l in self.structure.degrees_out()}
        self.linear_up = DegreeLinear(dict.fromkeys(self.degrees_up, channels), width, generator)
        self.radial = RadialMLP([*radial_widths, len(self.structure.paths) * width], generator)
        self.linear = DegreeLinear({l: count * width for l, count in paths.items()}, channels, generator)
        degrees_out = self.structure.degrees_out()
        self.mix = AttributeLinear(degrees_out, num_node_features, channels, generator) if mixes_by_element else None
        self.normalisation = (
            NeighbourDensity(radial_widths[0], generator) if by_density else AverageNumber(avg_num_neighbours)
        )

    def forward(self, h: Tensor, attributes: NodeAttributes, edges: Edges) -> Tensor:
        """Map features [N, D_in, K] to the atomic basis [N, (max_ell+1)², K]."""
        up = self._up(h)  # [N, D_in, K]
        messages = self._messages(up, edges)  # [N, D_out, K]
        if isinstance(self.normalisation, AverageNumber):  # a number: the matrices are divided instead
            basis: Tensor = self.linear.whole(messages, self.normalisation.value)  # [N, (max_ell+1)², K]
        else:
            basis = self.normalisation(self.linear.whole(messages), edges)
        return basis if self.mix is None else self.mix.of_atoms(basis, attributes)

    def _up(self, h: Tensor) -> Tensor:
        if self.degrees_up == self.degrees_in:
            return self.linear_up.whole(h)
        blocks = zip(self.degrees_in, split_degrees(h, self.degrees_in), strict=True)
        mapped: Tensor = self.linear_up([block for l, block in blocks if l in self.degrees_up])
        return mapped

    def _messages(self, up: Tensor, edges: Edges) -> Tensor:
        """Sums of messages, [N, D_out, K]."""
        if edges.knots is not None:
            table = self.table(edges.knots)  # [G + 2, P, K]
            first, step = edges.knots.first, edges.knots.step
            ends = edges.sender, edges.receiver
            return table_convolution(up, edges.harmonics, edges.lengths, table, *ends, first, step, self.key)
        weights = self.radial(edges.radial)  # [E, P K]
        if edges.envelope is not None:
            weights = weights * edges.envelope
        weights = weights.unflatten(1, (len(self.structure.paths), self.width))
        return edge_convolution(up, edges.harmonics, weights, edges.sender, edges.receiver, self.key)

    def table(self, knots: Knots) -> Tensor:
        """Radial functions as coefficients of splines, [G + 2, P, K]."""
        table: Tensor = self.radial.table(knots).unflatten(1, (len(self.structure.paths), self.width))
        return table

    def maps(
        self, shape_in: tuple[int, ...], attributes: NodeAttributes
    ) -> tuple[LinearMap, LinearMap, LinearMap | None]:
        """The linear maps of an interaction that divides by a number: before the messages, after them, and by element.

        The last two are one where that is cheaper.

        Args:
            shape_in: Of the features of one atom.
            attributes: Classes of the atoms.
        """
        assert isinstance(self.normalisation, AverageNumber)
        linear = self.linear.map_of((self.structure.dim_out, self.width), self.normalisation.value)
        mix = None if self.mix is None else self.mix.map_of_atoms((linear.layout.dim_out, self.channels), attributes)
        if mix is not None and linear.is_worth_joining(mix, len(attributes.classes)):
            linear, mix = linear.followed_by(mix), None
        return self.linear_up.map_of(shape_in), linear, mix
