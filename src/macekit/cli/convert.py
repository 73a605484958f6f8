"""`macekit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from macekit.cli.failures import reported_failures

if TYPE_CHECKING:
    import torch

    from macekit.model.mace import Mace


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Model of mace-torch (.model), or directory of PhysicsML.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[ELEMENT]...", help="More of --elements.")] = None,
    head: Annotated[str | None, typer.Option(help="Level of theory to keep, of several.  [default: all]")] = None,
    elements: Annotated[
        list[str] | None, typer.Option(help="Elements to keep, such as --elements H C N O.  [default: all]")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="Precision of the weights; float64 keeps every digit.")
    ] = "float64",
    energy_unit: Annotated[
        str | None, typer.Option(help="PhysicsML only: unit of its labels, such as hartree.  [default: not converted]")
    ] = None,
) -> None:
    """Convert a model of mace-torch or PhysicsML exactly, without executing anything in its files.

    The directory holds config.json and model.safetensors and is used wherever a trained model is. Keeping only
    some elements makes it small and does not change predictions for them.
    """
    with reported_failures():
        import torch

        from macekit.interop.native import save_native
        from macekit.interop.physicsml.directory import is_physicsml

        precision = {"float32": torch.float32, "float64": torch.float64}[dtype]
        numbers = _atomic_numbers(elements or [], more or [])
        if is_physicsml(file):
            model, provenance = _of_physicsml(file, head, numbers, precision, energy_unit)
        else:
            model, provenance = _of_mace_torch(file, head, numbers, precision, energy_unit)
        save_native(model, out, provenance=provenance)
        for note in provenance.get("notes", []):
            typer.echo(f"note: {note}", err=True)
        count = sum(parameter.numel() for parameter in model.parameters())
        name = _heads_of(model) if model.facts.heads else provenance["model_class"]
        typer.echo(f"wrote {out}: {len(model.facts.elements)} elements, {name}, {count} parameters, {dtype}", err=True)


def _heads_of(model: Mace) -> str:
    """The levels of theory, and which is meant where none is named."""
    heads, default = list(model.facts.heads), model.facts.default_head
    if len(heads) == 1:
        return f"head {heads[0]}"
    return f"heads {', '.join(heads)} " + (f"(default: {default})" if default else "(no default: name one to predict)")


def _of_mace_torch(
    file: Path, head: str | None, elements: list[int] | None, dtype: torch.dtype, energy_unit: str | None
) -> tuple[Mace, dict[str, Any]]:
    from macekit.errors import UsageError
    from macekit.interop.mace_torch.convert import read_mace_torch

    if energy_unit is not None:
        raise UsageError("--energy-unit: models of mace-torch are in eV; leave it out")
    return read_mace_torch(file, head=head, elements=elements, dtype=dtype)


def _of_physicsml(
    file: Path, head: str | None, elements: list[int] | None, dtype: torch.dtype, energy_unit: str | None
) -> tuple[Mace, dict[str, Any]]:
    from macekit.errors import UsageError
    from macekit.interop.physicsml.convert import read_physicsml

    if head is not None:
        raise UsageError("--head: models of PhysicsML have one level of theory; leave it out")
    return read_physicsml(file, elements=elements, dtype=dtype, energy_unit=energy_unit)


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
