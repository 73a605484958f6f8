"""`macekit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macekit.cli.failures import reported_failures
from macekit.cli.options import DataFiles, Device, Head, ModelDirectory, Precision

if TYPE_CHECKING:
    from ase import Atoms


def predict(
    model: ModelDirectory,
    data: DataFiles,
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz file to write.")] = Path("predictions.extxyz"),
    std: Annotated[bool, typer.Option("--std", help="Also write standard deviations of graph scalars.")] = False,
    prefix: Annotated[str, typer.Option(help="Start of the names of predicted values.")] = "macekit_",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    head: Head = None,
    device: Device = "auto",
    dtype: Precision = None,
) -> None:
    """Predict every target of the structures in files and write them as extxyz.

    Everything in the input is kept; predictions are added as macekit_energy, macekit_forces and so on, in eV
    and Å.
    """
    with reported_failures():
        _check_output(output, overwrite)
        from macekit.data.files import read_atoms
        from macekit.interfaces.trained import load_model

        trained = load_model(model, device=device, dtype=dtype)
        frames = [atoms for file in data for atoms in read_atoms(file)]
        if std:
            predictions, deviations = trained.predict_with_std(frames, head=head)
            predictions |= {f"{name}_std": values for name, values in deviations.items()}
        else:
            predictions = trained.predict(frames, head=head)
        _write(frames, predictions, trained.targets, prefix, output)
        typer.echo(f"wrote {len(frames)} structures with {', '.join(predictions)} to {output}", err=True)


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse before the work is done, not after."""
    from macekit.errors import UsageError

    if output.is_dir():
        raise UsageError(f"--output {output}: expected a file name, this is a directory")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist", f"mkdir -p {output.parent}")
    if output.exists() and not overwrite:
        raise UsageError(f"--output {output}: the file exists", "give another name, or --overwrite")


def _write(frames: list[Atoms], predictions: dict[str, Any], kinds: dict[str, str], prefix: str, output: Path) -> None:
    """Write copies of the frames with the predictions added."""
    from ase.io import write

    from macekit.errors import UsageError

    images = []
    for index, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = frame.calc
        for name, values in predictions.items():
            place = atoms.arrays if kinds.get(name, "").startswith("node_") else atoms.info
            place[prefix + name] = values[index] if place is atoms.arrays else _plain(values[index])
        images.append(atoms)
    temporary = output.with_name(f".{output.name}.part")
    try:
        write(temporary, images, format="extxyz")
        temporary.replace(output)
    except OSError as error:
        raise UsageError(f"--output {output}: cannot be written: {error.strerror}") from None


def _plain(value: Any) -> Any:
    """A number as float, anything else as an array."""
    return float(value) if getattr(value, "ndim", 0) == 0 else value
