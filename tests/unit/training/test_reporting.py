from __future__ import annotations

import csv
import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from rich.console import Console

from macekit.config import ModelConfig, TargetsConfig
from macekit.errors import ConfigError
from macekit.training.evaluation import Evaluation, edge_batches
from macekit.training.losses import Losses
from macekit.training.metrics import TargetErrors, target_metrics
from macekit.training.plots import loss_curve, parity_plot
from macekit.training.records import epoch_legend, epoch_line, watched_metric
from macekit.training.reports import errors_table, write_errors

TARGETS = TargetsConfig(y_graph_scalars=["energy"], y_node_vector="forces", stress="stress")
METRICS = target_metrics(TARGETS, compute_forces=True)
ROW = {
    "epoch": 3,
    "train/total/loss": 0.5,
    "val/total/loss": 0.25,
    "train/energy/rmse": 1.5,
    "val/energy/rmse": float("nan"),
    "train/forces/rmse": 20.0,
    "val/forces/rmse": 30.0,
    "train/stress/rmse": 0.1,
    "val/stress/rmse": 0.2,
    "lr": 0.01,
    "seconds": 1.234,
    "is_best": True,
}


@pytest.fixture
def evaluation() -> Evaluation:
    errors = {
        "energy": TargetErrors(1.5, 1.0, 10),
        "forces": TargetErrors(2000.0, 15.0, 90),
        "stress": TargetErrors(float("nan"), float("nan"), 0),
    }
    values = np.linspace(-1, 1, 90)
    return Evaluation(
        METRICS,
        errors,
        {"bulk": errors, "slab": errors},
        10,
        predicted={"energy": values[:10], "forces": values, "stress": np.zeros(0)},
        labelled={"energy": values[:10] + 0.1, "forces": values**2, "stress": np.zeros(0)},
    )


def test_the_line_of_an_epoch():
    assert epoch_line(ROW, METRICS, 100) == (
        "epoch   3/100  loss 0.5000 | 0.2500  E 1.5 | - meV/atom  F 20 | 30 meV/Å  S 0.1 | 0.2 meV/Å³  "
        "lr 0.01  1.23 s  *"
    )
    legend = epoch_legend(METRICS, has_validation=True, uses_average=True)
    assert legend == (
        "each line: training | validation (averaged weights); errors are RMSE; * = best so far; "
        "E = energy, F = forces, S = stress"
    )


def test_watched_metrics_fall_back_to_training():
    losses = Losses(ModelConfig(y_graph_scalars_loss_config={"name": "MSELoss"}), TARGETS)
    name = "val/total/loss"
    assert watched_metric(name, "training.monitor", losses, METRICS, has_validation=True) == name
    assert watched_metric(name, "training.monitor", losses, METRICS, has_validation=False) == "train/total/loss"
    with pytest.raises(
        ConfigError, match=r"training\.monitor: unknown metric 'val_loss'; this run has: val/total/loss"
    ):
        watched_metric("val_loss", "training.monitor", losses, METRICS, has_validation=True)


def test_tables_have_every_target_and_config_type(evaluation, tmp_path: Path):
    stream = io.StringIO()
    Console(file=stream, width=200).print(errors_table({"valid": evaluation}))
    for text in ("energy RMSE", "meV/atom", "meV/Å³", "bulk", "slab", "2000", "-"):
        assert text in stream.getvalue()
    write_errors({"valid": evaluation}, tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["config_type"], row["target"], row["rmse"]) for row in rows[:2]] == [
        ("all", "energy", "1.5"),
        ("all", "forces", "2000.0"),
    ]
    assert len(rows) == 6


def test_plots_are_drawn_without_global_state(evaluation, tmp_path: Path):
    before = dict(matplotlib.rcParams)
    parity_plot({"train": evaluation, "test": evaluation}, tmp_path / "parity.png")
    loss_curve([ROW, {**ROW, "epoch": 4, "val/total/loss": -1.0}], METRICS, tmp_path / "loss.png")
    assert dict(matplotlib.rcParams) == before
    for name in ("parity.png", "loss.png"):
        picture = image.imread(tmp_path / name)
        assert picture.shape[1] > picture.shape[0]
        assert picture.std() > 0.01


def test_nothing_to_draw_draws_nothing(evaluation, tmp_path: Path):
    empty = Evaluation(METRICS, evaluation.errors, {}, 0, {}, dict.fromkeys(evaluation.labelled, np.zeros(0)))
    parity_plot({"train": empty}, tmp_path / "parity.png")
    loss_curve([], METRICS, tmp_path / "loss.png")
    assert not list(tmp_path.iterdir())


def test_batches_by_edges_hold_everything_once():
    edges = [5, 5, 20, 1, 0, 9]
    assert edge_batches(edges, 10) == [[0, 1], [2], [3, 4, 5]]
    shares = [edge_batches(edges, 10, rank, 2) for rank in range(2)]
    assert shares == [[[0, 1], [3, 4, 5]], [[2]]]
    assert edge_batches([], 10) == []
