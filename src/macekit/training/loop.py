"""The loop over epochs: train, validate, keep the best, stop in time."""

from __future__ import annotations

import math
import signal
from typing import Any

import torch
from torch import Tensor

from macekit.config import RunConfig, TrainingConfig
from macekit.data.sampler import EpochSampler, balanced_parts
from macekit.errors import RunStopped
from macekit.geometry.batch import Batch, GraphDataset
from macekit.model.mace import Mace
from macekit.training.averages import master_of
from macekit.training.distributed import World
from macekit.training.evaluation import evaluate_losses
from macekit.training.keeper import Keeper, free_to_change
from macekit.training.losses import Losses, LossSums
from macekit.training.metrics import batch_sums, target_metrics
from macekit.training.nonfinite import non_finite_error
from macekit.training.optimizers import build_optimizer
from macekit.training.progress import EpochProgress, FitResult
from macekit.training.radial import RadialFunctions
from macekit.training.random_state import private_random_state, random_states, restore_random_state
from macekit.training.records import epoch_legend, epoch_line, named_metrics, watched_metric
from macekit.training.run_directory import RunDirectory, RunLog
from macekit.training.schedule import Schedule
from macekit.training.signals import StopRequests
from macekit.training.steps import Stepper
from macekit.training.trackers import Trackers


class Fit:
    """A training run in progress.

    Args:
        model: On its device; holds the best (averaged) weights when `run` returns.
        config: How to train. Not changed.
        train_set: Training structures with their graphs.
        valid_set: Validation structures, or None.
        world: The processes of the run.
        settings: Seed, precision, and how often there are lines and checkpoints. Not changed.
        directory: Where checkpoints and metrics go.
        log: Where lines go.
        trackers: What else receives the metrics of epochs.
        fingerprint: What a checkpoint must agree with to be resumed.

    Raises:
        ConfigError: For an unknown loss, optimiser, scheduler, keyword or metric.
    """

    def __init__(
        self,
        model: Mace,
        config: TrainingConfig,
        train_set: GraphDataset,
        valid_set: GraphDataset | None,
        *,
        world: World,
        settings: RunConfig,
        directory: RunDirectory,
        log: RunLog,
        trackers: Trackers | None = None,
        fingerprint: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.world, self.directory, self.log = config, world, directory, log
        self.settings, self.train_set, self.valid_set = settings, train_set, valid_set
        self.losses = Losses(model.config, model.facts.targets)
        self.metrics = target_metrics(
            model.facts.targets, compute_forces=model.config.compute_forces, heads=list(model.facts.heads)
        )
        self.metrics = [metric for metric in self.metrics if metric.output in self.losses.outputs]
        master = master_of(model) if settings.dtype == "mixed" else None
        optimizer = build_optimizer(config.optimizer, master or model)
        averages: dict[str, Any] = {"ema": config.ema, "gradient_clip": config.gradient_clip}
        self.stepper = Stepper(model, self.losses, optimizer, world, **averages, master=master)
        edges = train_set.num_edges()
        shortest = min(each.shortest_edge() for each in (train_set, valid_set) if each is not None)
        per_batch = config.batch_edges or float(edges.mean()) * config.batch_size
        self.radial = RadialFunctions(config.radial, per_batch, shortest)
        self.sampler = EpochSampler(
            edges,
            batch_size=config.batch_size if config.batch_edges is None else None,
            batch_edges=config.batch_edges,
            seed=settings.seed,
            rank=world.rank,
            world_size=world.size,
            window=train_set.shuffle_window,
        )
        self.schedule = Schedule(config, optimizer, num_steps=self._num_steps)
        self.monitor = self._watched(config.monitor, "training.monitor")
        self.plateau_monitor: str | None = None
        if config.scheduler is not None and config.scheduler.name == "ReduceLROnPlateau":
            self.plateau_monitor = self._watched(config.scheduler.monitor, "training.scheduler.monitor")
        self.keeper = Keeper(
            directory, self.monitor, fingerprint or {}, is_writer=world.is_main, free=free_to_change(settings)
        )
        self.epoch = self.step = 0
        self.progress: EpochProgress | None = None
        self.history: list[dict[str, Any]] = []
        self.requests, self.trackers = StopRequests(), trackers or Trackers([])

    def run(self, *, resume: bool = False) -> FitResult:
        """Train to the end, and leave the best weights in the model.

        Args:
            resume: Whether to go on from `checkpoints/last`.

        Raises:
            NonFiniteError: If a loss or gradient became NaN or infinite; the checkpoints are those of before.
            ResumeError: If the checkpoint does not belong to this run.
            RunStopped: After SIGTERM or SIGUSR1; the checkpoint is that of the last step.
            KeyboardInterrupt: After Ctrl-C, likewise.
        """
        with private_random_state(self.settings.seed, self.world), self.requests:
            self.stepper.distribute(self._batch([0]))
            if resume:
                self._resume()
            self.log.line(
                epoch_legend(
                    self.metrics, has_validation=self.valid_set is not None, uses_average=self.config.ema is not None
                )
            )
            try:
                stopped_early = self._epochs()
            finally:
                self.keeper.write_best()
        if stopped_early:
            self.log.line(
                f"stopped early: {self.monitor} has not improved for {self.config.early_stopping} epochs "
                f"(best {self.keeper.value:.6g} in epoch {self.keeper.epoch})"
            )
        if self.keeper.weights:
            self.stepper.model.load_state_dict(self.keeper.weights)
        return FitResult(self.epoch, self.keeper.epoch, self.keeper.value, self.monitor, stopped_early, self.history)

    def _epochs(self) -> bool:
        """All epochs that are left; whether they ended early."""
        patience = self.config.early_stopping
        stopped_early = self.keeper.is_stale(self.epoch, patience)
        while self.epoch < self.config.max_epochs and not stopped_early:
            row = self._epoch()
            stopped_early = self.keeper.is_stale(self.epoch, patience)
            is_end = stopped_early or self.epoch == self.config.max_epochs
            if is_end or self.epoch == 1 or self.epoch % self.settings.log_every == 0:
                self.log.line(epoch_line(row, self.metrics, self.config.max_epochs))
            must_stop, is_due = self.world.any(self.requests.received is not None, self.keeper.is_due())
            if is_end or is_due or must_stop:
                self.keeper.write_last(self._state())
            if must_stop and not is_end:
                self._stop()
        return stopped_early

    def _epoch(self) -> dict[str, Any]:
        """One pass over the training data and one over the validation data; the row of metrics."""
        progress = self._train_epoch()
        self.stepper.averages.after_epoch(
            equally=self.schedule.in_stage_two and self.config.stage_two is not None and self.config.stage_two.swa
        )
        row: dict[str, Any] = {"epoch": self.epoch + 1, "lr": progress.learning_rate}
        row |= named_metrics("train", *progress.total(self.world), self.losses, self.metrics)
        if self.valid_set is not None:
            row |= named_metrics("val", *self._validate(self.valid_set), self.losses, self.metrics)
        self.schedule.end_epoch(row, self.plateau_monitor)
        self.epoch += 1
        self.progress = None
        row["seconds"] = progress.seconds
        row["is_best"] = self.keeper.offer(self.epoch, row[self.monitor], self.stepper.deployed.state_dict())
        self.history.append(row)
        if self.world.is_main:
            self.directory.append_metrics(row)
            self.trackers.log(row)
        return row

    def _begin_epoch(self) -> None:
        """What is different from this epoch on."""
        if self.schedule.begin_epoch(self.epoch + 1):
            self.log.line(f"stage two from epoch {self.epoch + 1} on: learning rate {self.schedule.rate:g}")
        if self.losses.set_epoch(self.epoch + 1) and self.epoch > 0:  # what was best before says nothing now
            self.keeper.forget()
            self.schedule.forget_plateau()
            self.log.line(f"weights of losses from epoch {self.epoch + 1} on: {self.losses.weights_in_words()}")
        rate = self.schedule.rate
        self.progress = EpochProgress(self.losses.empty(), len(self.metrics), rate, self.world.device)
        self.sampler.set_epoch(self.epoch)
        self.radial.choose((self.stepper.model, self.stepper.deployed), self.log)

    def _train_epoch(self) -> EpochProgress:
        """The steps of an epoch that are left; sums of losses and errors on this process."""
        stepper = self.stepper
        if self.progress is None:
            self._begin_epoch()
        assert self.progress is not None
        stepper.model.train()
        with self.log.progress(f"epoch {self.epoch + 1}/{self.config.max_epochs}", len(self.sampler)) as advance:
            for indices in self.sampler:
                batches = self.parts(indices)
                asks = self.requests.received is not None, self.keeper.is_due(within_epoch=True)
                result = stepper.gradient(batches, [float(ask) for ask in asks])
                if not result.is_finite:
                    raise non_finite_error(stepper, self.train_set, indices, epoch=self.epoch + 1, loss=result.loss)
                self.schedule.step(stepper.update)
                pairs = zip(result.predictions, batches, strict=True)
                errors = [batch_sums(predictions, batch, self.metrics) for predictions, batch in pairs]
                self.progress.add(result.sums, torch.stack(errors).sum(0))
                advance(result.loss)
                self._after_step(result.notices)
        return self.progress

    def _after_step(self, notices: tuple[float, ...]) -> None:
        """A checkpoint where one is due, and the end where it was asked for."""
        self.step += 1
        must_stop, is_due = (notice > 0 for notice in notices)
        period = self.settings.checkpoint_steps
        if must_stop or is_due or (period and self.step % period == 0):
            self.keeper.write_last(self._state())
        if must_stop:
            self._stop()

    def _stop(self) -> None:
        """End the run as a signal asked for; the checkpoint is written."""
        self.world.barrier()
        received = self.requests.received
        name = received.name if received is not None else "a signal to another process"
        text = f"stopped by {name} in epoch {self.epoch + 1} after {self.step} steps in all"
        self.log.line(f"{text}; {self.directory.last} is written")
        if received is signal.SIGINT:
            raise KeyboardInterrupt
        raise RunStopped(text, "go on with --resume")

    def _num_steps(self) -> int:
        """Steps of the whole run."""
        return sum(self.sampler.num_batches(epoch) for epoch in range(self.config.max_epochs))

    def _validate(self, dataset: GraphDataset) -> tuple[LossSums, Tensor]:
        edges = self.train_set.num_edges()
        budget = self.config.batch_edges or int(edges.mean() * self.config.batch_size) + 1
        return evaluate_losses(
            self.stepper.deployed, self.losses, dataset, self.metrics, batch_edges=budget, world=self.world
        )

    def parts(self, indices: list[int]) -> list[Batch]:
        """This process's share of a batch, in as many parts as are accumulated."""
        parts = balanced_parts(indices, self.sampler.num_edges, self.config.accumulate)
        return [self._batch(part) for part in parts if part] or [self._batch([])]

    def _batch(self, indices: list[int]) -> Batch:
        """This process's share of a batch; an empty share takes part with one structure and no labels."""
        if indices:
            return self.train_set.batch(indices).to(self.world.device)
        batch = self.train_set.batch([0])
        labels = {target: torch.full_like(label, torch.nan) for target, label in batch.labels.items()}
        return batch._replace(labels=labels).to(self.world.device)

    def _watched(self, name: str, where: str) -> str:
        has_validation = self.valid_set is not None
        chosen = watched_metric(name, where, self.losses, self.metrics, has_validation=has_validation)
        if chosen != name:
            self.log.line(f"note: no validation set, so {where} is {chosen}")
        return chosen

    def _state(self) -> dict[str, Any]:
        """Everything that the next step depends on. All processes call this; the first writes it."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "scheduler": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "progress": None if self.progress is None else self.progress.state(self.world),
            "random": random_states(self.world),
            **self.stepper.state(),
        }

    def _resume(self) -> None:
        state = self.keeper.read_last()
        self.sampler.load_state_dict(state["sampler"])
        self.stepper.restore(state)
        self.schedule.load_state_dict(state["scheduler"])
        restore_random_state(state["random"], self.world)
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        self.losses.set_epoch(self.epoch + 1)
        if state["progress"] is not None:
            empty = EpochProgress(self.losses.empty(), len(self.metrics), 0.0, self.world.device)
            self.progress = empty.restored(state["progress"], self.world)
        rows = self.directory.read_metrics()
        self.world.barrier()
        if self.world.is_main:
            self.directory.rewind_metrics(self.epoch)
        self.history = [
            {key: math.nan if value is None else value for key, value in row.items()}
            for row in rows
            if row["epoch"] <= self.epoch
        ]
        within = "" if self.progress is None else f" and {self.sampler.position} steps of the next"
        writers = len(state["random"]["cpu"])
        change = "" if writers == self.world.size else f", {writers} processes then: equal to rounding from here on"
        self.log.line(f"resumed after epoch {self.epoch}{within} from {self.directory.last}{change}")
