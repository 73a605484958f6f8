"""Configuration: choices (`ModelConfig`), facts (`DatasetFacts`) and whole run files (`TrainingRun`).

Every name is imported on first use, so that a model loads quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from macekit.config.data import DataConfig, SourceConfig, TargetsConfig, UnitsConfig
    from macekit.config.facts import DatasetFacts
    from macekit.config.finetune import FinetuneConfig, StageConfig
    from macekit.config.model import LossConfig, ModelConfig
    from macekit.config.run import TrainingRun
    from macekit.config.training import OptimizerConfig, RunConfig, SchedulerConfig, TrainingConfig

_HOMES = {
    "DataConfig": "macekit.config.data",
    "DatasetFacts": "macekit.config.facts",
    "FinetuneConfig": "macekit.config.finetune",
    "LossConfig": "macekit.config.model",
    "ModelConfig": "macekit.config.model",
    "OptimizerConfig": "macekit.config.training",
    "RunConfig": "macekit.config.training",
    "SchedulerConfig": "macekit.config.training",
    "SourceConfig": "macekit.config.data",
    "StageConfig": "macekit.config.finetune",
    "TargetsConfig": "macekit.config.data",
    "TrainingConfig": "macekit.config.training",
    "TrainingRun": "macekit.config.run",
    "UnitsConfig": "macekit.config.data",
}

__all__ = [
    "DataConfig",
    "DatasetFacts",
    "FinetuneConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "SchedulerConfig",
    "SourceConfig",
    "StageConfig",
    "TargetsConfig",
    "TrainingConfig",
    "TrainingRun",
    "UnitsConfig",
]


def __getattr__(name: str) -> Any:
    """Import a name from the module that defines it, once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'macekit.config' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
