"""The backbone: from a graph to the features of every layer. All four models have this one."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import DataError
from macekit.geometry.graph import Graph
from macekit.geometry.vectors import edge_vectors
from macekit.model.basis import polynomial_envelope
from macekit.model.edge_geometry import measured
from macekit.model.features import Features
from macekit.model.interaction import Edges, Interaction, NeighbourDensity
from macekit.model.kinds import KINDS, make_interaction
from macekit.model.layer import Layer
from macekit.model.linear import AttributeLinear, DegreeLinear, NodeAttributes, node_attributes
from macekit.model.mlp import RadialMLP
from macekit.model.product import ProductBasis
from macekit.model.radial import DistanceTransform, RadialBasis
from macekit.model.radial_table import Knots
from macekit.model.readout import ScalarReadouts
from macekit.model.scheduled_energy import Differentiated, EnergyParts, scheduled_energy
from macekit.model.scheduled_layer import layer_part
from macekit.model.scheduled_readouts import readout_part
from macekit.model.tuners import NoTuner, make_tuner
from macekit.o3 import parse_hidden_irreps

SHORTEST_EDGE = 1e-8
"""Å; edges shorter than this are treated as this long, so that nothing divides by zero."""


class Backbone(nn.Module):
    """Node embedding, then layers of interaction, product and tuner.

    Args:
        config: Choices.
        facts: Facts; counts and the cutoff are taken from here.
        avg_num_neighbours: By which messages are divided.
        has_vector_output: Whether the last layer keeps vector features.
        generator: Source of the initial weights.
        tuner_generator: Source of the initial weights of tuners: the base model is the same with and without.
    """

    num_knots: int = 0
    """Knots of the table of radial functions, a matter of run time; 0: they are evaluated for every edge."""

    def __init__(
        self,
        config: ModelConfig,
        facts: DatasetFacts,
        avg_num_neighbours: float,
        has_vector_output: bool,
        generator: Generator,
        tuner_generator: Generator,
    ) -> None:
        super().__init__()
        self.channels, hidden = parse_hidden_irreps(config.hidden_irreps)
        self.cutoff, self.max_ell = facts.cutoff, config.max_ell
        self.power, self.basis = config.num_polynomial_cutoff, RadialBasis(config, facts)
        has_bonds = facts.num_edge_features > 0 and config.compatibility == "none"
        self.envelopes_messages = has_bonds or config.envelope == "messages"
        self.envelopes_basis = config.envelope == "basis"
        self.num_elements, self.num_edge_features = len(facts.elements), facts.num_edge_features
        num_node_features = facts.num_node_features
        self.embedding = nn.Parameter(
            torch.randn(num_node_features, self.channels, generator=generator, dtype=torch.float64)
        )
        self.normalisation = config.node_normalisation or num_node_features
        last = (0, 1) if has_vector_output else (0,)
        radial_widths = [config.num_bessel + facts.num_edge_features, *config.radial_mlp]
        self.layers, self.tuners = nn.ModuleList(), nn.ModuleList()
        degrees_in: tuple[int, ...] = (0,)
        rounding = config.coupling_rounding or [0] * config.num_interactions
        for i in range(config.num_interactions):
            kind = KINDS[config.interaction if i > 0 else config.interaction_first]
            width, sent = _edge_irreps(config, is_first=i == 0)
            degrees_out = last if i == config.num_interactions - 1 else hidden
            interaction = make_interaction(
                kind,
                avg_num_neighbours,
                degrees_in=degrees_in,
                max_ell=config.max_ell,
                channels=self.channels,
                radial_widths=radial_widths,
                num_node_features=num_node_features,
                generator=generator,
                edge_channels=width,
                edge_degrees=sent,
                rounds_couplings=config.couplings == "float32",
            )
            orders = (config.max_ell, degrees_out, config.correlation)
            further = (rounding[i], config.coupling_terms == "all")
            product = ProductBasis(*orders, self.channels, num_node_features, generator, *further)
            shape = (degrees_in, num_node_features, kind.residual, generator, config.scalar_bias)
            self.layers.append(Layer(interaction, product, *shape))
            self.tuners.append(make_tuner(config, degrees_in, degrees_out, self.channels, tuner_generator))
            degrees_in = degrees_out
        self.has_density = any(isinstance(module, NeighbourDensity) for module in self.layers.modules())
        self._kept_knots: dict[tuple[int, torch.dtype, torch.device], Knots] = {}
        self._adjust_maps(config, tuner_generator)

    def _adjust_maps(self, config: ModelConfig, tuner_generator: Generator) -> None:
        """Normalisation of the maps by element, and low-rank updates."""
        for module in self.layers.modules():
            if isinstance(module, AttributeLinear):
                module.normalisation = self.normalisation
            if isinstance(module, DegreeLinear) and config.tuner == "lora":
                module.add_lora(config.lora_rank, tuner_generator)

    def _all_layers(self) -> list[Layer]:
        """The layers, which a list of modules knows as modules alone."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def degrees_of(self, layer: int) -> tuple[int, ...]:
        """Degrees of the features that a layer puts out."""
        return self._all_layers()[layer].degrees_out

    def forward(self, graph: Graph) -> Features:
        """Features after every layer.

        Raises:
            DataError: If the graph does not have as many atom and bond features as the model was made for.
        """
        self._check(graph)
        dtype = self.embedding.dtype
        attributes = node_attributes(graph.species, graph.node_features, self.num_elements, dtype)
        edges = self._edges(graph, attributes, dtype)
        h = self._embed(attributes)
        per_layer = []
        for layer, tuner in zip(self.layers, self.tuners, strict=True):
            h = tuner(h, layer(h, attributes, edges))
            per_layer.append(h)
        return Features(per_layer, attributes.position)

    def reads_in_one(self, readouts: ScalarReadouts) -> bool:
        """Whether layers and read-outs are one operation in training, for which there is `read_with_gradient`."""
        has_bias = any(layer.bias is not None for layer in self._all_layers())
        is_plain = not has_bias and all(type(tuner) is NoTuner for tuner in self.tuners)
        return is_plain and not self.unscheduled() and readouts.scheduled_weights() is not None

    def read_with_gradient(self, readouts: ScalarReadouts, graph: Graph, factors: Tensor) -> Differentiated:
        """Scalars of the atoms, in the order of the graph, and the gradient of Σ factors · scalars by the geometry.

        Args:
            readouts: Of the scalars, with which this `reads_in_one`.
            graph: Batched graph.
            factors: [T].
        """
        self._check(graph)
        dtype, read = self.embedding.dtype, readouts.scheduled_weights()
        knots = self._knots(graph, dtype)
        assert read is not None and knots is not None
        attributes = node_attributes(graph.species, graph.node_features, self.num_elements, dtype)
        sender, receiver = attributes.position[graph.edge_index]
        inputs = [layer.inputs(attributes, sender, receiver, knots) for layer in self._all_layers()]
        weights = [*(each.weights() for each in inputs), read]
        parts = EnergyParts(
            list(map(layer_part, inputs)), readout_part(read[0]), len(readouts.readouts), list(map(len, weights)),
            SHORTEST_EDGE, self.max_ell,
        )  # fmt: skip
        features, all_weights = self._embed(attributes), [weight for each in weights for weight in each]
        found = scheduled_energy(parts, edge_vectors(graph), factors, features, all_weights)
        return found._replace(scalars=found.scalars.index_select(0, attributes.position))

    def _check(self, graph: Graph) -> None:
        expected = self.embedding.shape[0] - self.num_elements
        for name, width, found in (
            ("atom", expected, graph.node_features.shape[1]),
            ("bond", self.num_edge_features, graph.edge_features.shape[1]),
        ):
            if found != width:
                raise DataError(f"the model expects {width} additional {name} features, the structures have {found}")

    def _embed(self, attributes: NodeAttributes) -> Tensor:
        """Initial scalar features [N, 1, K]."""
        table = attributes.per_class(self.embedding) / math.sqrt(self.normalisation)  # [S, K]
        return table.index_select(0, attributes.classes)[:, None]

    def _edges(self, graph: Graph, attributes: NodeAttributes, dtype: torch.dtype) -> Edges:
        vectors = edge_vectors(graph)  # [E, 3], float64
        harmonics, lengths = measured(vectors, SHORTEST_EDGE, self.max_ell, dtype)
        sender, receiver = graph.edge_index
        ends = attributes.position[sender], attributes.position[receiver]
        knots = self._knots(graph, dtype)
        if knots is not None and not self.has_density:
            return Edges(*ends, harmonics, harmonics.new_empty(graph.num_edges, 0), None, lengths, knots)
        radial, envelope = self._radial(lengths, graph.species[sender], graph.species[receiver])
        radial = torch.cat([radial.to(dtype), graph.edge_features.to(dtype)], dim=1)
        envelope = None if envelope is None else envelope.to(dtype)
        return Edges(*ends, harmonics, radial, envelope, lengths, knots)

    def _radial(self, lengths: Tensor, sender: Tensor, receiver: Tensor) -> tuple[Tensor, Tensor | None]:
        """Basis [E, B] of these distances between these species, and the envelope [E, 1] of the messages."""
        envelope = polynomial_envelope(lengths, self.cutoff, self.power)[:, None]  # [E, 1]
        radial = self.basis(lengths, sender, receiver)  # [E, B]
        return radial * envelope if self.envelopes_basis else radial, envelope if self.envelopes_messages else None

    def _knots(self, graph: Graph, dtype: torch.dtype) -> Knots | None:
        """Where the radial functions are evaluated, if there is a table."""
        if self.num_knots == 0 or not self.tabulated():
            return None
        return self.knots_at(self.num_knots, dtype, graph.positions.device)

    def knots_at(self, count: int, dtype: torch.dtype, device: torch.device) -> Knots:
        """Evenly spaced knots between 0 and the cutoff. Nothing trains them: the last ones are kept."""
        key = count, dtype, device
        if key not in self._kept_knots:
            with torch.inference_mode(False):  # they must serve training as well
                lengths = torch.linspace(0.0, self.cutoff, count, dtype=torch.float64, device=device)
                inputs = self.radial_inputs(lengths, dtype)
            self._kept_knots = {key: Knots(*inputs, 0.0, self.cutoff / (count - 1))}
        return self._kept_knots[key]

    def radial_inputs(self, lengths: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """What the radial MLPs see of some distances, and the envelope of what they give; without gradient."""
        with torch.no_grad():
            none = torch.zeros_like(lengths, dtype=torch.int64)
            basis, envelope = self._radial(lengths.clamp(min=SHORTEST_EDGE), none, none)
        return basis.to(dtype), None if envelope is None else envelope.to(dtype)

    def unscheduled(self) -> str:
        """Why training does not schedule the second sweep of every layer itself; empty where it does."""
        if self.num_knots == 0 or not self.tabulated():
            return "radial functions are evaluated for every edge"
        reasons = [layer.unscheduled() for layer in self._all_layers()]
        return next((f"layer {number}: {reason}" for number, reason in enumerate(reasons, 1) if reason), "")

    def tabulated(self) -> list[RadialMLP]:
        """The radial MLPs that a table can stand for; empty where one of the layers needs them for every edge."""
        found = [layer.interaction for layer in self._all_layers()]
        is_alone = self.num_edge_features == 0 and type(self.basis.transform) is DistanceTransform
        if not is_alone or not all(isinstance(interaction, Interaction) for interaction in found):
            return []
        return [interaction.radial for interaction in found if isinstance(interaction, Interaction)]


def _edge_irreps(config: ModelConfig, is_first: bool) -> tuple[int | None, tuple[int, ...] | None]:
    """Channels and degrees of what is sent, None where they are those of the features."""
    if config.edge_irreps is None or (is_first and not config.edge_irreps_first):
        return None, None
    return parse_hidden_irreps(config.edge_irreps)
