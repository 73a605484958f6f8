"""What stands for the classes, functions and objects that a file names, and which names a file may use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

INERT_PACKAGES = ("mace.", "e3nn.", "opt_einsum_fx.", "torch.nn.", "torch.fx.", "torch._C._nn.", "__torch__.",
                  "cuequivariance", "openequivariance.")  # fmt: skip
"""Packages whose classes and functions may be named; nothing of them is imported."""
INERT_NAMES = frozenset(
    {"torch._C._VariableFunctionsClass", "torch._C._VariableFunctions", "torch.device", "torch.memory_format"}
    | {"torch.optim.swa_utils.AveragedModel"}
    | {f"torch.{name}" for name in ("tanh", "abs", "sigmoid", "relu", "strided", "bool", "uint8", "int8", "int16")}
    | {f"torch.{name}" for name in ("int32", "int64", "float16", "bfloat16", "float32", "float64")}
    | {f"torch.{name}Storage" for name in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char")}
    | {f"torch.{name}Storage" for name in ("Byte", "Bool")}
)
"""Other names that may occur; they are not called either."""
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_inert_name(dotted: str) -> bool:
    """Whether a file may name this class or function; it is never imported."""
    known = dotted in INERT_NAMES or dotted.startswith(INERT_PACKAGES)
    return known and _NAME.fullmatch(dotted) is not None


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names."""

    name: str
    """Module and name, dotted."""


@dataclass(eq=False, slots=True)
class Record:
    """An object of a foreign class, or the result of a foreign function: what was given for it, and nothing run."""

    kind: str
    """Dotted name of the class or function."""
    args: tuple[Any, ...] = ()
    """Arguments it was to be made with."""
    state: Any = None
    """State it was to be given."""
    elements: list[Any] = field(default_factory=list)
    """What was appended to it."""
    entries: dict[Any, Any] = field(default_factory=dict)
    """Items that were set in it."""

    @property
    def class_name(self) -> str:
        """The kind without its module."""
        return self.kind.rpartition(".")[2]


_PLAIN_KEYS = (str, bytes, int, float, Record, Global)


def hashable(value: Any) -> Any:
    """Keys of dictionaries and sets: names, numbers, records, and tuples of these, but not of tuples.

    Deep tuples could overflow the stack when hashed.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(value, _PLAIN_KEYS) or value is None:
        return value
    if isinstance(value, tuple) and all(isinstance(item, _PLAIN_KEYS) or item is None for item in value):
        return value
    raise TypeError(f"a key of type {type(value).__name__}")
