"""The metrics of an epoch: their names, the one that decides, and the line that is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from macekit.errors import ConfigError, did_you_mean
from macekit.training.losses import Losses, LossSums
from macekit.training.metrics import TargetMetric, errors_from_sums


def named_metrics(
    prefix: str, sums: LossSums, errors: Tensor, losses: Losses, metrics: list[TargetMetric]
) -> dict[str, float]:
    """Metrics by name: losses as `val/total/loss` and `val/total/{output}`, errors as `val/{target}/rmse`.

    Errors of one level of theory are `val/{head}/{target}/rmse`.

    Args:
        prefix: "train" or "val".
        sums: Sums of the loss over a whole data set.
        errors: Sums of the errors over it, [M, 3].
        losses: What the loss is made of.
        metrics: What the errors belong to.
    """
    parts = losses.per_output(sums).tolist()
    row = {f"{prefix}/total/loss": math.fsum(parts)}
    row |= {f"{prefix}/total/{output}": part for output, part in zip(losses.outputs, parts, strict=True)}
    for target, error in errors_from_sums(errors, metrics).items():
        row |= {f"{prefix}/{target}/rmse": error.rmse, f"{prefix}/{target}/mae": error.mae}
    return row


def watched_metric(name: str, where: str, losses: Losses, metrics: list[TargetMetric], *, has_validation: bool) -> str:
    """The metric to watch: the given one, or that of training where there is no validation set.

    Args:
        name: Name of a metric.
        where: Key in the run file, for the message.
        losses: What the loss is made of.
        metrics: What is measured.
        has_validation: Whether there is a validation set.

    Raises:
        ConfigError: If the run will have no such metric.
    """
    nothing = torch.zeros(len(metrics), 3, dtype=torch.float64)
    known = [
        key for prefix in ("val", "train") for key in named_metrics(prefix, losses.empty(), nothing, losses, metrics)
    ]
    if name not in known:
        raise ConfigError(
            f"{where}: unknown metric '{name}'; this run has: {', '.join(known)}", did_you_mean(name, known)
        )
    return name if has_validation else name.replace("val/", "train/", 1)


def epoch_line(row: Mapping[str, Any], metrics: Sequence[TargetMetric], num_epochs: int) -> str:
    """The line of an epoch: loss and root mean square errors, training then validation, rate, time, best."""
    width = len(str(num_epochs))
    parts = [f"epoch {row['epoch']:{width}d}/{num_epochs}", "loss " + _pair(row, "total/loss", "#.4g")]
    parts += [
        f"{metric.symbol} {_pair(row, f'{metric.target}/rmse', '.4g')} {metric.unit}".rstrip()
        for metric in metrics
        if not metric.head
    ]
    parts += [f"lr {row['lr']:.2g}", f"{row['seconds']:.2f} s"]
    return "  ".join(parts) + ("  *" if row["is_best"] else "")


def epoch_legend(metrics: Sequence[TargetMetric], *, has_validation: bool, uses_average: bool) -> str:
    """What the numbers in the lines of epochs are."""
    named = [metric for metric in metrics if metric.symbol != metric.target and not metric.head]
    symbols = ", ".join(f"{metric.symbol} = {metric.target}" for metric in named)
    sets = "training | validation" if has_validation else "training"
    average = " (averaged weights)" if uses_average and has_validation else ""
    return f"each line: {sets}{average}; errors are RMSE; * = best so far" + (f"; {symbols}" if symbols else "")


def _pair(row: Mapping[str, Any], name: str, form: str) -> str:
    values = [row[key] for key in (f"train/{name}", f"val/{name}") if key in row]
    return " | ".join("-" if math.isnan(value) else format(value, form) for value in values)
