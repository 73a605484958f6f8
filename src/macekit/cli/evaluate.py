"""`macekit evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macekit.cli.failures import reported_failures
from macekit.cli.options import DataFiles, Device, Head, ModelDirectory, Precision

if TYPE_CHECKING:
    from macekit.config.data import DataConfig
    from macekit.config.facts import DatasetFacts
    from macekit.training.evaluation import Evaluation


def evaluate(
    model: ModelDirectory,
    data: DataFiles,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Run file whose data.keys and data.units are used.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="Key in the files for a target, as in energy=REF_energy; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for errors.csv and parity.png.")
    ] = None,
    head: Head = None,
    device: Device = "auto",
    dtype: Precision = None,
    batch_edges: Annotated[int, typer.Option(min=1, help="Edges per batch; bounds the memory.")] = 20_000,
) -> None:
    """Print the errors of a model on labelled structures, one row per file.

    RMSE and MAE of every target that has labels; energies per atom. The level of theory is the one that a frame names
    as head, unless --head says otherwise.
    """
    with reported_failures(output):
        from macekit.config.data import SourceConfig
        from macekit.data.reader import read_structures
        from macekit.interfaces.trained import load_model
        from macekit.training.evaluation import evaluate_dataset

        trained = load_model(model, device=device, dtype=dtype)
        settings = _settings(config, key or [], data, trained.facts)
        evaluations = {}
        for name, file in zip(_names(data), data, strict=True):
            found = read_structures(SourceConfig(file=file, head=head), settings, labels="any")
            for warning in found.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            evaluations[name] = evaluate_dataset(trained.module, found.structures, batch_edges=batch_edges)
        _report(evaluations, output)


def _settings(config: Path | None, keys: Sequence[str], files: Sequence[str], facts: DatasetFacts) -> DataConfig:
    """How labels are read: the model decides on targets and features, the user on keys and units."""
    from macekit.config.data import DataConfig
    from macekit.config.loading import load_run
    from macekit.errors import UsageError

    values: dict[str, object] = {}
    if config is not None:
        given = load_run(config).data
        values = {"keys": given.keys, "units": given.units, "on_bad_frame": given.on_bad_frame}
        values["keys"] = {target: key for target, key in given.keys.items() if target in facts.targets.kinds()}
    chosen = {}
    for text in keys:
        target, equals, name = text.partition("=")
        if not (target and equals and name):
            raise UsageError(f"--key {text}: expected target=key, as in energy=REF_energy")
        chosen[target] = name
    merged = values.get("keys", {})
    assert isinstance(merged, Mapping)
    return DataConfig.from_dict(
        {
            **values,
            "train": list(files),
            "keys": {**merged, **chosen},
            "cutoff": facts.cutoff,
            "targets": facts.targets,
            "node_features": facts.node_features,
            "edge_features": facts.edge_features,
        },
        "macekit evaluate",
    )


def _names(files: Sequence[str]) -> list[str]:
    """Short names of files where these differ, otherwise the files as given."""
    short = [Path(file).name for file in files]
    if len(set(short)) == len(short):
        return short
    return list(dict.fromkeys(files)) if len(set(files)) == len(files) else [f"{n}: {f}" for n, f in enumerate(files)]


def _report(evaluations: Mapping[str, Evaluation], output: Path | None) -> None:
    """Print the table; write it and the plots where a directory is given."""
    from rich.console import Console

    from macekit.errors import UsageError
    from macekit.training.plots import parity_plot
    from macekit.training.reports import errors_table, write_errors

    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(errors_table(evaluations, title="errors"))
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_errors(evaluations, output / "errors.csv")
        parity_plot(evaluations, output / "parity.png")
    except OSError as error:
        raise UsageError(f"--output {output}: cannot be written: {error.strerror}") from None
    print(f"wrote {output / 'errors.csv'} and {output / 'parity.png'}", file=sys.stderr)
