"""From a run file to data and model: read, split, measure, build; and say what was found."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import macekit
from macekit.config import DatasetFacts, TrainingRun
from macekit.data import (
    Split,
    Structure,
    StructuresRead,
    check_elements,
    draw_split,
    duplicates,
    read_structures,
    separate_isolated_atoms,
)
from macekit.errors import DataError, ResumeError
from macekit.geometry.statistics import measure_facts
from macekit.model.build import build_model, scale_and_shift
from macekit.model.mace import Mace
from macekit.training.checkpoints import has_checkpoint
from macekit.training.distributed import World
from macekit.training.losses import output_losses, output_targets
from macekit.training.run_directory import RunDirectory, RunLog

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class RunData:
    """The structures of a run."""

    train: list[Structure]
    """What is learned."""
    valid: list[Structure]
    """What decides when it is learned; may be empty."""
    tests: dict[str, list[Structure]] = field(default_factory=dict)
    """What was never seen, by name."""

    def fingerprint(self) -> str:
        """Hash of training and validation structures with their labels."""
        digest = hashlib.sha256()
        for structures in (self.train, self.valid):
            for structure in structures:
                digest.update(structure.atomic_numbers.tobytes() + structure.positions.tobytes())
                digest.update(structure.cell.tobytes() + structure.pbc.tobytes() + structure.head.encode())
                for name in sorted(structure.targets):
                    digest.update(name.encode() + structure.targets[name].tobytes())
            digest.update(b"|")
        return digest.hexdigest()[:16]


def print_header(run: TrainingRun, world: World, log: RunLog) -> None:
    """Versions, device, precision."""
    name = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else platform.machine()
    log.line(
        f"macekit {macekit.__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}"
    )
    processes = f", {world.size} processes" if world.size > 1 else ""
    log.line(
        f"device {world.device} ({name}), {torch.get_num_threads()} threads{processes}, "
        f"network in {run.run.dtype}, geometry and sums in float64, seed {run.run.seed}"
    )


def read_data(run: TrainingRun, directory: RunDirectory, world: World, log: RunLog) -> RunData:
    """Read and split all structures, printing the label census and every warning.

    Raises:
        DataError: For files, frames or labels that cannot be used.
    """
    needed = output_losses(run.model)
    optional = {
        target
        for output, targets in output_targets(run.data.targets).items()
        if output not in needed
        for target in targets
    }
    found = read_structures(run.data.train, run.data, labels="all", optional=optional)
    _print_census(found, "training data", log)
    train, valid = _train_and_valid(run, found.structures, directory, world, log)
    tests = {}
    for name, files in run.data.test.items():
        read = read_structures(files, run.data, labels="any")
        _print_census(read, f"test data '{name}'", log)
        tests[name] = read.structures
    sets = {"training": train, "validation": valid, **{f"test '{name}'": tests[name] for name in tests}}
    check_elements(train, {name: structures for name, structures in sets.items() if name != "training"})
    for warning in duplicates(sets):
        log.line(f"warning: {warning}")
    counts = [f"{len(train)} training", f"{len(valid)} validation"]
    counts += [f"{len(structures)} test ('{name}')" for name, structures in tests.items()]
    log.line(f"structures: {', '.join(counts)}")
    if run.training.batch_edges is None and run.training.batch_size > len(train):
        log.line(
            f"note: training.batch_size is {run.training.batch_size} and there are {len(train)} training "
            "structures: every epoch is one step with all of them"
        )
    return RunData(train, valid, tests)


def _train_and_valid(
    run: TrainingRun, structures: list[Structure], directory: RunDirectory, world: World, log: RunLog
) -> tuple[list[Structure], list[Structure]]:
    """Training and validation structures; process 0 draws the split. Isolated atoms are for training."""
    if not isinstance(run.data.validation, float):
        if not run.data.validation:
            return structures, []
        others = read_structures(run.data.validation, run.data, labels="any")
        _print_census(others, "validation data", log)
        return structures, others.structures
    isolated, rest = separate_isolated_atoms(structures)
    if world.is_main and not directory.split.exists():
        draw_split(rest, run.data.validation, run.run.seed).save(directory.split)
    world.barrier()
    try:
        train, valid = Split.load(directory.split, rest).parts(rest)
    except DataError as error:
        if has_checkpoint(directory.last):
            raise ResumeError(error.message, "resume with the data of then, or give another run.directory") from None
        raise
    return [*isolated, *train], valid


def _print_census(read: StructuresRead, title: str, log: RunLog) -> None:
    log.show(read.census.table(title))
    for warning in read.warnings:
        log.line(f"warning: {warning}")


def measured_facts(run: TrainingRun, data: RunData, world: World, log: RunLog) -> DatasetFacts:
    """Facts about the training structures, the same on all processes, with what was chosen and why."""
    facts, references, notes = measure_facts(data.train, run)
    for reference in references.values():
        log.show(reference.table())
    for note in notes:
        log.line(note)
    facts = DatasetFacts.from_dict(json.loads(world.shared(facts.model_dump_json())))
    names = [f"{head}/" for head in facts.heads] if len(facts.heads) > 1 else [""]
    for name, level in zip(names, facts.levels(), strict=True):
        for target in facts.targets.kinds():
            if target == facts.targets.stress or (target == facts.targets.y_node_vector and run.model.compute_forces):
                continue
            scale, shift = scale_and_shift(run.model, level, target)
            log.line(f"{name}{target}: scale {scale:.6g}, shift per atom {shift:.6g}")
    log.line(f"cutoff {facts.cutoff:g} Å, {facts.avg_num_neighbours:.2f} neighbours per atom on average")
    return facts


def built_model(run: TrainingRun, facts: DatasetFacts, world: World, log: RunLog) -> Mace:
    """The model with its initial weights, on this process's device."""
    model = build_model(run.model.name, run.model, facts, seed=run.run.seed, dtype=DTYPES[run.run.dtype])
    model = model.to(world.device)
    sizes = [parameter.numel() for parameter in model.parameters()]
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = f", {sum(sizes) - trainable} of them frozen" if trainable < sum(sizes) else ""
    log.line(f"model {run.model.name}: {sum(sizes)} parameters{frozen}, hidden {run.model.hidden_irreps}")
    return model


def chosen_fingerprint(run: TrainingRun, world: World) -> dict[str, Any]:
    """Of what must be the same for a checkpoint to be resumed, the part that the run file says."""
    plain = run.model_dump(mode="json")
    scheduler = run.training.scheduler
    if scheduler is not None and {"num_epochs", "num_steps"} & {str(value) for value in scheduler.config.values()}:
        plain["training"]["scheduler"]["length in epochs"] = run.training.max_epochs
    return {
        "model": plain["model"],
        "training": plain["training"],
        "run": {"seed": run.run.seed, "dtype": run.run.dtype},
        "processes": {"number": world.size},
    }


def run_fingerprint(run: TrainingRun, data: RunData, world: World) -> dict[str, Any]:
    """What must be the same for a checkpoint to be resumed."""
    counts = {"training structures": len(data.train), "validation structures": len(data.valid)}
    return {**chosen_fingerprint(run, world), "data": {**counts, "hash": data.fingerprint()}}
