"""The training and run sections: optimisation, and where and on what to run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from macekit.config.base import Config


class OptimizerConfig(Config):
    """A torch optimiser by name."""

    name: str = "Adam"
    """Name of a class in `torch.optim`."""
    config: dict[str, Any] = Field(default_factory=lambda: {"lr": 0.01, "amsgrad": True, "weight_decay": 5.0e-7})
    """Its keyword arguments. `weight_decay` acts on the weights of interactions and products only."""


class SchedulerConfig(Config):
    """A torch learning-rate scheduler by name."""

    name: str = "ReduceLROnPlateau"
    """Name of a class in `torch.optim.lr_scheduler`."""
    config: dict[str, Any] = Field(default_factory=lambda: {"factor": 0.8, "patience": 50})
    """Its keyword arguments; `T_max` and `total_steps` also take "num_steps" and "num_epochs"."""
    monitor: str = "val/total/loss"
    """Metric that ReduceLROnPlateau watches; the training loss where there is no validation set."""
    interval: Literal["epoch", "step"] = "epoch"
    """When the scheduler advances."""


class TrainingConfig(Config):
    """How the model is trained."""

    max_epochs: PositiveInt = 100
    """Number of passes over the training data."""
    batch_size: PositiveInt = 10
    """Structures per batch over all processes."""
    batch_edges: PositiveInt | None = None
    """Edges per batch instead: batches hold as many structures as fit."""
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """Optimiser."""
    scheduler: SchedulerConfig | None = Field(default_factory=SchedulerConfig)
    """Learning-rate scheduler; null: a constant rate."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    """Decay of the exponential moving average of the weights, which validation and the saved model use; null: none."""
    gradient_clip: Annotated[float, Field(gt=0)] | None = 10.0
    """Largest norm of the gradient; null: not clipped."""
    radial: Literal["auto", "table", "exact"] = "auto"
    """Radial functions: "exact" for every edge, or a "table" made in every step; auto: a table where it is precise."""
    early_stopping: PositiveInt | None = None
    """Epochs without a better monitored metric after which training stops; null: never."""
    monitor: str = "val/total/loss"
    """Metric that decides on `best` and on early stopping; the training loss where there is no validation set."""


class RunConfig(Config):
    """Where and on what the run takes place. Never part of a model."""

    directory: str = "runs/macekit"
    """Where everything is written."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network; geometry, reference energies and sums are always float64."""
    seed: int = 123
    """Seed of the initial weights, the split and the order of batches."""
    overwrite: bool = False
    """Whether an existing run in the directory may be replaced."""
    log_every: PositiveInt = 1
    """Epochs between lines of output."""
    checkpoint_steps: PositiveInt | None = None
    """Steps between checkpoints within an epoch; null: every five minutes. At the end of epochs, every 20 seconds."""
