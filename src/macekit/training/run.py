"""A whole training run: data, model, training, evaluation, files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from macekit.config import DatasetFacts, TrainingRun
from macekit.config.loading import dump_run
from macekit.data.composition import symbol
from macekit.data.stores import StoredStructures
from macekit.geometry.batch import GraphDataset
from macekit.geometry.streams import graphs_of
from macekit.interop.native import save_native
from macekit.model.mace import Mace
from macekit.training.calibration import calibrated
from macekit.training.distributed import World, open_world
from macekit.training.evaluation import Evaluation, evaluate_dataset
from macekit.training.keeper import check_fingerprint, free_to_change
from macekit.training.lock import run_lock
from macekit.training.metrics import target_metrics
from macekit.training.plots import loss_curve, parity_plot
from macekit.training.preparation import RunData, chosen_fingerprint, print_header, read_data, run_fingerprint
from macekit.training.progress import FitResult
from macekit.training.provenance import model_provenance, run_provenance
from macekit.training.reports import errors_table, write_errors
from macekit.training.run_directory import RunDirectory, RunLog
from macekit.training.trackers import open_trackers
from macekit.training.transfer.replay import with_replay
from macekit.training.transfer.stages import fit_in_stages
from macekit.training.transfer.start import further_elements, initial_model, new_element_rows, opened


@dataclass(frozen=True)
class TrainingResult:
    """What a training run leaves behind."""

    directory: Path
    """Everything that was written."""
    model: Mace
    """The model with the best (averaged) weights, on the run's device."""
    facts: DatasetFacts
    """What was measured."""
    fit: FitResult
    """Epochs, best epoch, history."""
    evaluations: dict[str, Evaluation]
    """Errors and predictions by name of the data set: train, valid, and the test sets."""


def train(run: TrainingRun, *, console: Console | None = None, resume: bool = False) -> TrainingResult:
    """Train a model as a run file says.

    Under torchrun every process calls this; only the first prints and writes.

    Args:
        run: The whole run. Never changed.
        console: Where to print; None: standard output.
        resume: Whether to go on from the last checkpoint in the run directory.

    Raises:
        UsageError: If the device is not there, or the directory already holds a run.
        ConfigError: If losses, optimiser or scheduler cannot be made.
        DataError: If files, frames or labels cannot be used.
        NonFiniteError: If a loss became NaN or infinite; names the frames.
        ResumeError: If the checkpoint cannot be used.
        RunStopped: After SIGTERM or SIGUSR1; the last step is in a checkpoint.
    """
    with open_world(run.run.device) as world, ExitStack() as held:
        directory = RunDirectory(Path(run.run.directory))
        log, resume = _opened(run, directory, world, held, console, resume=resume)
        trackers = held.enter_context(open_trackers(run, directory, resumed=resume, is_main=world.is_main))
        chosen = chosen_fingerprint(run, world)
        run, source = opened(run, log)
        data = read_data(run, directory, world, log, further_elements(run, source))
        data = with_replay(run, source, data, log)
        model = initial_model(run, source, data, world, log)
        facts = model.facts
        fingerprint = run_fingerprint(chosen, data)
        if world.is_main:
            directory.resolved.write_text(dump_run(run), encoding="utf-8")
            directory.write_provenance(run_provenance(run, data, world))
        train_set = graphs_of(data.train, facts)
        valid_set = graphs_of(data.valid, facts) if data.valid else None
        fit = fit_in_stages(
            run,
            model,
            train_set,
            valid_set,
            new_rows=new_element_rows(model, source),
            world=world,
            directory=directory,
            log=log,
            fingerprint=fingerprint,
            resume=resume,
            trackers=trackers,
        )
        if isinstance(data.train, StoredStructures):
            train_set = graphs_of(data.sample(), facts)
            log.line(f"errors of the training data are those of {len(train_set)} structures, spread over the store")
        model = _calibrated(run, model, train_set, log)
        evaluations = _evaluate(model, train_set, valid_set, data, world)
        if world.is_main:
            _write_results(model, fit, evaluations, directory, log, str(fingerprint["data"]["hash"]))
        world.barrier()
    return TrainingResult(directory.path, model, model.facts, fit, evaluations)


def _calibrated(run: TrainingRun, model: Mace, train_set: GraphDataset, log: RunLog) -> Mace:
    """The model with the constants per atom, or per element where E0 were fitted, that fit the energies best."""
    if run.model.graph_scalars_loss is None:
        return model
    choice = run.data.reference_energies
    by_element = "fit" in (choice, choice.get(run.data.targets.energy or "") if isinstance(choice, dict) else None)
    before = [level.shift for level in model.facts.levels()]
    model, changes = calibrated(model, train_set, by_element=by_element and run.finetune is None)
    if [level.shift for level in model.facts.levels()] != before:
        log.line(f"scaling_mean moved by {1e3 * changes[0]:+.3f} meV, the mean error of the training energies per atom")
    elif changes.any():
        moved = ", ".join(f"{symbol(z)} {1e3 * c:+.3f}" for z, c in zip(model.facts.elements, changes, strict=True))
        log.line(f"E0 moved by {moved} meV: fitted once more, to the errors of the training energies")
    return model


def _opened(
    run: TrainingRun, directory: RunDirectory, world: World, held: ExitStack, console: Console | None, *, resume: bool
) -> tuple[RunLog, bool]:
    """The run directory, locked and checked; the log, and whether there is a checkpoint to go on from."""
    note = held.enter_context(run_lock(directory.path)) if world.is_main else None
    if world.is_main:
        resume = directory.prepare(overwrite=run.run.overwrite, resume=resume)
    (resume,) = world.any(resume and world.is_main)
    log = RunLog(directory.log, console, is_silent=not world.is_main)
    print_header(run, world, log)
    if note:
        log.line(f"note: {note}")
    if resume and (place := directory.latest()) is not None:
        check_fingerprint(place, chosen_fingerprint(run, world), free_to_change(run.run))
    return log, resume


def _evaluate(
    model: Mace, train_set: GraphDataset, valid_set: GraphDataset | None, data: RunData, world: World
) -> dict[str, Evaluation]:
    """Errors of the best weights on every data set."""
    sets: dict[str, GraphDataset] = {"train": train_set}
    if valid_set is not None:
        sets["valid"] = valid_set
    found = {name: evaluate_dataset(model, dataset, world=world) for name, dataset in sets.items()}
    for name, structures in data.tests.items():
        key = name if name not in found else f"{name} (test)"
        found[key] = evaluate_dataset(model, graphs_of(structures, model.facts), world=world)
    return found


def _write_results(
    model: Mace,
    fit: FitResult,
    evaluations: Mapping[str, Evaluation],
    directory: RunDirectory,
    log: RunLog,
    data_hash: str,
) -> None:
    """The model, tables and plots."""
    save_native(model, directory.model, provenance=model_provenance(fit, evaluations, data_hash))
    write_errors(evaluations, directory.errors)
    log.show(errors_table(evaluations, f"errors of the best weights (epoch {fit.best_epoch})"))
    parity_plot(evaluations, directory.path / "parity.png")
    metrics = target_metrics(model.facts.targets, compute_forces=model.config.compute_forces)
    trained = [metric for metric in metrics if f"train/{metric.target}/rmse" in fit.history[-1]]
    loss_curve(fit.history, trained, directory.path / "loss.png")
    log.show(directory.tree())
