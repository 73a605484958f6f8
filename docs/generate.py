"""Write the generated pages of the reference: configuration and command line.

python docs/generate.py            # write
python docs/generate.py --check    # say whether they are as they would be written; exit code 1 if not
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.models import ArgumentInfo, OptionInfo

from macekit.cli import app
from macekit.config import DatasetFacts, TrainingRun
from macekit.config.base import Config, nested_config
from macekit.config.model import VARIANTS
from macekit.config.preset_files import preset_names, preset_summary

REFERENCE = Path(__file__).parent / "reference"
TITLES = {
    "model.y_node_scalars_loss_config": "model, every ..._loss_config",
    "data.train": "data.train, a file with a weight",
    "finetune.stages": "finetune.stages, every stage",
}
"""Headings of sections that are used in several places, or in one of several forms."""
NOTE = "<!-- Written by docs/generate.py; change the source, not this page. -->"


def main() -> int:
    """Write or check both pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"docs/reference: {', '.join(stale)} out of date; run: make docs-reference", file=sys.stderr)
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"config.md": config_page(), "cli.md": cli_page()}


def config_page() -> str:
    """Every field of a run file, from its type, default and docstring."""
    lines = [
        "# Configuration", "", NOTE, "",
        "A run file has four sections: `model`, `data`, `training` and `run`, and a fifth, `finetune`, where training "
        "starts from a trained model. Unknown fields are errors. "
        "Relative paths of data are relative to the folder of the run file. Overrides on the command line name "
        "fields by their dotted path: `training.optimizer.config.lr=0.001`.", "",
        "## The four models", "",
        "| `model.name` | sets |", "|---|---|",
    ]  # fmt: skip
    for name, deltas in VARIANTS.items():
        lines.append(f"| `{name}` | {', '.join(f'`{key}: {value}`' for key, value in deltas.items()) or 'nothing'} |")
    lines += ["", "## Presets", "", "`preset: NAME` puts these sections below those of a run file.", ""]
    lines += ["| `preset` | |", "|---|---|", *(f"| `{name}` | {preset_summary(name)} |" for name in preset_names())]
    for path, kind in sections(TrainingRun):
        lines += ["", f"## {TITLES.get(path, path)}", "", first_sentence(kind.__doc__), "", *field_table(kind)]
    facts = "Measured from the training structures, kept in `config.json`, and given by you only to `build_model`."
    lines += ["", "## Facts", "", f"{first_sentence(DatasetFacts.__doc__)} {facts}", "", *field_table(DatasetFacts)]
    return "\n".join(lines) + "\n"


def sections(kind: type[Config], path: str = "") -> Iterator[tuple[str, type[Config]]]:
    """Every configuration class inside another, with the dotted path of its first use."""
    seen: set[type[Config]] = set()
    waiting: list[tuple[str, type[Config]]] = [(path, kind)]
    while waiting:
        where, current = waiting.pop(0)
        inner = []
        for name, field in current.model_fields.items():
            nested = nested_config(field.annotation)
            if nested is not None and nested not in seen:
                seen.add(nested)
                inner.append((f"{where}.{name}".lstrip("."), nested))
        if where:
            yield where, current
        waiting = inner + waiting


def field_table(kind: type[Config]) -> list[str]:
    """A table of the fields of one class."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    descriptions = kind.descriptions()
    for name, field in kind.model_fields.items():
        meaning = re.sub(r"\s+", " ", descriptions.get(name, "")).strip()
        rows.append(
            f"| `{name}` | {cell(type_of(field))} | {cell(default_of(field))} | {meaning.replace('|', chr(92) + '|')} |"
        )
    return rows


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def type_of(field: FieldInfo) -> str:
    """What a field takes, in the words of a run file."""
    return f"{words(field.annotation)} {limits(field.metadata)}".strip()


def limits(metadata: Iterable[Any]) -> str:
    """Bounds of a number, such as `> 0, < 1`."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    plain = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return ", ".join(
        f"{sign} {getattr(item, name)}" for item in plain for name, sign in signs.items() if hasattr(item, name)
    )


def words(annotation: Any) -> str:
    plain = {int: "int", float: "float", str: "text", bool: "bool", Path: "path", type(None): "null", Any: "anything"}
    if annotation in plain:
        return plain[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if hasattr(annotation, "__metadata__"):
        return f"{words(annotation.__origin__)} {limits(annotation.__metadata__)}".strip()
    if origin is list:
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return f"mapping to {words(arguments[1])}"
    if str(origin) == "typing.Literal":
        return ", ".join(f"`{value}`" for value in arguments)
    return " or ".join(dict.fromkeys(words(argument) for argument in arguments))


def default_of(field: FieldInfo) -> str:
    """The default as it is written in YAML."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Config):
        return "its defaults" if not value.model_fields_set else flow(value.model_dump(mode="json"))
    return f"`{flow(value)}`"


def flow(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000, sort_keys=False)
        .replace("\n...", "")
        .strip()
    )


def first_sentence(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ")


def cli_page() -> str:
    """Every verb with its arguments and flags, from the signatures of the code."""
    lines = ["# Command line", "", NOTE, "",
             "Progress and messages go to the standard error, results to the standard output. "
             "Exit codes are in [When something goes wrong](../guides/troubleshooting.md). "
             "`macekit --version` prints the version, `macekit VERB --help` what is below.", ""]  # fmt: skip
    for command in app.registered_commands:
        assert command.callback is not None
        parameters = inspect.signature(command.callback, eval_str=True).parameters
        infos = {name: parameter.annotation.__metadata__[0] for name, parameter in parameters.items()}
        arguments = [info.metavar for info in infos.values() if isinstance(info, ArgumentInfo)]
        verb = command.callback.__name__
        lines += [f"## macekit {verb}", "", "```text", " ".join(["macekit", verb, "[OPTIONS]", *arguments]), "```", "",
                  inspect.cleandoc(command.callback.__doc__ or ""), "", "| | default | |", "|---|---|---|"]  # fmt: skip
        lines += [parameter_row(name, infos[name], parameter) for name, parameter in parameters.items()]
        lines.append("")
    return "\n".join(lines)


def parameter_row(name: str, info: ArgumentInfo | OptionInfo, parameter: inspect.Parameter) -> str:
    text, _, stated = (info.help or "").partition("  [default: ")
    if isinstance(info, ArgumentInfo):
        return f"| `{info.metavar}` | | {text} |"
    flags = list(info.param_decls or ())
    if not any(flag.startswith("--") for flag in flags):
        flags.insert(0, f"--{name.replace('_', '-')}")
    names = ", ".join(f"`{flag}`" for flag in flags)
    value = parameter.default
    default = stated.rstrip("]") or ("" if value in (None, False) else f"`{value}`")
    kind = words(parameter.annotation.__origin__).removesuffix(" or null")
    return f"| {names}{'' if kind == 'bool' else f' ({kind})'} | {default} | {text} |"


if __name__ == "__main__":
    sys.exit(main())
