"""One layer of message passing: interaction, product, residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from macekit.kernels import sweeps
from macekit.model.interaction import AverageNumber, Edges, Interaction
from macekit.model.layer_inputs import LayerInputs
from macekit.model.linear import AttributeLinear, NodeAttributes, PlainResidual, split_degrees
from macekit.model.product import ProductBasis
from macekit.model.radial_table import Knots
from macekit.model.scheduled_layer import scheduled_layer


class Layer(nn.Module):
    """h'_i = product(interaction(h)_i) + residual(h_i), the residual by element and usually absent in the first layer.

    Args:
        interaction: Messages.
        product: Symmetric contraction.
        degrees_in: Degrees of the incoming features.
        num_node_features: Number of node features of the residual's weights.
        residual: What makes the residual connection; None: there is none.
        generator: Source of the initial weights.
        has_bias: Whether a constant is added to every scalar channel; it starts at zero.
    """

    def __init__(
        self,
        interaction: nn.Module,
        product: ProductBasis,
        degrees_in: tuple[int, ...],
        num_node_features: int,
        residual: Callable[[Sequence[int], int, int, Generator], AttributeLinear | PlainResidual] | None,
        generator: Generator,
        has_bias: bool = False,
    ) -> None:
        super().__init__()
        self.interaction = interaction
        self.product = product
        self.degrees_in = degrees_in
        self.degrees_out = product.degrees_out
        self.shared = [l for l in self.degrees_out if l in self.degrees_in]
        self.residual = (
            None if residual is None else residual(self.shared, num_node_features, product.channels, generator)
        )
        self.bias = nn.Parameter(torch.zeros(product.channels, dtype=torch.float64)) if has_bias else None

    def forward(self, h: Tensor, attributes: NodeAttributes, edges: Edges) -> Tensor:
        """Map features [N, D_in, K] to [N, D_out, K]."""
        if sweeps.is_scheduled() and edges.knots is not None and not self.unscheduled():
            inputs = self.inputs(attributes, edges.sender, edges.receiver, edges.knots)
            return self._with_bias(scheduled_layer(h, edges.harmonics, edges.lengths, inputs))
        updated = self._with_bias(self.product(self.interaction(h, attributes, edges), attributes))
        if self.residual is None:
            return updated
        if self.shared == list(self.degrees_in[: len(self.shared)]):
            carried: Tensor = self.residual.of_atoms(h, attributes)
        else:
            blocks = dict(zip(self.degrees_in, split_degrees(h, self.degrees_in), strict=True))
            carried = self.residual([blocks[l] for l in self.shared], attributes)
        if carried.shape[1] < updated.shape[1]:  # a degree that the incoming features do not have
            by_degree = dict(zip(self.shared, split_degrees(carried, self.shared), strict=True))
            carried = torch.cat(
                [by_degree.get(l, h.new_zeros(h.shape[0], 2 * l + 1, h.shape[2])) for l in self.degrees_out], dim=1
            )
        return updated + carried

    def unscheduled(self) -> str:
        """Why this layer is not one operation in training; empty where it is."""
        interaction, kept = self.interaction, tuple(self.shared)
        if type(interaction) is not Interaction:
            return "an interaction of another kind"
        if not isinstance(interaction.normalisation, AverageNumber):
            return "messages are divided by a density"
        if interaction.degrees_up != interaction.degrees_in:
            return "not all degrees are sent"
        if kept != self.degrees_in[: len(kept)] or kept != self.degrees_out[: len(kept)]:
            return "degrees of the residual are not the first ones"
        return ""

    def inputs(self, attributes: NodeAttributes, sender: Tensor, receiver: Tensor, knots: Knots) -> LayerInputs:
        """What the layer is as one operation, without its bias; for layers that are not `unscheduled`."""
        interaction = self.interaction
        assert isinstance(interaction, Interaction)
        shape_in = sum(2 * l + 1 for l in self.degrees_in), interaction.channels
        residual = None if self.residual is None else self.residual.map_of_atoms(shape_in, attributes)
        up, linear, mix = interaction.maps(shape_in, attributes)
        product = self.product.linear.map_of((self.product.dim_out, self.product.channels))
        return LayerInputs(
            up, linear, mix, product, residual, interaction.table(knots), self.product.coefficients(attributes),
            sender, receiver, attributes.classes, knots.first, knots.step, interaction.key, self.product.key,
        )  # fmt: skip

    def _with_bias(self, updated: Tensor) -> Tensor:
        if self.bias is None:
            return updated
        return torch.cat([updated[:, :1] + self.bias, updated[:, 1:]], dim=1)
