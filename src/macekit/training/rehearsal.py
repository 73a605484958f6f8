"""What a run would be: data, model, memory and time, measured on a few steps, without leaving anything behind."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from macekit.config import TrainingRun
from macekit.geometry.streams import graphs_of
from macekit.training.distributed import World, choose_device
from macekit.training.loop import Fit
from macekit.training.preparation import print_header, read_data
from macekit.training.run_directory import RunDirectory, RunLog
from macekit.training.trainable import set_trainable
from macekit.training.transfer.replay import with_replay
from macekit.training.transfer.stages import plans_of
from macekit.training.transfer.start import further_elements, initial_model, new_element_rows, opened

_REPEATS = 3


@dataclass(frozen=True)
class Estimate:
    """What a run will take on this machine, on one process."""

    parameters: int
    """Trained parameters."""
    steps_per_epoch: int
    edges_per_step: float
    """Mean over the first epoch."""
    seconds_per_step: float
    """Of a step with the mean number of edges."""
    seconds_per_epoch: float
    """Steps and validation."""
    seconds: float
    """Of all epochs."""
    memory: float
    """Of the largest batch of the first epoch, MiB: on a GPU what tensors needed, else what the process grew by."""

    def table(self, stage: str = "") -> Table:
        """For the terminal; `stage` says of which."""
        title = f"estimate{stage}, measured on one process"
        table = Table(title=title, title_justify="left", show_header=False)
        rows = {
            "trained parameters": f"{self.parameters:,}",
            "steps per epoch": f"{self.steps_per_epoch:,}",
            "edges per step": f"{self.edges_per_step:,.0f}",
            "time per step": f"{1000 * self.seconds_per_step:.3g} ms",
            "time per epoch": _duration(self.seconds_per_epoch),
            "time of all epochs": _duration(self.seconds),
            "memory of the largest step": f"{self.memory:,.0f} MiB",
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table


def rehearse(run: TrainingRun, console: Console | None = None) -> list[Estimate]:
    """Read the data, build the model, and do some steps; print what was found.

    Args:
        run: The whole run. Nothing is written to its directory.
        console: Where to print; None: standard output.

    Returns:
        An estimate for every stage, one where there are no stages.

    Raises:
        MacekitError: As training does, for data, model and optimiser.
    """
    world = World(0, 1, choose_device(run.run.device))
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        log = RunLog(None, console)
        print_header(run, world, log)
        run, source = opened(run, log)
        data = read_data(run, directory, world, log, further_elements(run, source))
        data = with_replay(run, source, data, log)
        model = initial_model(run, source, data, world, log)
        train_set = graphs_of(data.train, model.facts)
        valid_set = graphs_of(data.valid, model.facts) if data.valid else None
        found, plans = [], plans_of(run, model)
        for number, plan in enumerate(plans, 1):
            if run.finetune is not None:
                set_trainable(model, plan.names, new_element_rows(model, source))
                model.config = plan.model
            fit = Fit(
                model,
                plan.training,
                train_set,
                valid_set,
                world=world,
                settings=run.run,
                directory=directory,
                log=log,
            )
            found.append(_measured(fit, world))
            log.show(found[-1].table(f", stage {number} of {len(plans)}" if len(plans) > 1 else ""))
    return found


def _measured(fit: Fit, world: World) -> Estimate:
    edges = fit.train_set.num_edges()
    batches = fit.sampler.global_batches(0)
    sizes = [int(edges[batch].sum()) for batch in batches]
    mean = sum(sizes) / len(sizes)
    typical = batches[min(range(len(sizes)), key=lambda i: abs(sizes[i] - mean))]
    largest = batches[sizes.index(max(sizes))]
    fit.radial.choose((fit.stepper.model, fit.stepper.deployed), fit.log)
    before = _memory(world)
    _step(fit, largest)
    memory = max(_memory(world) - before, 0.0)
    durations = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        _step(fit, typical)
        durations.append(time.perf_counter() - start)
    step = min(durations)
    epoch = step * len(batches)
    if fit.valid_set is not None:
        start = time.perf_counter()
        sample = fit.train_set.batch(typical).to(world.device)
        fit.stepper.loss_of(sample)
        forward = time.perf_counter() - start
        epoch += forward * float(fit.valid_set.num_edges().sum()) / max(mean, 1.0)
    parameters = sum(parameter.numel() for parameter in fit.stepper.parameters)
    return Estimate(parameters, len(batches), mean, step, epoch, epoch * fit.config.max_epochs, memory)


def _step(fit: Fit, indices: list[int]) -> None:
    """A whole step but for the change of the weights."""
    fit.stepper.gradient(fit.parts(indices))
    if fit.world.device.type == "cuda":
        torch.cuda.synchronize(fit.world.device)


def _memory(world: World) -> float:
    """Largest memory so far, MiB: of tensors on a GPU, else of the process."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
