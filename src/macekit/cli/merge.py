"""`macekit merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macekit.cli.failures import reported_failures


def merge(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model directory with SSF or LoRA.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
) -> None:
    """Fold SSF or LoRA into the weights of a fine-tuned model: the same predictions at the speed of the base model."""
    with reported_failures():
        from macekit.interfaces.trained import load_model

        tuned = load_model(model, device="cpu")
        merged = tuned.merge()
        merged.save(out)
        before, after = (sum(p.numel() for p in found.module.parameters()) for found in (tuned, merged))
        typer.echo(
            f"wrote {out}: {tuned.config.tuner} folded away, {before:,} parameters before, {after:,} now", err=True
        )
