"""`macekit info`."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from macekit.cli.failures import reported_failures


def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model directory, or model file of mace-torch.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a model is and what it can predict, without executing anything in its files."""
    with reported_failures():
        from macekit.interop.inspection import model_summary

        summary = model_summary(model)
        typer.echo(dumps(summary, indent=2, ensure_ascii=False) if json else "\n".join(_lines(summary)))


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    yield f"{'format':26}{summary['format']}"
    yield f"{'predicts':26}{', '.join(summary['predicts'])}"
    yield f"{'elements':26}{' '.join(summary['elements'])}"
    yield f"{'cutoff':26}{summary['cutoff']:g} Å"
    yield f"{'neighbours':26}{summary['avg_num_neighbours']:.4g} on average"
    yield f"{'parameters':26}{summary['parameters']} ({summary['dtype']})"
    yield f"{'units':26}{', '.join(f'{name} {unit}' for name, unit in summary['units'].items())}"
    for name, value in summary["architecture"].items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield f"{name:26}{text}"
    unit = summary["units"]["energy"]
    several = len(summary["heads"]) > 1
    for name, targets in summary["heads"].items():
        yield f"{'head':26}{name}" + (" (default)" if several and name == summary["default_head"] else "")
        for target, values in targets.items():
            yield f"{f'  {target}':26}scale {values['scale']:.6g}, shift {values['shift']:.6g} ({unit})"
            energies = [f"{symbol} {energy:.6g}" for symbol, energy in values["reference_energies"].items()]
            yield f"{'  E0':26}{', '.join(energies)}"
    for name, value in summary["provenance"].items():
        yield f"{name:26}{value}"
    yield f"{'sha256':26}{summary['sha256']}"
