"""`macekit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from macekit.cli.failures import reported_failures


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model file of mace-torch, or directory of PhysicsML.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[ELEMENT]...", help="More of --elements.")] = None,
    head: Annotated[str | None, typer.Option(help="Level of theory, where the model has several.")] = None,
    elements: Annotated[
        list[str] | None, typer.Option(help="Elements to keep, such as --elements H C N O.  [default: all]")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="Precision of the weights; float64 keeps every digit.")
    ] = "float64",
) -> None:
    """Convert a model of mace-torch or PhysicsML exactly, without executing anything in its files.

    The directory holds config.json and model.safetensors and is used wherever a trained model is. Keeping only
    some elements makes it small and does not change predictions for them.
    """
    with reported_failures():
        import torch

        from macekit.errors import UsageError
        from macekit.interop.mace_torch.convert import read_mace_torch
        from macekit.interop.native import save_native
        from macekit.interop.physicsml.convert import read_physicsml

        precision = {"float32": torch.float32, "float64": torch.float64}[dtype]
        numbers = _atomic_numbers(elements or [], more or [])
        if file.is_dir():
            if head is not None or numbers is not None:
                raise UsageError("--head, --elements: these are for models of mace-torch; leave them out")
            model, provenance = read_physicsml(file, precision)
        else:
            model, provenance = read_mace_torch(file, head=head, elements=numbers, dtype=precision)
        save_native(model, out, provenance=provenance)
        count = sum(parameter.numel() for parameter in model.parameters())
        typer.echo(
            f"wrote {out}: {len(model.facts.elements)} elements, head {provenance['head']}, "
            f"{count} parameters, {dtype}",
            err=True,
        )


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
