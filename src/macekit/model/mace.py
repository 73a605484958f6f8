"""The model: backbone and heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from macekit.config import DatasetFacts, ModelConfig
from macekit.geometry.graph import Graph
from macekit.model.backbone import Backbone
from macekit.model.levels import PerLevel
from macekit.model.readout import DeviationHead, ScalarHead, VectorHead, pool
from macekit.model.repulsion import ZBLRepulsion
from macekit.model.scheduled_energy import Differentiated


class Heads(nn.Module):
    """The heads that the targets ask for; None where there is no such target."""

    def __init__(
        self,
        graph_scalars: ScalarHead | PerLevel | None = None,
        graph_scalars_std: DeviationHead | PerLevel | None = None,
        graph_vector: VectorHead | PerLevel | None = None,
        node_scalars: ScalarHead | PerLevel | None = None,
        node_vector: VectorHead | PerLevel | None = None,
    ) -> None:
        super().__init__()
        self.graph_scalars = graph_scalars
        self.graph_scalars_std = graph_scalars_std
        self.graph_vector = graph_vector
        self.node_scalars = node_scalars
        self.node_vector = node_vector


class Mace(nn.Module):
    """A MACE model (arXiv 2206.07697). Made by `build_model`.

    Args:
        config: Choices, as given.
        facts: Facts about the training data.
        backbone: Message passing.
        heads: Outputs.
        repulsion: Of pairs of atoms, added to the energy; None: none.
    """

    def __init__(
        self,
        config: ModelConfig,
        facts: DatasetFacts,
        backbone: Backbone,
        heads: Heads,
        repulsion: ZBLRepulsion | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.facts = facts
        self.backbone = backbone
        self.heads = heads
        self.repulsion = repulsion

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; geometry, reference energies and sums are always float64."""
        return self.backbone.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.embedding.device

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """What the heads declare, and never a derivative.

        Args:
            graph: Batched graph on the model's device. It is not changed.

        Returns:
            Float64 tensors by documented key, T being the number of targets of that kind:
            `y_graph_scalars` [G, T] and their contributions `y_graph_scalars::nodes` [N, T],
            `y_graph_scalars::std` [G, T], `y_graph_vector` [G, 3], `y_node_scalars` [N, T], `y_node_vector` [N, 3].
        """
        features = self.backbone(graph)
        heads, outputs = self.heads, dict[str, Tensor]()
        if heads.graph_scalars is not None:
            nodes = self._with_repulsion(heads.graph_scalars(features, graph), graph)  # [N, T]
            outputs.update(self._graph_scalars(nodes, graph))
        if heads.graph_scalars_std is not None:
            outputs["y_graph_scalars::std"] = heads.graph_scalars_std(features, graph)
        if heads.graph_vector is not None:
            outputs["y_graph_vector"] = pool(heads.graph_vector(features, graph), graph.batch, graph.num_graphs)
        if heads.node_scalars is not None:
            outputs["y_node_scalars"] = heads.node_scalars(features, graph)
        if heads.node_vector is not None:
            outputs["y_node_vector"] = heads.node_vector(features, graph)
        return outputs

    def energy_in_one(self) -> bool:
        """Whether graph scalars are all that is predicted, out of one operation in training; see `with_gradient`."""
        head, heads = self.heads.graph_scalars, [each for each in self.heads.children() if each is not None]
        if len(heads) > 1 or not isinstance(head, ScalarHead) or self.repulsion is not None:
            return False
        return self.backbone.reads_in_one(head.readouts)

    def with_gradient(self, graph: Graph, factors: Tensor) -> tuple[dict[str, Tensor], Differentiated]:
        """What `forward` gives, and the gradient of Σ_i factors · scalars of atom i by the vectors of the edges.

        For models that have their `energy_in_one`; differentiable once, by the weights.

        Args:
            graph: As for `forward`.
            factors: Of the graph scalars, float64 [T].
        """
        head = self.heads.graph_scalars
        assert isinstance(head, ScalarHead)
        found = self.backbone.read_with_gradient(head.readouts, graph, factors * head.scale.value)
        return self._graph_scalars(head.of_readouts(found.scalars, graph), graph), found

    @staticmethod
    def _graph_scalars(nodes: Tensor, graph: Graph) -> dict[str, Tensor]:
        """Outputs out of the scalars of the atoms, [N, T]."""
        pooled = pool(nodes, graph.batch, graph.num_graphs)
        return {"y_graph_scalars": pooled, "y_graph_scalars::nodes": nodes}

    def _with_repulsion(self, nodes: Tensor, graph: Graph) -> Tensor:
        """Scalars of the atoms [N, T], the energy with its pair repulsion."""
        targets = self.facts.targets
        if self.repulsion is None or targets.energy is None:
            return nodes
        is_energy = [float(name == targets.energy) for name in targets.y_graph_scalars]
        repulsion: Tensor = self.repulsion(graph)  # [N]
        return nodes + repulsion[:, None] * nodes.new_tensor(is_energy)
