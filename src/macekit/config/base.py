"""The base of every configuration object: frozen, strict about unknown keys, with readable errors."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from macekit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Config(BaseModel):
    """A frozen configuration object. The docstring under each field is its only description."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # built when first used: quick to import
    synonyms: ClassVar[dict[str, str]] = {}
    """Short names of fields, which run files and overrides may use."""

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """The docstrings under the fields, by field, read from the source: those of base classes included."""
        found: dict[str, str] = {}
        for owner in reversed(cls.__mro__):
            if owner is not Config and issubclass(owner, Config):
                found |= _docstrings_under_fields(owner)
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Validate a plain mapping.

        Args:
            values: The fields, as read from YAML or JSON.
            where: What is being read (a file name, a call), the start of every error message.

        Raises:
            ConfigError: Names the key, the value, what was expected, and the nearest known key.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where or cls.__name__}: expected a mapping of fields, got {values!r}")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _readable(error, cls, where) from None


def _docstrings_under_fields(owner: type) -> dict[str, str]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


def _readable(error: ValidationError, root: type[BaseModel], where: str) -> ConfigError:
    """One clause per key. Unknown keys come first because they explain the others."""
    unknown: list[str] = []
    expected: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    hints: list[str | None] = []
    for problem in error.errors():
        steps = tuple(step for step in problem["loc"] if not _names_a_branch(step))
        path = ".".join(str(step) for step in steps)
        if problem["type"] == "extra_forbidden":
            text, hint = _unknown_key(root, steps)
            unknown.append(f"{path}: {text}")
            hints.append(hint)
            continue
        clauses = expected.setdefault(path, [])
        if (text := _expectation(problem)) not in clauses:
            clauses.append(text)
        value = problem["input"]
        if steps and problem["type"] != "missing" and not isinstance(value, Mapping):
            given[path] = f", got {value!r}"
            if problem["type"] == "literal_error" and isinstance(value, str):
                hints.append(did_you_mean(value, re.findall(r"'([^']*)'", problem["msg"])))
    deepest = [path for path in expected if not any(_is_inside(other, path) for other in [*expected, *unknown])]
    lines = unknown + [
        f"{path}: ".removeprefix(": ")
        + " or ".join(expected[path]).replace(" or expected", " or")
        + given.get(path, "")
        for path in deepest
    ]
    prefix = f"{where}: " if where else ""
    return ConfigError(prefix + "; ".join(lines), next((hint for hint in hints if hint), None))


def _unknown_key(root: type[BaseModel], steps: tuple[str | int, ...]) -> tuple[str, str | None]:
    """What is said about an unknown key, and the hint: a near key, or the section where this key is known."""
    key, owner = str(steps[-1]), _owner(root, steps[:-1])
    known = list(owner.model_fields)
    places = [place for place in _places(root, key) if place]
    hint = did_you_mean(key, known)
    if hint is None and places:
        hint = f"'{key}' belongs to {' or '.join(places)}"
    short = hint is not None and len(known) > _LONG_LIST
    return "unknown key" if short else f"unknown key ({owner.__name__} has: {', '.join(known)})", hint


_LONG_LIST = 12
_EXPECTATIONS = {
    "string_type": "expected a text",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "missing": "required and not given",
}


def _expectation(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        return f"expected a mapping ({problem.get('ctx', {}).get('class_name', 'a section')})"
    if (known := _EXPECTATIONS.get(problem["type"])) is not None:
        return known
    return (
        message.replace("Input should be ", "expected a value ", 1)
        if problem["type"] in _BOUNDS
        else message.replace("Input should be", "expected", 1)
    )


_BOUNDS = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})


def _is_inside(other: str, path: str) -> bool:
    """Whether another complaint is about a part of this key: then this one speaks of a branch not meant."""
    return bool(path) and other.startswith(f"{path}.")


def _names_a_branch(step: str | int) -> bool:
    """Whether a step of pydantic's location names a branch of a union and not a key of the user's file."""
    return isinstance(step, str) and (
        step.startswith(("literal[", "function-", "list[", "dict["))
        or step in {"float", "int", "str", "bool", "constrained-float", "constrained-int"}
        or step in {kind.__name__ for kind in Config.__subclasses__()}
    )


def _owner(root: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    """The configuration class in which the last step of the location was looked up."""
    owner = root
    for step in location:
        if isinstance(step, str) and step in owner.model_fields:
            owner = nested_config(owner.model_fields[step].annotation) or owner
    return owner


def _places(root: type[BaseModel], key: str, section: str = "") -> list[str]:
    """Dotted names of the sections below `root` that know the key."""
    found = [section] if key in root.model_fields else []
    for name, field in root.model_fields.items():
        if (inner := nested_config(field.annotation)) is not None:
            found += _places(inner, key, f"{section}.{name}".removeprefix("."))
    return found


def nested_config(annotation: Any) -> type[Config] | None:
    """The configuration class inside a field's annotation, such as the one in `list[str | SourceConfig]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, Config) else None
    for argument in get_args(annotation):
        if (found := nested_config(argument)) is not None:
            return found
    return None
