"""`macekit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from macekit.cli.failures import reported_failures

if TYPE_CHECKING:
    from macekit.model.mace import Mace


def convert(
    file: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Model file of mace-torch, or model directory of PhysicsML or macekit."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[ELEMENT]...", help="More of --elements.")] = None,
    head: Annotated[str | None, typer.Option(help="Level of theory to keep, of several.  [default: all]")] = None,
    elements: Annotated[
        list[str] | None, typer.Option(help="Elements to keep, such as --elements H C N O.  [default: all]")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"] | None,
        typer.Option(help="Precision of the weights.  [default: float64, which keeps every digit; macekit's as saved]"),
    ] = None,
    energy_unit: Annotated[
        str | None, typer.Option(help="PhysicsML only: unit of its labels, such as hartree.  [default: not converted]")
    ] = None,
    to: Annotated[Literal["macekit", "physicsml"], typer.Option("--to", help="Format of the directory.")] = "macekit",
) -> None:
    """Convert a model exactly, without executing anything in its files.

    From mace-torch, PhysicsML or macekit to macekit: the directory holds config.json and model.safetensors and is used
    wherever a trained model is. Keeping only some elements makes it small and does not change predictions for them.
    With --to physicsml, a mace_model becomes a model directory that PhysicsML loads.
    """
    with reported_failures():
        import torch

        from macekit.interop.native import save_native
        from macekit.interop.physicsml.export import write_physicsml
        from macekit.interop.reading import read_model

        model, provenance = read_model(
            file,
            head=head,
            elements=_atomic_numbers(elements or [], more or []),
            dtype=None if dtype is None else {"float32": torch.float32, "float64": torch.float64}[dtype],
            energy_unit=energy_unit,
        )
        if to == "physicsml":
            notes = write_physicsml(model, out)
        else:
            save_native(model, out, provenance=provenance)
            notes = provenance.get("notes", [])
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"wrote {out}: {_described(model, provenance)}", err=True)


def _described(model: Mace, provenance: dict[str, Any]) -> str:
    """Elements, levels of theory or kind, size and precision."""
    name = _heads_of(model) if model.facts.heads else provenance.get("model_class", model.config.name)
    count = sum(parameter.numel() for parameter in model.parameters())
    precision = str(model.dtype).removeprefix("torch.")
    return f"{len(model.facts.elements)} elements, {name}, {count} parameters, {precision}"


def _heads_of(model: Mace) -> str:
    """The levels of theory, and which is meant where none is named."""
    heads, default = list(model.facts.heads), model.facts.default_head
    if len(heads) == 1:
        return f"head {heads[0]}"
    return f"heads {', '.join(heads)} " + (f"(default: {default})" if default else "(no default: name one to predict)")


def _atomic_numbers(elements: list[str], more: list[str]) -> list[int] | None:
    """Atomic numbers of symbols, which may be separated by spaces, commas, or repeated options."""
    from ase.data import atomic_numbers

    from macekit.errors import UsageError, did_you_mean

    if more and not elements:
        raise UsageError(f"unexpected {' '.join(more)} after OUT", "name elements with --elements H C N O")
    symbols = [symbol for word in (*elements, *more) for symbol in word.replace(",", " ").split()]
    for symbol in symbols:
        if symbol == "X" or symbol not in atomic_numbers:
            raise UsageError(
                f"--elements: '{symbol}' is no chemical symbol", did_you_mean(symbol, list(atomic_numbers)[1:])
            )
    return [int(atomic_numbers[symbol]) for symbol in symbols] or None
