"""A whole run file."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from macekit.config.base import Config
from macekit.config.data import DataConfig
from macekit.config.model import ModelConfig
from macekit.config.training import RunConfig, TrainingConfig


class TrainingRun(Config):
    """What `macekit train` carries out."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    """Architecture and losses."""
    data: DataConfig
    """Files, targets and reference energies."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Optimisation."""
    run: RunConfig = Field(default_factory=RunConfig)
    """Directory, device, precision, seed."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        model, targets = self.model, self.data.targets
        losses = {
            "y_graph_scalars": (model.graph_scalars_loss, targets.y_graph_scalars),
            "y_graph_vector": (model.y_graph_vector_loss_config, targets.y_graph_vector),
            "y_node_scalars": (model.y_node_scalars_loss_config, targets.y_node_scalars),
            "y_node_vector": (model.y_node_vector_loss_config, targets.y_node_vector),
            "stress": (model.stress_loss_config, targets.stress),
        }
        for output, (loss, target) in losses.items():
            if loss is not None and not target:
                raise ValueError(
                    f"model has a loss for {output} but data.targets.{output} names no target; add one or drop the loss"
                )
        if all(loss is None or loss.weight == 0 for loss, _ in losses.values()):
            raise ValueError(
                "nothing to train: every loss is missing or has weight 0; "
                "give model.y_graph_scalars_loss_config or another"
            )
        if model.compatibility != "none":
            raise ValueError(
                f"model.compatibility: {model.compatibility} is for imported models, "
                "which cannot be trained; leave it out"
            )
        if (model.compute_forces or targets.stress) and not targets.y_graph_scalars:
            raise ValueError(
                "forces and stress are derivatives of an energy: data.targets.y_graph_scalars must name one"
            )
        if model.compute_forces and targets.y_node_vector is None:
            raise ValueError(
                "model.compute_forces is true but data.targets.y_node_vector names no target; add y_node_vector: forces"
            )
        return self
