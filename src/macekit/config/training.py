"""The training and run sections: optimisation, and where and on what to run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from macekit.config.base import Config

ParameterGroup = Literal["embeddings", "interactions", "products", "readouts", "tuners"]


class OptimizerConfig(Config):
    """A torch optimiser by name."""

    name: str = "Adam"
    """Name of a class in `torch.optim`."""
    config: dict[str, Any] = Field(default_factory=lambda: {"lr": 0.01, "amsgrad": True, "weight_decay": 5.0e-7})
    """Its keyword arguments. `weight_decay` acts on the weights of interactions and products only."""
    groups: dict[ParameterGroup, dict[str, Any]] = Field(default_factory=dict)
    """Arguments that are different for a group of parameters: {readouts: {lr: 0.001}}. The groups are embeddings,
    interactions, products, readouts and tuners; a `weight_decay` given here acts on all of the group."""


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


class StageTwoConfig(Config):
    """The last epochs of a training. Weights of losses that change with it: `weight_schedule` of the losses."""

    start_epoch: PositiveInt
    """Its first epoch, from 1."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Constant learning rate in it; null: the scheduler goes on."""
    swa: bool = True
    """Whether the equal average of the weights at the ends of its epochs (stochastic weight averaging) is what is
    validated and saved, in place of the moving average."""


class TrainingConfig(Config):
    """How the model is trained."""

    max_epochs: PositiveInt = 100
    """Number of passes over the training data."""
    batch_size: PositiveInt = 10
    """Structures per batch over all processes."""
    batch_edges: PositiveInt | None = None
    """Edges per batch instead: batches hold as many structures as fit."""
    accumulate: PositiveInt = 1
    """Parts that a batch is split into, gone through one after the other: less memory, the same gradient."""
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """Optimiser."""
    scheduler: SchedulerConfig | None = Field(default_factory=SchedulerConfig)
    """Learning-rate scheduler; null: a constant rate."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises linearly to that of optimiser and scheduler."""
    stage_two: StageTwoConfig | None = None
    """Last epochs with another learning rate and averages of the weights; null: none."""
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stage_two is not None and self.stage_two.start_epoch > self.max_epochs:
            raise ValueError(
                f"stage_two.start_epoch: {self.stage_two.start_epoch} is after the last epoch, max_epochs: "
                f"{self.max_epochs}"
            )
        return self


class RunConfig(Config):
    """Where and on what the run takes place. Never part of a model."""

    directory: str = "runs/macekit"
    """Where everything is written."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["float32", "float64", "mixed"] = "float32"
    """Precision: of network and weights; mixed: float64 for weights, optimiser and averages, float32 for the network.
    Geometry, reference energies, sums and losses are float64 in every case."""
    seed: int = 123
    """Seed of the initial weights, the split and the order of batches."""
    overwrite: bool = False
    """Whether an existing run in the directory may be replaced."""
    log_every: PositiveInt = 1
    """Epochs between lines of output."""
    checkpoint_steps: PositiveInt | None = None
    """Steps between checkpoints within an epoch; null: every five minutes. At the end of epochs, every 20 seconds."""
    other_processes: bool = False
    """Whether a run may be resumed on another number of processes: with the same batches in the same order, so equal
    to rounding, and no longer bit by bit."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Where metrics go besides the run directory; each needs its package: pip install 'macekit[tensorboard]'."""
    wandb: dict[str, Any] = Field(default_factory=dict)
    """Arguments of `wandb.init`, such as project, name, tags, mode."""
