"""Configuration: choices (`ModelConfig`), facts (`DatasetFacts`) and whole run files (`TrainingRun`)."""

from macekit.config.data import DataConfig, SourceConfig, TargetsConfig, UnitsConfig
from macekit.config.facts import DatasetFacts
from macekit.config.finetune import FinetuneConfig, StageConfig
from macekit.config.model import LossConfig, ModelConfig
from macekit.config.run import TrainingRun
from macekit.config.training import OptimizerConfig, RunConfig, SchedulerConfig, TrainingConfig

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
