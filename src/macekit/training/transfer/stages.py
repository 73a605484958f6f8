"""Stages of training: one after the other, each with what it freezes and what differs from the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from macekit.config import ModelConfig, StageConfig, TrainingConfig, TrainingRun
from macekit.config.stages import stage_losses, stage_training
from macekit.geometry.batch import GraphDataset
from macekit.model.mace import Mace
from macekit.training.checkpoints import has_checkpoint
from macekit.training.distributed import World
from macekit.training.loop import Fit
from macekit.training.progress import FitResult
from macekit.training.run_directory import RunDirectory, RunLog
from macekit.training.trackers import Trackers
from macekit.training.trainable import set_trainable, trainable_parameters, trainable_report


class Plan(NamedTuple):
    """What one stage trains, and how."""

    training: TrainingConfig
    model: ModelConfig
    names: set[str]
    """Parameters that are trained."""


def plans_of(run: TrainingRun, model: Mace) -> list[Plan]:
    """All stages, checked before the first begins."""
    finetune = run.finetune
    stages = (finetune.stages if finetune else []) or [StageConfig()]
    plans = []
    for number, stage in enumerate(stages):
        where = f"finetune.stages.{number}"
        names = trainable_parameters(
            model, finetune.tuner if finetune else None, stage.freeze_modules, f"{where}.freeze_modules"
        )
        plans.append(Plan(stage_training(run.training, stage, where), stage_losses(model.config, stage, where), names))
    return plans


def fit_in_stages(
    run: TrainingRun,
    model: Mace,
    train_set: GraphDataset,
    valid_set: GraphDataset | None,
    *,
    new_rows: Sequence[int],
    world: World,
    directory: RunDirectory,
    log: RunLog,
    fingerprint: dict[str, Any],
    resume: bool,
    trackers: Trackers,
) -> FitResult:
    """Train in the stages of the finetune section, or once where there are none.

    Args:
        run: The whole run.
        model: Trained in place; holds the best weights of the last stage afterwards.
        train_set: Training structures.
        valid_set: Validation structures, or None.
        new_rows: Elements that are new in a trained model, by index; their rows are trained with every tuner.
        world: Processes.
        directory: Of the run. Stages but the last write into directories of their own in it.
        log: Where lines go.
        fingerprint: What a checkpoint must agree with to be resumed.
        resume: Whether to go on from the last checkpoint.
        trackers: What else receives the metrics.

    Returns:
        The result of the last stage, with the history of all.
    """
    plans = plans_of(run, model)
    history: list[dict[str, Any]] = []
    for number, plan in enumerate(plans, 1):
        place = directory if number == len(plans) else RunDirectory(directory.stage(number))
        if world.is_main:
            place.path.mkdir(parents=True, exist_ok=True)
        if run.finetune is not None:
            set_trainable(model, plan.names, new_rows)
            log.line(f"stage {number} of {len(plans)}: " * (len(plans) > 1) + trainable_report(model))
            model.config = plan.model
        stage = {"stage": {"number": number, "training": plan.training.model_dump(mode="json")}}
        fit = Fit(
            model,
            plan.training,
            train_set,
            valid_set,
            world=world,
            settings=run.run,
            directory=place,
            log=log,
            trackers=trackers,
            fingerprint=fingerprint | (stage if len(plans) > 1 else {}),
        )
        result = fit.run(resume=resume and has_checkpoint(place.last))
        trackers.earlier_epochs += result.num_epochs
        history += [{**row, "stage": number} for row in result.history] if len(plans) > 1 else result.history
    model.requires_grad_(True)
    return replace(result, history=history)
