"""A whole run file."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from macekit.config.base import Config
from macekit.config.data import DataConfig
from macekit.config.finetune import FinetuneConfig
from macekit.config.model import ModelConfig
from macekit.config.preset_files import over_preset
from macekit.config.stages import stage_losses, stage_training
from macekit.config.training import RunConfig, TrainingConfig


class TrainingRun(Config):
    """What `macekit train` carries out."""

    preset: str | None = None
    """Name of a preset (small, medium, large, or a recipe), whose sections hold where the run file gives nothing."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """Architecture and losses."""
    data: DataConfig
    """Files, targets and reference energies."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Optimisation."""
    finetune: FinetuneConfig | None = None
    """Start from a trained model; null: from random weights."""
    run: RunConfig = Field(default_factory=RunConfig)
    """Directory, device, precision, seed."""

    @model_validator(mode="before")
    @classmethod
    def _preset_below(cls, values: Any) -> Any:
        return over_preset(values) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _transfer_learning(cls, values: Any) -> Any:
        """`transfer_learning`, the documented name of the section, with the tuner and E0 of the other sections."""
        if not isinstance(values, dict) or "transfer_learning" not in values:
            return values
        section = values["transfer_learning"]
        rest = {key: value for key, value in values.items() if key != "transfer_learning"}
        if section is None:
            return rest
        if rest.get("finetune") is not None:
            raise ValueError("'finetune' and 'transfer_learning' are the same section; give one of them")
        if isinstance(section, dict):
            section = {"reference_energies": "data", **section}
        return {**rest, "finetune": section}

    @model_validator(mode="after")
    def _stages_are_sections(self) -> Self:
        for number, stage in enumerate(self.finetune.stages if self.finetune else []):
            stage_training(self.training, stage, f"finetune.stages.{number}")
            stage_losses(self.model, stage, f"finetune.stages.{number}")
        return self

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
        if all(loss is None or not loss.is_ever_counted for loss, _ in losses.values()):
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
