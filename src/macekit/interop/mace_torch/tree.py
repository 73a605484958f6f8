"""Foreign modules as a tree: children, tensors and attributes by name, wherever a version of torch put them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.records import Global, Record
from macekit.o3 import Irrep, Irreps

Array = NDArray[np.float64]
_PLACES = ("_modules", "_parameters", "_buffers")


class Module:
    """A module of a model file.

    Args:
        record: Its record.
        path: Where it is in the model, for messages.
    """

    def __init__(self, record: Any, path: str) -> None:
        if not isinstance(record, Record) or not isinstance(record.state, dict):
            raise ModelFileError(f"{path}: expected a module, found {type(record).__name__}")
        self.record, self.path = record, path
        self.state: dict[str, Any] = record.state

    @property
    def class_name(self) -> str:
        """Name of its class."""
        return self.record.class_name

    def has(self, name: str) -> bool:
        """Whether there is something of this name that is not None."""
        return self.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """A child, tensor or attribute."""
        for place in _PLACES:
            values = self.state.get(place)
            if isinstance(values, dict) and values.get(name) is not None:
                return values[name]
        return self.state.get(name, default)

    def child(self, name: str) -> Module:
        """The module of a name."""
        return Module(self._present(name), f"{self.path}.{name}")

    def children(self, name: str) -> list[Module]:
        """The modules of a list, in order."""
        values = Module(self._present(name), self.path).state["_modules"]
        return [Module(values[key], f"{self.path}.{name}.{key}") for key in sorted(values, key=int)]

    def tensors(self, name: str) -> list[Array]:
        """The tensors of a parameter list, in order; recent versions of torch keep them as attributes."""
        owner = Module(self._present(name), f"{self.path}.{name}")
        values = {**owner.state, **owner.state.get("_parameters", {})}
        keys = sorted((key for key, value in values.items() if _is_index(key) and value is not None), key=int)
        return [np.asarray(values[key], dtype=np.float64) for key in keys]

    def tensor(self, name: str) -> Array:
        """A tensor or a number, as float64."""
        value = self._present(name)
        if not isinstance(value, np.ndarray | float | int | list):
            raise ModelFileError(f"{self.path}.{name}: expected a tensor, found {type(value).__name__}")
        return np.asarray(value, dtype=np.float64)

    def number(self, name: str, default: float | None = None) -> float:
        """A single number."""
        if default is not None and not self.has(name):
            return default
        return float(self.tensor(name).reshape(()))

    def irreps(self, name: str) -> list[tuple[int, Irrep]]:
        """Irreps with their multiplicities."""
        return irreps_of(self._present(name), f"{self.path}.{name}")

    def walk(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for name, value in (self.state.get("_modules") or {}).items():
            if isinstance(value, Record) and isinstance(value.state, dict):
                yield from Module(value, f"{self.path}.{name}").walk()

    def _present(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise ModelFileError(f"{self.path}: no {name}; the file is damaged, or of a version that is not read")
        return value


def irreps_of(value: Any, where: str) -> list[tuple[int, Irrep]]:
    """Irreps of e3nn, or their text."""
    if isinstance(value, str):
        return list(Irreps.parse(value))
    try:
        terms = []
        for term in value.args[0] if value.args else ():
            multiplicity, irrep = term.args[0] if len(term.args) == 1 else term.args
            degree, parity = irrep.args[0] if len(irrep.args) == 1 else irrep.args
            terms.append((int(multiplicity), Irrep(int(degree), int(parity))))
    except (AttributeError, TypeError, ValueError, IndexError):
        raise ModelFileError(f"{where}: expected irreps of e3nn") from None
    return terms


def function_name(value: Any) -> str:
    """Dotted name of a function or of a module that is one, such as torch.nn.functional.silu."""
    if isinstance(value, Global):
        return value.name
    return value.kind if isinstance(value, Record) else str(value)


def _is_index(key: Any) -> bool:
    return isinstance(key, str) and key.isdecimal()
