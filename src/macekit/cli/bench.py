"""`macekit bench`."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from macekit.cli.failures import reported_failures
from macekit.cli.options import ModelDirectory

if TYPE_CHECKING:
    from ase import Atoms

    from macekit.interfaces.timing import Timing
    from macekit.interfaces.trained import TrainedModel

SIZES = (64, 216)
LARGEST_BATCH = 10


def bench(
    model: ModelDirectory,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA...]", help="Files of structures; the first ten serve.  [default: made up]"),
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads, several times for several.", min=1)] = None,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Precision of the network.")] = "float32",
    seconds: Annotated[float, typer.Option(help="How long to repeat each piece of work.", min=0.0)] = 2.0,
    train: Annotated[bool, typer.Option("--train", help="Time training steps too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast a model is on this machine: energy and forces through its ASE calculator, training steps."""
    with reported_failures():
        from macekit.interfaces import timing
        from macekit.interfaces.trained import load_model

        loaded = load_model(model, device="cpu")
        structures = _structures(loaded, data)
        found = []
        counts: list[int | None] = [*threads] if threads else [None]
        for count in counts:
            with timing.threads(count):
                found += [timing.time_calls(loaded, atoms, seconds, dtype) for atoms in structures]
                if train:
                    batch = structures[:LARGEST_BATCH] if data else structures[:1]
                    found.append(timing.time_training(loaded, batch, seconds, dtype))
        if json:
            typer.echo(dumps([_plain(item) for item in found], indent=2))
        else:
            typer.echo("\n".join([timing.kernels(dtype), *_table(found)]))


def _structures(model: TrainedModel, data: list[str] | None) -> list[Atoms]:
    from macekit.interfaces.timing import packed

    if not data:
        return [packed(model, size) for size in SIZES]
    from macekit.data.files import read_atoms

    return [atoms for file in data for atoms in read_atoms(file)][:LARGEST_BATCH]


def _plain(timing: Timing) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(timing) | {"median": timing.median, "nanoseconds_per_day": timing.nanoseconds_per_day}


def _table(timings: list[Timing]) -> Iterator[str]:
    yield f"{'work':17}{'structure':22}{'atoms':>7}{'edges':>9}{'threads':>9}{'ms':>11}{'µs/atom':>10}{'ns/day':>9}"
    for t in timings:
        speed = "" if t.nanoseconds_per_day is None else f"{t.nanoseconds_per_day:.3g}"
        yield (
            f"{t.work:17}{t.structure[:20]:22}{t.atoms:>7}{t.edges:>9}{t.threads:>9}{1e3 * t.median:>11.3f}"
            f"{1e6 * t.median / t.atoms:>10.1f}{speed:>9}"
        )
    yield "medians; ns/day with steps of 1 fs"
