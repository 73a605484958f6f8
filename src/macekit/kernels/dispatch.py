"""Which implementation of the hot operations serves: a table of stateless backends and one choice.

Weights stay in the model; a backend is a module of functions. A backend is never part of a model's configuration, nor
of a file. It is chosen

- in code: `with macekit.kernels.dispatch.use("reference"): ...`, for the calls within, in this thread;
- for a process: the environment variable `MACEKIT_BACKEND`, read when an operator is first called.

Both take the names of `NAMES`. `auto`, the default, takes C++ on CPUs where the extension is there and reproduces the
reference, and the reference otherwise; it logs once what it chose and why, to the logger `macekit`. A backend named in
any other way is taken at its word: where it cannot serve, it raises.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor

from macekit.errors import BackendUnavailable, did_you_mean
from macekit.kernels import reference
from macekit.kernels.backend import Backend
from macekit.kernels.self_check import largest_difference
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure, TableStructure

AUTO = "auto"
NAMES = (AUTO, "reference", "cpu")
VARIABLE = "MACEKIT_BACKEND"
Structure = ConvolutionStructure | TableStructure | ContractionStructure
logger = logging.getLogger("macekit")


class Loaded(NamedTuple):
    """A backend that was tried."""

    backend: Backend | None
    """None: it cannot serve."""
    serves: Callable[[torch.device, torch.dtype, Structure | None], bool]
    """Whether it is for tensors of a device and precision, and has a structure."""
    reason: str
    """Why it serves, or why not."""


_chosen: ContextVar[str | None] = ContextVar("macekit_backend", default=None)


@contextmanager
def use(name: str) -> Iterator[None]:
    """Choose a backend for the calls within, in this thread. Backward passes must be within as well to be served by it.

    Args:
        name: One of `NAMES`.

    Raises:
        BackendUnavailable: If there is none of that name, or if it cannot serve on this machine.
    """
    select(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def select(name: str) -> Backend | None:
    """The backend of a name; None for `auto`, which depends on the tensors.

    Raises:
        BackendUnavailable: If there is none of that name, or if it cannot serve on this machine.
    """
    if name not in NAMES:
        raise BackendUnavailable(f"unknown backend '{name}'; available: {', '.join(NAMES)}", did_you_mean(name, NAMES))
    if name == AUTO:
        return None
    loaded = load(name)
    if loaded.backend is None:
        raise BackendUnavailable(f"the backend '{name}' cannot serve: {loaded.reason}", "choose another, or 'auto'")
    return loaded.backend


def backend_for(tensor: Tensor, structure: Structure | None = None) -> Backend:
    """The backend that serves a tensor's device and precision, and a coupling structure.

    Raises:
        BackendUnavailable: If a backend was chosen by name that is not for this tensor.
    """
    name = _chosen.get() or _of_process()
    if name == AUTO:
        fast = load(_automatic())
        if fast.backend is not None and fast.serves(tensor.device, tensor.dtype, structure):
            return fast.backend
        return reference
    backend = select(name)
    assert backend is not None
    if not load(name).serves(tensor.device, tensor.dtype, None):  # it says itself which structure it lacks
        raise BackendUnavailable(
            f"the backend '{name}' was chosen by name and is not for {tensor.dtype} on {tensor.device}",
            "choose 'auto' or 'reference', or move the model",
        )
    return backend


def convolution_backend(tensor: Tensor, key: str) -> Backend:
    """`backend_for` with the `ConvolutionStructure` of a key."""
    return backend_for(tensor, ConvolutionStructure.from_key(key))


def table_backend(tensor: Tensor, key: str) -> Backend:
    """`backend_for` with the `TableStructure` of a key."""
    return backend_for(tensor, TableStructure(ConvolutionStructure.from_key(key)))


def contraction_backend(tensor: Tensor, key: str) -> Backend:
    """`backend_for` with the `ContractionStructure` of a key."""
    return backend_for(tensor, ContractionStructure.from_key(key))


def is_compiled() -> bool:
    """Whether the compiled kernels are wanted here and can serve.

    Raises:
        BackendUnavailable: If they were chosen by name and cannot serve.
    """
    name = _chosen.get() or _of_process()
    if name == AUTO:
        name = _automatic()
    elif name != "reference":
        select(name)
    return name != "reference"


@cache
def load(name: str) -> Loaded:
    """Import a backend and check it against the reference, once in a process."""
    if name == "reference":
        return Loaded(reference, lambda *_: True, "it is pure torch")
    try:
        module = importlib.import_module(f"macekit.kernels.{name}")
    except ImportError as failure:
        return Loaded(None, lambda *_: False, f"the C++ extension is not there ({failure})")
    backend = cast(Backend, module)
    refusal = largest_difference(backend)
    if refusal is not None:
        return Loaded(None, module.serves, f"it does not reproduce the reference: {refusal}")
    return Loaded(backend, module.serves, f"compiled kernels for {module.INSTRUCTION_SET}")


@cache
def _of_process() -> str:
    name = os.environ.get(VARIABLE, AUTO) or AUTO
    select(name)
    return name


@cache
def _automatic() -> str:
    """The backend that `auto` prefers, after it was said once."""
    fast = load("cpu")
    if fast.backend is not None:
        logger.info("kernels: cpu (%s)", fast.reason)
        return "cpu"
    logger.warning("kernels: reference, many times slower; the backend cpu cannot serve: %s", fast.reason)
    return "reference"
