"""Stores as training, validation and test data, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from macekit.config import TrainingRun
from macekit.config.data import DataConfig, SourceConfig
from macekit.data.stores import Store, StoredStructures, StoreWriter, is_store, open_store
from macekit.data.stores.reading import BLOCK
from macekit.data.stores.writing import Report
from macekit.errors import ConfigError, DataError
from macekit.geometry.stored_statistics import count_edges
from macekit.training.lock import run_lock
from macekit.training.losses import output_losses, output_targets

LARGEST_SAMPLE = 10_000
"""Structures of a store that stand for all of them in the final errors of the training data."""


def opened_store(items: Sequence[str | SourceConfig], config: DataConfig, where: str) -> Store | None:
    """The store that a list of files names; None where it names files.

    Args:
        items: As in `data.train`.
        config: What the store must have.
        where: Key in the run file, for messages.

    Raises:
        ConfigError: If a store is not alone, or prepared otherwise than the run says.
        DataError: If the store cannot be used.
    """
    names = [item if isinstance(item, str) else item.file for item in items]
    stores = [name for name in names if is_store(name)]
    if not stores:
        return None
    if len(names) > 1 or not isinstance(items[0], str):
        raise ConfigError(
            f"{where}: {stores[0]} is a store, which must be alone and without a weight",
            "prepare one store from all files; their weights are kept in it",
        )
    store = open_store(stores[0], config)
    store.shuffle_window = config.shuffle_window
    store.cached_blocks = 2 * -(-config.shuffle_window // BLOCK) + 8  # a block of the sampler may lie across two
    return store


def stored_parts(store: Store, fraction: float, seed: int) -> tuple[StoredStructures, StoredStructures]:
    """Training and validation structures of a store, by the seed. Isolated atoms are for training.

    Raises:
        DataError: If either part would be empty.
    """
    isolated = store.is_isolated()
    rest = np.flatnonzero(~isolated)
    count = int(np.floor(fraction * len(rest) + 0.5))
    if count in {0, len(rest)}:
        raise DataError(
            f"validation: a fraction of {fraction:g} of {len(rest)} structures leaves none for "
            f"{'validation' if count == 0 else 'training'}",
            "give more structures, another fraction, or validation files",
        )
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    chosen = np.zeros(len(store), dtype=bool)
    chosen[rest[generator.permutation(len(rest))[:count]]] = True
    return StoredStructures(store, np.flatnonzero(~chosen)), StoredStructures(store, np.flatnonzero(chosen))


def sampled(structures: StoredStructures, size: int = LARGEST_SAMPLE) -> StoredStructures:
    """Structures spread evenly over a store, at most `size`."""
    places = np.unique(np.linspace(0, len(structures) - 1, min(size, len(structures))).astype(np.int64))
    return StoredStructures(structures.store, structures.members[places])


def prepare_store(
    run: TrainingRun, directory: Path, *, needs_labels: bool = True, report: Report = lambda line: None
) -> tuple[Store, list[str]]:
    """Make a store of the training files of a run, or go on making it.

    Args:
        run: Its data section says what is read; its losses, which labels must be there.
        directory: Where the store is made.
        needs_labels: Whether every target with a loss must occur.
        report: Receives a line after every part.

    Returns:
        The store, and the warnings about its structures.

    Raises:
        DataError: For files, frames or labels that cannot be used, or another store in the directory.
        UsageError: If another process is making it.
    """
    targets = output_targets(run.data.targets)
    needed = {target for output in output_losses(run.model) for target in targets.get(output, ())}
    optional = {t for t in run.data.targets.kinds() if t not in needed or not needs_labels}
    with run_lock(directory) as note:
        if note:
            report(f"note: {note}")
        writer = StoreWriter(
            directory,
            run.data,
            lambda structure: count_edges(structure, run.data.cutoff),
            optional=optional,
            report=report,
        )
        warnings = writer.run()
    return Store(directory), warnings
