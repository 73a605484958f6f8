"""Parity plots and the loss curve, drawn without touching matplotlib's global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from macekit.training.evaluation import Evaluation
from macekit.training.metrics import TargetMetric

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that colour-blind readers can tell apart."""
_MAX_POINTS: Final = 20_000
_LABEL_UNITS: Final = {"meV/atom": "eV/atom", "meV/Å": "eV/Å", "meV/Å³": "eV/Å³"}


def parity_plot(evaluations: Mapping[str, Evaluation], path: Path) -> None:
    """Prediction against label, one square panel per target that has labels, one colour per data set.

    Args:
        evaluations: By name of the data set, all of the same model.
        path: PNG file to write. Nothing is written if no target has labels.
    """
    metrics = [
        metric
        for metric in next(iter(evaluations.values())).metrics
        if any(len(evaluation.labelled[metric.target]) for evaluation in evaluations.values())
    ]
    if not metrics:
        return
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.4 * columns, 4.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for index, metric in enumerate(metrics):
        _panel(figure.add_subplot(rows, columns, index + 1), metric, evaluations)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, metric: TargetMetric, evaluations: Mapping[str, Evaluation]) -> None:
    low, high = np.inf, -np.inf
    for colour, (name, evaluation) in zip(_cycle(len(evaluations)), evaluations.items(), strict=True):
        label, prediction = evaluation.labelled[metric.target], evaluation.predicted[metric.target]
        if not len(label):
            continue
        low, high = min(low, label.min(), prediction.min()), max(high, label.max(), prediction.max())
        step = -(-len(label) // _MAX_POINTS)
        rmse = evaluation.errors[metric.target].rmse
        number = f"{rmse:.0f}" if rmse >= 100 else f"{rmse:.3g}"
        legend = f"{name}: {number} {metric.unit}".rstrip()
        size = 7.0 if len(label) < 500 else 3.0
        axes.plot(
            label[::step],
            prediction[::step],
            ".",
            ms=size,
            alpha=0.6,
            mew=0,
            color=colour,
            label=legend,
            rasterized=True,
        )
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, "-", color="0.4", lw=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=metric.target)
    axes.locator_params(nbins=5)  # labels of many digits must not run into each other
    unit = _LABEL_UNITS.get(metric.unit, metric.unit)
    suffix = f" ({unit})" if unit else ""
    beyond = " − reference" if metric.per_atom else ""
    axes.set_xlabel(f"label{beyond}{suffix}")
    axes.set_ylabel(f"prediction{beyond}{suffix}")
    axes.legend(title="RMSE", fontsize=8, title_fontsize=8, loc="upper left", framealpha=0.8)


def loss_curve(history: Sequence[Mapping[str, Any]], metrics: Sequence[TargetMetric], path: Path) -> None:
    """Loss and errors over epochs, training dashed and validation solid, on logarithmic axes.

    Args:
        history: Rows of metrics, one per epoch.
        metrics: Targets to show, one panel each.
        path: PNG file to write. Nothing is written without any epoch.
    """
    if not history:
        return
    panels = [("total/loss", "loss", "")] + [
        (f"{metric.target}/rmse", f"{metric.target} RMSE", metric.unit) for metric in metrics
    ]
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (name, title, unit) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for prefix, style, colour in (("train", "--", COLOURS[0]), ("val", "-", COLOURS[1])):
            values = np.array([_number(row.get(f"{prefix}/{name}")) for row in history])
            shown = np.isfinite(values)
            if shown.any():
                epochs = np.array([row["epoch"] for row in history])
                axes.plot(epochs[shown], values[shown], style, color=colour, lw=1.2, label=prefix)
                axes.set_yscale("log" if name != "total/loss" or (values[np.isfinite(values)] > 0).all() else "linear")
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
            axes.yaxis.set_minor_formatter(_FewMinorLabels())
        axes.set(xlabel="epoch", ylabel=f"{title} ({unit})" if unit else title)
        axes.grid(visible=True, which="both", lw=0.3, alpha=0.5)
        if axes.get_lines():
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


class _FewMinorLabels(LogFormatter):
    """Plain numbers between the powers of ten, only where the axis spans little."""

    def __init__(self) -> None:
        super().__init__(labelOnlyBase=False, minor_thresholds=(1.5, 0.6))

    def _num_to_string(self, value: float, low: float, high: float) -> str:
        return f"{value:.4g}"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
