"""Pickles as data: an interpreter of the opcodes that has nothing to call.

Python's own unpickler imports what a pickle names and calls it. This one imports nothing: a named class or function
is a `Global`, an object made of it a `Record` of its arguments and state. Only the few functions of a table are ever
called, and these make tensors, containers and numbers (`builders`). Everything else is refused by its name.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.records import Global, Record, is_inert_name

Builder = Callable[..., Any]

_FUNCTIONS = re.compile(r"[a-z]\w*")
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_LARGEST = 1 << 28


def read_pickle(
    content: bytes,
    source: str,
    builders: Mapping[str, Builder],
    setters: Mapping[type, Builder] | None = None,
    persistent: Builder | None = None,
) -> Any:
    """The object of a pickle, as data.

    Args:
        content: The pickle.
        source: What is being read, the start of every error message.
        builders: The functions that may be called, by dotted name.
        setters: Functions from an object and a state to the object with that state, by type.
        persistent: What makes an object of a persistent identifier, such as a tensor's storage.

    Raises:
        ModelFileError: If the pickle names something that is not allowed, or is damaged.
    """
    if len(content) > _LARGEST:
        raise ModelFileError(f"{source}: a pickle of {len(content)} bytes; expected at most {_LARGEST}")
    machine = _Machine(source, {**_CONTAINERS, **builders}, setters or {}, persistent)
    try:
        return machine.run(content)
    except ModelFileError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{source}: damaged, not a complete pickle of a model: {error}") from None


_MARK = object()


class _Machine:
    """Stack, memo and opcodes of one pickle."""

    def __init__(
        self,
        source: str,
        builders: Mapping[str, Builder],
        setters: Mapping[type, Builder],
        persistent: Builder | None,
    ) -> None:
        self.source, self.builders, self.setters, self.persistent = source, builders, setters, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                (result,) = self.stack
                if result is _MARK:
                    raise ValueError("it holds nothing")
                return result
            if opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name in _FIXED:
                self.stack.append(_FIXED[opcode.name]())
            elif (handler := _HANDLERS.get(opcode.name)) is not None:
                handler(self, argument)
            else:
                raise self.refusal(f"the opcode {opcode.name}")
        raise ValueError("it ends without STOP")

    def refusal(self, what: str) -> ModelFileError:
        return ModelFileError(
            f"{self.source}: refused: {what} has no place in a model file; nothing in the file was executed",
            "the file may be malicious, or hold more than a model: ask its author for the model alone",
        )

    def marked(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                found = self.stack[position + 1 :]
                del self.stack[position:]
                return found
        raise ValueError("a mark is missing")

    def name(self, module: str, name: str) -> Global:
        module = _PYTHON_2.get(module, module)
        dotted = f"{module}.{name}"
        if dotted not in self.builders and not is_inert_name(dotted):
            raise self.refusal(dotted[:200])
        return Global(dotted)

    def get_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.name(module, name))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise self.refusal("a class without a name")
        self.stack.append(self.name(module, name))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.made(function, arguments))

    def new_with_keywords(self, _: Any) -> None:
        keywords, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        made = self.made(function, arguments)
        if keywords and isinstance(made, Record):
            made.entries = dict(keywords)
        self.stack.append(made)

    def made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise self.refusal(f"a call of {type(function).__name__}")
        if function.name == "builtins.getattr":
            return self.function_of_torch(arguments)
        if (builder := self.builders.get(function.name)) is None:
            return Record(function.name, arguments)
        return builder(*arguments)

    def function_of_torch(self, arguments: tuple[Any, ...]) -> Global:
        """`getattr(torch._C._VariableFunctionsClass, "tanh")` is how torch's functions are pickled."""
        owner, name = arguments
        owners = {"torch._C._VariableFunctionsClass", "torch._C._VariableFunctions"}
        if isinstance(owner, Global) and owner.name in owners and isinstance(name, str) and _FUNCTIONS.fullmatch(name):
            return Global(f"torch.{name}")
        raise self.refusal(f"getattr({getattr(owner, 'name', type(owner).__name__)}, {name!r})")

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif (setter := self.setters.get(type(target))) is not None:
            self.stack[-1] = setter(target, state)
        elif not isinstance(target, dict):  # the state of an ordered dictionary, such as a version, is left out
            raise self.refusal(f"a state of {type(target).__name__}")

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self.extend([value])

    def appends(self, _: Any) -> None:
        self.extend(self.marked())

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.elements.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise self.refusal(f"elements of {type(target).__name__}")

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def set_items(self, _: Any) -> None:
        self.update(self.marked())

    def update(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Record) else target
        if not isinstance(entries, dict):
            raise self.refusal(f"items of {type(target).__name__}")
        entries.update(_mapping(pairs))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("the stack is too short")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(values)

    def persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise self.refusal("a persistent identifier")
        self.stack.append(self.persistent(self.stack.pop()))

    def add_items(self, _: Any) -> None:
        values = self.marked()
        if not isinstance(self.stack[-1], set):
            raise self.refusal(f"elements of {type(self.stack[-1]).__name__}")
        self.stack[-1].update(_hashable(value) for value in values)


_PLAIN_KEYS = (str, bytes, int, float, Record, Global)


def _hashable(value: Any) -> Any:
    """Keys of dictionaries and sets: names, numbers, records, and tuples of these, but not of tuples.

    Deep tuples could overflow the stack when hashed.
    """
    if isinstance(value, _PLAIN_KEYS) or value is None:
        return value
    if isinstance(value, tuple) and all(isinstance(item, _PLAIN_KEYS) or item is None for item in value):
        return value
    raise TypeError(f"a key of type {type(value).__name__}")


def _mapping(pairs: list[Any]) -> dict[Any, Any]:
    return dict(zip((_hashable(key) for key in pairs[::2]), pairs[1::2], strict=True))


def _set(values: Any = ()) -> set[Any]:
    return {_hashable(value) for value in values}


def _ordered_dictionary(pairs: Any = ()) -> dict[Any, Any]:
    return _mapping([item for pair in pairs for item in pair])


def _slice(*bounds: Any) -> tuple[Any, ...]:
    return ("slice", *bounds)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes as the second protocol stores them: text in Latin 1."""
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_CONTAINERS: dict[str, Builder] = {
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.slice": _slice,
    "builtins.getattr": Global,
    "collections.OrderedDict": _ordered_dictionary,
    "_codecs.encode": _encoded,
}
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"FLOAT", "BINFLOAT"}
)
_FIXED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}


def _ignore(machine: _Machine, argument: Any) -> None:
    """Framing and protocol numbers say nothing about the object."""


def _memoize(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "GLOBAL": _Machine.get_global,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "BUILD": _Machine.build,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "ADDITEMS": _Machine.add_items,
    "BINPERSID": _Machine.persistent_id,
    "MEMOIZE": _memoize,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, key: machine.stack.append(machine.memo[key])),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.marked()),
    "DICT": lambda machine, _: machine.stack.append(_mapping(machine.marked())),
    "FROZENSET": lambda machine, _: machine.stack.append(_set(machine.marked())),
    "POP": lambda machine, _: machine.stack.pop(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
}

__all__ = ["Builder", "read_pickle"]
