"""Replay against forgetting: structures on which a head of the new model goes on to predict what another did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from macekit.config import SourceConfig, TrainingRun
from macekit.data import Structure, read_structures
from macekit.data.stores import StoredStructures
from macekit.errors import ConfigError
from macekit.model.mace import Mace
from macekit.outputs.predictions import predict
from macekit.training.preparation import RunData
from macekit.training.run_directory import RunLog
from macekit.training.transfer.source import Source

EVERY: Final = 10
"""One in so many replayed structures is for validation, where there is a validation set."""


def with_replay(run: TrainingRun, source: Source | None, data: RunData, log: RunLog) -> RunData:
    """The data of a run with the structures that it replays, at a level of theory of their own.

    Args:
        run: The run; its other structures are of the level "default" where they name none.
        source: The trained model.
        data: What was read.
        log: Where numbers go.

    Raises:
        DataError: If files cannot be used, or have elements that the trained model does not know.
        ConfigError: If the level of theory is taken, or the training data is a store.
    """
    if source is None or run.finetune is None or run.finetune.replay is None:
        return data
    replay = run.finetune.replay
    if isinstance(data.train, StoredStructures):
        raise ConfigError(
            "finetune.replay: the training data is a store, and replayed structures cannot be mixed with one; give "
            "data.train as files, or prepare one store from both, with a level of theory (head) for each"
        )
    taken = {structure.head for structure in (*data.train, *data.valid)}
    if replay.head in taken:
        raise ConfigError(
            f"finetune.replay.head: '{replay.head}' is a level of theory of the training data; give another name"
        )
    files = [SourceConfig(file=name, weight=replay.weight) for name in replay.files]
    read = read_structures(files, run.data, labels="none" if replay.labels == "model" else "any")
    chosen = _picked([s.with_head(replay.head) for s in read.structures], replay.count)
    if replay.labels == "model":
        chosen = labelled(source.model, chosen, run)
    valid = chosen[::EVERY] if data.valid else []
    train = [s for number, s in enumerate(chosen) if not (valid and number % EVERY == 0)]
    origin = "predictions of the trained model" if replay.labels == "model" else "those of the files"
    log.line(
        f"replay: {len(train)} training and {len(valid)} validation structures at level '{replay.head}', "
        f"weight {replay.weight:g}, labels: {origin}"
    )
    return RunData([*data.train, *train], [*data.valid, *valid], data.tests)


def labelled(model: Mace, structures: Sequence[Structure], run: TrainingRun) -> list[Structure]:
    """The structures with the predictions of a model as labels of the run's targets that it has."""
    plain = [structure.with_head("") for structure in structures]
    names = run.data.targets.kinds().keys() & model.facts.targets.kinds().keys()
    found = predict(model, plain)
    return [
        replace(
            structure, targets={name: np.asarray(found[name][i]) for name in names if np.isfinite(found[name][i]).all()}
        )
        for i, structure in enumerate(structures)
    ]


def _picked(structures: list[Structure], count: int | None) -> list[Structure]:
    """At most so many structures, spread evenly."""
    if count is None or len(structures) <= count:
        return structures
    return [structures[(number * len(structures)) // count] for number in range(count)]
