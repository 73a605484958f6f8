"""What a stage of training makes of the sections of a run."""

from __future__ import annotations

from typing import Any

from macekit.config.finetune import StageConfig
from macekit.config.merging import laid_over
from macekit.config.model import ModelConfig
from macekit.config.training import TrainingConfig
from macekit.errors import ConfigError, did_you_mean

_OUTPUTS = ("y_graph_scalars", "y_graph_vector", "y_node_scalars", "y_node_vector", "stress")
BATCHING = ("batch_size", "batch_edges")


def stage_training(training: TrainingConfig, stage: StageConfig, where: str) -> TrainingConfig:
    """The training section of a stage: that of the run with what the stage gives laid over it.

    Raises:
        ConfigError: If the stage gives a field that there is not, or a wrong value.
    """
    if unknown := [key for key in stage.datamodule if key not in BATCHING]:
        raise ConfigError(
            f"{where}.datamodule.{unknown[0]}: unknown key (a stage has: {', '.join(BATCHING)})",
            did_you_mean(unknown[0], BATCHING),
        )
    values = laid_over(training.model_dump(mode="json"), stage.trainer)
    values = laid_over(values, stage.datamodule)
    if "batch_size" in stage.datamodule and "batch_edges" not in stage.datamodule:
        values["batch_edges"] = None
    for field in ("optimizer", "scheduler"):
        if changes := getattr(stage, field):
            values[field] = laid_over(values[field] or {}, changes)
    return TrainingConfig.from_dict(values, where)


def stage_losses(config: ModelConfig, stage: StageConfig, where: str) -> ModelConfig:
    """The choices of a model with the losses of a stage.

    Raises:
        ConfigError: If there is no such output, or a wrong value.
    """
    changes: dict[str, Any] = {}
    values = config.model_dump(mode="json")
    for output, change in stage.losses.items():
        if output not in _OUTPUTS:
            raise ConfigError(
                f"{where}.losses.{output}: unknown output (there are: {', '.join(_OUTPUTS)})",
                did_you_mean(output, _OUTPUTS),
            )
        field = f"{output}_loss_config"
        changes[field] = laid_over(values[field] or {}, change)
    return ModelConfig.from_dict({**values, **changes}, where) if changes else config
