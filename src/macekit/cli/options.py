"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

ModelDirectory: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Directory of a trained model (config.json, model.safetensors)."),
]
DataFiles: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="DATA...", help="Files of structures: extxyz, or anything ASE reads.")
]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Head: TypeAlias = Annotated[
    str | None, typer.Option(help="Level of theory, where the model has several.  [default: the model's]")
]
Precision: TypeAlias = Annotated[
    Literal["float32", "float64"] | None, typer.Option(help="Precision of the network.  [default: as saved]")
]
