"""The surface of the command line, frozen, and how fast it answers."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from macekit.cli import app

SURFACE = {
    "train": ["RUN.yaml", "[KEY=VALUE]...", "--resume", "--dry-run"],
    "prepare": ["DATA", "OUT", "[KEY=VALUE]..."],
    "evaluate": ["MODEL", "DATA...", "--config", "--key", "--output", "--head", "--device", "--dtype", "--batch-edges"],
    "predict": ["MODEL", "DATA...", "--output", "--std", "--prefix", "--overwrite", "--head", "--device", "--dtype"],
    "convert": ["MODEL", "OUT", "[ELEMENT]...", "--head", "--elements", "--dtype", "--energy-unit", "--to"],
    "merge": ["MODEL", "OUT"],
    "info": ["MODEL", "--json"],
    "bench": ["MODEL", "[DATA...]", "--threads", "--dtype", "--seconds", "--train", "--json"],
    "demo": ["--directory", "--epochs", "--md-steps"],
}
"""Verbs with their arguments and flags. A change here is one that users see."""


def surface() -> dict[str, list[str]]:
    found = {}
    for command in app.registered_commands:
        assert command.callback is not None
        words = []
        for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
            (info,) = parameter.annotation.__metadata__
            flags = [flag for flag in (info.param_decls or ()) if flag.startswith("--")]
            is_argument = type(info).__name__ == "ArgumentInfo"
            words += [info.metavar] if is_argument else flags or [f"--{name.replace('_', '-')}"]
        found[command.callback.__name__] = words
    return found


def test_verbs_and_flags() -> None:
    assert surface() == SURFACE


def test_no_verb_has_more_than_eight_flags() -> None:
    assert all(sum(word.startswith("--") for word in words) <= 8 for words in surface().values())


@pytest.mark.parametrize("verb", ["", *SURFACE])
def test_help(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"] if verb else ["--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    words = SURFACE[verb] if verb else [*SURFACE, "--version"]
    assert all(word.strip("[].") in result.output for word in words if word != "[KEY=VALUE]...")


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("macekit ")


@pytest.mark.parametrize(
    "arguments", [["train"], ["trian", "x"], ["predict", "m", "d", "--dtype", "float16"], ["demo", "--foo"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output
    assert "Traceback" not in result.output


def seconds(*arguments: str) -> float:
    """Processor time of a fresh interpreter, the best of three (elapsed time depends on what else is running)."""
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        used = after.children_user - before.children_user + after.children_system - before.children_system
        times.append(used)
    return min(times)


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_import_is_quick_and_light() -> None:
    assert not modules_after("import macekit") & {"torch", "ase", "pydantic", "numpy", "matplotlib", "yaml"}
    assert seconds("-c", "import macekit") < 0.3


def test_help_is_quick_and_light() -> None:
    heavy = {"torch", "ase", "numpy", "matplotlib", "pydantic"}
    assert not modules_after("import macekit.cli") & heavy
    assert seconds("-m", "macekit", "--help") < 0.5


def test_module_and_executable_are_the_same() -> None:
    result = subprocess.run([sys.executable, "-m", "macekit", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("macekit ")
