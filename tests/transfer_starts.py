"""Models that training starts with, and what was printed on the way."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from macekit.config import TrainingRun
from macekit.data import Structure
from macekit.geometry.batch import GraphDataset
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from macekit.training.distributed import World
from macekit.training.preparation import RunData
from macekit.training.run_directory import RunLog
from macekit.training.transfer.source import Source
from macekit.training.transfer.start import initial_model, opened

WORLD = World(0, 1, torch.device("cpu"))
LOSSES = {
    "y_graph_scalars_loss_config": {"name": "WeightedMSELoss"},
    "y_node_vector_loss_config": {"name": "MSELoss"},
}
TARGETS = {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}


class Started(NamedTuple):
    """What `start` comes to."""

    run: TrainingRun
    source: Source
    model: Mace
    printed: str


def start(
    path: Path,
    structures: Sequence[Structure],
    finetune: dict[str, Any] | None = None,
    *,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    dtype: str = "float64",
) -> Started:
    """The model with which a run on these structures starts."""
    values = {
        "model": {**LOSSES, **(model or {})},
        "data": {"train": "unused", "targets": TARGETS, **(data or {})},
        "finetune": {"from": str(path), "reference_energies": "keep", **(finetune or {})},
        "run": {"dtype": dtype},
    }
    console = Console(file=io.StringIO(), width=160)
    log = RunLog(console=console)
    run, source = opened(TrainingRun.from_dict(values), log)
    assert source is not None
    found = initial_model(run, source, RunData(list(structures), []), WORLD, log)
    assert isinstance(console.file, io.StringIO)
    return Started(run, source, found, console.file.getvalue())


def predictions(model: Mace, structures: Sequence[Structure]) -> dict[str, torch.Tensor]:
    """Energies and forces of structures."""
    data = GraphDataset(structures, model.facts)
    found = evaluate(model.eval(), data.batch(range(len(structures))).graph, forces=True, stress=False)
    return {name: found[name] for name in ("y_graph_scalars", "y_node_vector")}
