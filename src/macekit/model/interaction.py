"""The interaction: messages from neighbours, summed into the atomic basis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Generator, Tensor, nn

from macekit.kernels.ops import edge_convolution
from macekit.kernels.structure import ConvolutionStructure
from macekit.model.linear import AttributeLinear, DegreeLinear, NodeAttributes, split_degrees
from macekit.model.mlp import RadialMLP


class Edges(NamedTuple):
    """What the interactions know of the edges, in the network's precision."""

    sender: Tensor
    """int64 [E]."""
    receiver: Tensor
    """int64 [E]."""
    harmonics: Tensor
    """Spherical harmonics of the directions, [E, (max_ell+1)²]."""
    radial: Tensor
    """Radial basis under the envelope, and bond features, [E, B]."""
    envelope: Tensor | None
    """Envelope that takes messages to zero at the cutoff where bond features would not, [E, 1]."""


class Interaction(nn.Module):
    """A[i] = (1/n̄) Σ_j linear(R(r_ij) · Y(r̂_ij) ⊗ linear_up(h_j)) (arXiv 2206.07697, eq. 8-9).

    The first layer has no residual connection; its atomic basis is instead mixed by a matrix per element.

    Args:
        degrees_in: Degrees of the incoming features.
        max_ell: Highest degree of the spherical harmonics and of the atomic basis.
        channels: K.
        radial_widths: Inputs and hidden units of the radial MLP.
        num_node_features: Number of node features (elements first).
        avg_num_neighbours: n̄.
        mixes_by_element: Whether the atomic basis is mixed by element (first layer).
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        degrees_in: tuple[int, ...],
        max_ell: int,
        channels: int,
        radial_widths: Sequence[int],
        num_node_features: int,
        avg_num_neighbours: float,
        mixes_by_element: bool,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.key = ConvolutionStructure.key(degrees_in, max_ell)
        self.structure = ConvolutionStructure.from_key(self.key)
        self.degrees_in = degrees_in
        self.channels = channels
        self.avg_num_neighbours = avg_num_neighbours
        paths = {l: len(self.structure.paths_to(l)) for l in self.structure.degrees_out()}
        self.linear_up = DegreeLinear(dict.fromkeys(degrees_in, channels), channels, generator)
        self.radial = RadialMLP([*radial_widths, len(self.structure.paths) * channels], generator)
        self.linear = DegreeLinear({l: count * channels for l, count in paths.items()}, channels, generator)
        degrees_out = self.structure.degrees_out()
        self.mix = AttributeLinear(degrees_out, num_node_features, channels, generator) if mixes_by_element else None

    def forward(self, h: Tensor, attributes: NodeAttributes, edges: Edges) -> Tensor:
        """Map features [N, D_in, K] to the atomic basis [N, (max_ell+1)², K]."""
        up = self.linear_up(split_degrees(h, self.degrees_in))  # [N, D_in, K]
        weights = self.radial(edges.radial)  # [E, P K]
        if edges.envelope is not None:
            weights = weights * edges.envelope
        weights = weights.unflatten(1, (len(self.structure.paths), self.channels))  # [E, P, K]
        messages = edge_convolution(up, edges.harmonics, weights, edges.sender, edges.receiver, self.key)
        degrees = self.structure.degrees_out()
        blocks = [
            messages[:, self.structure.rows_out(l)].reshape(h.shape[0], 2 * l + 1, self.linear.weights[str(l)].shape[0])
            for l in degrees
        ]  # each [N, 2l+1, P_l K]
        basis: Tensor = self.linear(blocks) / self.avg_num_neighbours  # [N, (max_ell+1)^2, K]
        if self.mix is not None:
            basis = self.mix(split_degrees(basis, degrees), attributes)
        return basis
