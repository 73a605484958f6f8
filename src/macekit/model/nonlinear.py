"""The non-linear interaction of multi-head foundation models (mace-torch's RealAgnosticResidualNonLinear block)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from macekit.kernels.ops import edge_convolution
from macekit.kernels.structure import ConvolutionStructure
from macekit.model.activation import ACTIVATIONS
from macekit.model.interaction import Edges
from macekit.model.linear import DegreeLinear, NodeAttributes, split_degrees

DENSITY_WIDTH = 64
"""Hidden units of the density's MLP."""


class NormalisedMLP(nn.Module):
    """Linear maps with biases; after each but the last a layer normalisation and SiLU.

    Args:
        widths: Numbers of inputs, of units of every hidden layer, and of outputs.
        generator: Source of the initial weights.
    """

    def __init__(self, widths: Sequence[int], generator: Generator) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(*pair, generator=generator, dtype=torch.float64) / math.sqrt(pair[0]))
            for pair in pairs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(out, dtype=torch.float64)) for _, out in pairs)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(out, dtype=torch.float64)) for _, out in pairs[:-1])
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(out, dtype=torch.float64)) for _, out in pairs[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map [E, inputs] to [E, outputs]."""
        for weight, bias, scale, shift in zip(self.weights, self.biases, self.scales, self.shifts, strict=False):
            x = torch.nn.functional.layer_norm(x @ weight + bias, scale.shape, scale, shift)
            x = torch.nn.functional.silu(x)
        last: Tensor = x @ self.weights[-1] + self.biases[-1]
        return last


class NonlinearInteraction(nn.Module):
    """A[i] = linear_2(gate(linear(Σ_j messages) / (α + β ρ_i) + residual(linear_up(h_i)))).

    Radial functions see the elements of both ends through an embedding, and ρ_i is a learned density of neighbours.
    Scalars go through SiLU, other degrees are multiplied by sigmoids of further scalars.

    Args:
        degrees_in: Degrees of the incoming features.
        max_ell: Highest degree of the spherical harmonics and of the atomic basis.
        channels: K.
        radial_widths: Inputs and hidden units of the radial MLP.
        num_node_features: Number of node features (elements first).
        generator: Source of the initial weights.
        edge_channels: Number of channels of the messages; None: K.
        edge_degrees: Degrees that are sent; None: all of `degrees_in`.
        rounds_couplings: Whether the 3j symbols are those of float32.
    """

    def __init__(
        self,
        degrees_in: tuple[int, ...],
        max_ell: int,
        channels: int,
        radial_widths: Sequence[int],
        num_node_features: int,
        generator: Generator,
        edge_channels: int | None = None,
        edge_degrees: tuple[int, ...] | None = None,
        rounds_couplings: bool = False,
    ) -> None:
        super().__init__()
        width = channels if edge_channels is None else edge_channels
        self.degrees_in, self.channels, self.width = degrees_in, channels, width
        self.degrees_up = tuple(l for l in degrees_in if edge_degrees is None or l in edge_degrees)
        self.key = ConvolutionStructure.key(self.degrees_up, max_ell, rounds_couplings)
        self.structure = ConvolutionStructure.from_key(self.key)
        self.degrees = self.structure.degrees_out()
        self.carried = tuple(l for l in self.degrees if l in self.degrees_up)
        paths = {l: len(self.structure.paths_to(l)) for l in self.degrees}
        inputs = radial_widths[0] + 2 * channels
        small = 1e-3 * torch.randn(2, num_node_features, channels, generator=generator, dtype=torch.float64)
        self.sender_embedding, self.receiver_embedding = nn.Parameter(small[0]), nn.Parameter(small[1])
        self.linear_up = DegreeLinear(dict.fromkeys(self.degrees_up, channels), width, generator)
        self.radial = NormalisedMLP([inputs, *radial_widths[1:], len(self.structure.paths) * width], generator)
        self.density = NormalisedMLP([inputs, DENSITY_WIDTH, 1], generator)
        self.alpha = nn.Parameter(torch.tensor(20.0, dtype=torch.float64))
        self.beta = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        gates = channels * (len(self.degrees) - 1)
        self.linear = DegreeLinear({l: count * width for l, count in paths.items()}, channels, generator)
        self.gates = DegreeLinear({0: paths[0] * width}, gates, generator)
        self.residual = DegreeLinear(dict.fromkeys(self.carried, width), channels, generator)
        self.residual_gates = DegreeLinear({0: width}, gates, generator)
        self.linear_2 = DegreeLinear(dict.fromkeys(self.degrees, channels), channels, generator)

    def forward(self, h: Tensor, attributes: NodeAttributes, edges: Edges) -> Tensor:
        """Map features [N, D_in, K] to the atomic basis [N, (max_ell+1)², K]."""
        incoming = zip(self.degrees_in, split_degrees(h, self.degrees_in), strict=True)
        up = self.linear_up([block for l, block in incoming if l in self.degrees_up])  # [N, D_in, K]
        seen = self._seen_by_edges(attributes, edges)  # [E, B + 2K]
        weights = self._enveloped(self.radial(seen), edges).unflatten(1, (len(self.structure.paths), self.width))
        messages = edge_convolution(up, edges.harmonics, weights, edges.sender, edges.receiver, self.key)
        blocks = [
            messages[:, self.structure.rows_out(l)].reshape(h.shape[0], 2 * l + 1, self.linear.weights[str(l)].shape[0])
            for l in self.degrees
        ]  # each [N, 2l+1, P_l K]
        per_edge = self._enveloped(torch.tanh(self.density(seen).square()), edges)  # [E, 1]
        density = per_edge.new_zeros(h.shape[0], 1).index_add(0, edges.receiver, per_edge)
        norm = (density * self.beta + self.alpha)[:, None]  # [N, 1, 1]
        sent = dict(zip(self.degrees_up, split_degrees(up, self.degrees_up), strict=True))
        gates = self.gates(blocks[:1]) / norm + self.residual_gates([sent[0]])  # [N, 1, K (max_ell)]
        carried = self.residual([sent[l] for l in self.carried])
        by_degree = dict(zip(self.carried, split_degrees(carried, self.carried), strict=True))
        summed = [
            block + by_degree[l] if l in by_degree else block
            for l, block in zip(self.degrees, split_degrees(self.linear(blocks) / norm, self.degrees), strict=True)
        ]
        return self.linear_2(self._gated(summed, gates))  # type: ignore[no-any-return]

    def _seen_by_edges(self, attributes: NodeAttributes, edges: Edges) -> Tensor:
        """Radial basis and embeddings of both ends, [E, B + 2K]."""
        sender = attributes.per_class(self.sender_embedding)[attributes.classes[edges.sender]]
        receiver = attributes.per_class(self.receiver_embedding)[attributes.classes[edges.receiver]]
        return torch.cat([edges.radial, sender, receiver], dim=1)

    @staticmethod
    def _enveloped(values: Tensor, edges: Edges) -> Tensor:
        return values if edges.envelope is None else values * edges.envelope

    def _gated(self, blocks: Sequence[Tensor], gates: Tensor) -> list[Tensor]:
        factors = ACTIVATIONS["sigmoid"](gates).split(self.channels, dim=2)
        return [
            ACTIVATIONS["silu"](blocks[0]),
            *(block * gate for block, gate in zip(blocks[1:], factors, strict=True)),
        ]
