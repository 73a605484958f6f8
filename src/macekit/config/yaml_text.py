"""YAML as people write it: the scalars of YAML 1.2, no repeated keys, errors with line and column."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from macekit.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalars of YAML 1.2: `5e-7` is a number, `No`, `on` and dates are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as in the base)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, refusing to let a later key silently win."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "merge": (r"<<", "<"),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _starts = ["" if character == "\0" else character for character in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML text holds, None for an empty text.

    Args:
        text: YAML.
        where: What is being read, the start of an error message.

    Raises:
        ConfigError: Names the line and the column, both counted from 1.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}: {place}{error.problem or error.context}", _hint(error)) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{where}: not YAML: character {error.position} ({error.reason})") from None


def _hint(error: yaml.MarkedYAMLError) -> str | None:
    problem = error.problem or ""
    if "\\t" in problem or "'\\t'" in problem:
        return "YAML is indented with spaces; replace the tabs"
    if "mapping values are not allowed" in problem:
        return "text with ': ' inside needs quotes; a nested section starts on its own line"
    return None
