"""From a run file to data and model: read, split, measure, build; and say what was found."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import macekit
from macekit.config import DatasetFacts, TrainingRun
from macekit.config.data import SourceConfig
from macekit.data import (
    Split,
    Structure,
    StructuresRead,
    check_elements,
    draw_split,
    duplicates,
    elements_of,
    read_structures,
    separate_isolated_atoms,
)
from macekit.data.composition import symbol
from macekit.data.stores import Store, StoredStructures
from macekit.errors import DataError, ResumeError
from macekit.geometry.stored_statistics import facts_of
from macekit.model.build import build_model, scale_and_shift
from macekit.model.mace import Mace
from macekit.training.checkpoints import has_checkpoint
from macekit.training.distributed import World
from macekit.training.losses import output_losses, output_targets
from macekit.training.run_directory import RunDirectory, RunLog
from macekit.training.stored_data import opened_store, sampled, stored_parts

DTYPES = {"float32": torch.float32, "float64": torch.float64, "mixed": torch.float32}

_ALWAYS = "geometry, E0, sums and losses in float64"
PRECISIONS = {
    "float32": f"network, weights and optimiser in float32; {_ALWAYS}",
    "float64": f"network, weights and optimiser in float64; {_ALWAYS}",
    "mixed": f"network in float32; weights, optimiser and averages in float64; {_ALWAYS}",
}
"""What is in which precision, by `run.dtype`."""


@dataclass(frozen=True)
class RunData:
    """The structures of a run."""

    train: Sequence[Structure]
    """What is learned."""
    valid: Sequence[Structure]
    """What decides when it is learned; may be empty."""
    tests: dict[str, Sequence[Structure]] = field(default_factory=dict)
    """What was never seen, by name."""

    def elements(self) -> list[int]:
        """Atomic numbers of the training structures, ascending."""
        if isinstance(self.train, StoredStructures):
            return list(self.train.store.statistics.elements)
        return elements_of(self.train)

    def sample(self) -> Sequence[Structure]:
        """The training structures; of a store, some that are spread over it."""
        return sampled(self.train) if isinstance(self.train, StoredStructures) else self.train

    def fingerprint(self) -> str:
        """Hash of training and validation structures with their labels."""
        digest = hashlib.sha256()
        for structures in (self.train, self.valid):
            if isinstance(structures, StoredStructures):
                digest.update(structures.store.hash.encode() + structures.members.tobytes() + b"|")
                continue
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
        f"{PRECISIONS[run.run.dtype]}, seed {run.run.seed}"
    )


def read_data(
    run: TrainingRun, directory: RunDirectory, world: World, log: RunLog, further: Collection[int] = ()
) -> RunData:
    """Read and split all structures, printing the label census and every warning.

    Args:
        run: The run.
        directory: Where the split is stored.
        world: Processes.
        log: Where tables and warnings go.
        further: Elements that the model will know besides those of the training structures.

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
    store = opened_store(run.data.train, run.data, "data.train")
    if store is None:
        found = read_structures(run.data.train, run.data, labels="all", optional=optional)
        _print_census(found, "training data", log, is_learned=True)
        train, valid = _train_and_valid(run, found.structures, directory, world, log)
    else:
        _print_census(store, f"store {store.directory.name}", log, is_learned=True)
        train, valid = _stored_train_and_valid(run, store, log)
    tests = {name: _others(files, run, f"test data '{name}'", log) for name, files in run.data.test.items()}
    sets = {"training": train, "validation": valid, **{f"test '{name}'": tests[name] for name in tests}}
    _compare(sets, further, log)
    counts = [f"{len(train)} training", f"{len(valid)} validation"]
    counts += [f"{len(structures)} test ('{name}')" for name, structures in tests.items()]
    log.line(f"structures: {', '.join(counts)}")
    if run.training.batch_edges is None and run.training.batch_size > len(train):
        log.line(
            f"note: training.batch_size is {run.training.batch_size} and there are {len(train)} training "
            "structures: every epoch is one step with all of them"
        )
    return RunData(train, valid, tests)


def _others(files: list[str | SourceConfig], run: TrainingRun, title: str, log: RunLog) -> Sequence[Structure]:
    """Validation or test structures, from files or a store."""
    if (store := opened_store(files, run.data, title)) is not None:
        _print_census(store, title, log)
        return StoredStructures(store)
    read = read_structures(files, run.data, labels="any")
    _print_census(read, title, log)
    return read.structures


def _compare(sets: dict[str, Sequence[Structure]], further: Collection[int], log: RunLog) -> None:
    """Refuse elements that the model will not know in validation or test structures, and warn of copies."""
    for name, structures in sets.items():
        if isinstance(structures, StoredStructures):
            elements = set(structures.store.statistics.elements)
        else:
            elements = set(elements_of(structures))
        if name == "training":
            known = elements | set(further)
        elif elements - known and isinstance(structures, StoredStructures):
            symbols = ", ".join(symbol(z) for z in sorted(elements - known))
            raise DataError(f"{name}: has {symbols}, which no training structure has", "add structures with it")
    in_memory = {name: found for name, found in sets.items() if not isinstance(found, StoredStructures)}
    if "training" in in_memory:
        check_elements(sets["training"], {n: s for n, s in in_memory.items() if n != "training"}, further)
    for warning in duplicates(in_memory):
        log.line(f"warning: {warning}")


def _stored_train_and_valid(
    run: TrainingRun, store: Store, log: RunLog
) -> tuple[Sequence[Structure], Sequence[Structure]]:
    """Training and validation structures where the training structures are in a store."""
    if not isinstance(run.data.validation, float):
        valid = _others(run.data.validation, run, "validation data", log) if run.data.validation else []
        return StoredStructures(store), valid
    log.line("note: reference energies, scales and shifts are those of the whole store, its validation part included")
    return stored_parts(store, run.data.validation, run.run.seed)


def _train_and_valid(
    run: TrainingRun, structures: list[Structure], directory: RunDirectory, world: World, log: RunLog
) -> tuple[Sequence[Structure], Sequence[Structure]]:
    """Training and validation structures; process 0 draws the split. Isolated atoms are for training."""
    if not isinstance(run.data.validation, float):
        if not run.data.validation:
            return structures, []
        return structures, _others(run.data.validation, run, "validation data", log)
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


def _print_census(read: StructuresRead | Store, title: str, log: RunLog, *, is_learned: bool = False) -> None:
    log.show(read.census.table(title))
    if read.census.not_learned and is_learned:
        others = ", ".join(f"{name} ({', '.join(keys)})" for name, keys in read.census.not_learned.items())
        log.line(f"note: {others} of the files is not learned; that takes a target in data and a loss in model")
    for warning in read.warnings:
        log.line(f"warning: {warning}")


def measured_facts(run: TrainingRun, data: RunData, world: World, log: RunLog) -> DatasetFacts:
    """Facts about the training structures, the same on all processes, with what was chosen and why."""
    facts, references, notes = facts_of(data.train, run)
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
        "finetune": plain["finetune"],
        "training": plain["training"],
        "run": {"seed": run.run.seed, "dtype": run.run.dtype},
        "processes": {"number": world.size},
    }


def run_fingerprint(chosen: dict[str, Any], data: RunData) -> dict[str, Any]:
    """What must be the same for a checkpoint to be resumed, from what the run file says of it."""
    counts = {"training structures": len(data.train), "validation structures": len(data.valid)}
    return {**chosen, "data": {**counts, "hash": data.fingerprint()}}
