"""Tables of errors: printed, and as `errors.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from macekit.training.evaluation import Evaluation
from macekit.training.metrics import TargetErrors, TargetMetric

ALL = "all"
"""Name of the row over all config types."""


def errors_table(evaluations: Mapping[str, Evaluation], title: str = "errors") -> Table:
    """RMSE and MAE of every target, one row per data set, head and config type.

    Args:
        evaluations: By name of the data set, all of the same model.
        title: Printed above.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("data")
    table.add_column("structures", justify="right")
    metrics = next(iter(evaluations.values())).metrics
    for metric in metrics:
        unit = f"\n{metric.unit}" if metric.unit else "\n"
        table.add_column(f"{metric.target} RMSE{unit}", justify="right")
        table.add_column(f"{metric.target} MAE{unit}", justify="right")
    for name, evaluation in evaluations.items():
        cells = _cells(evaluation.errors, metrics)
        table.add_row(name, str(evaluation.num_structures), *cells)
        for head, errors in evaluation.by_head.items():
            table.add_row(f"  head {head}", "", *_cells(errors, metrics), style="dim")
        if len(evaluation.by_config_type) > 1:
            for config_type, errors in evaluation.by_config_type.items():
                table.add_row(f"  {config_type}", "", *_cells(errors, metrics), style="dim")
    return table


def write_errors(evaluations: Mapping[str, Evaluation], path: Path) -> None:
    """Write one row per data set, config type or head, and target: unit, RMSE, MAE and number of elements."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "config_type", "target", "unit", "rmse", "mae", "count", "head"])
        for name, evaluation in evaluations.items():
            groups = [(ALL, ALL, evaluation.errors)]
            groups += [(head, ALL, errors) for head, errors in evaluation.by_head.items()]
            if len(evaluation.by_config_type) > 1:
                groups += [(ALL, config_type, errors) for config_type, errors in evaluation.by_config_type.items()]
            for head, config_type, errors in groups:
                for metric in evaluation.metrics:
                    error = errors[metric.target]
                    if error.count:
                        writer.writerow(
                            [
                                name,
                                config_type,
                                metric.target,
                                metric.unit,
                                error.rmse,
                                error.mae,
                                error.count,
                                head,
                            ]
                        )


def _cells(errors: Mapping[str, TargetErrors], metrics: list[TargetMetric]) -> list[str]:
    cells = []
    for metric in metrics:
        error = errors[metric.target]
        cells += [f"{error.rmse:.4g}", f"{error.mae:.4g}"] if error.count else ["-", "-"]
    return cells
