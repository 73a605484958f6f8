"""The executable: its verbs, and what is said without one."""

from __future__ import annotations

from typing import Annotated

import typer

from macekit.cli.bench import bench
from macekit.cli.convert import convert
from macekit.cli.demo import demo
from macekit.cli.evaluate import evaluate
from macekit.cli.info import info
from macekit.cli.merge import merge
from macekit.cli.predict import predict
from macekit.cli.prepare import prepare
from macekit.cli.train import train

app = typer.Typer(
    name="macekit",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import macekit

        print(f"macekit {macekit.__version__}")
        raise typer.Exit


@app.callback()
def macekit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Train, fine-tune and run MACE models."""


for _verb in (train, prepare, evaluate, predict, convert, merge, info, bench, demo):
    app.command()(_verb)


def main() -> None:
    """Run the command line of this process."""
    app()
