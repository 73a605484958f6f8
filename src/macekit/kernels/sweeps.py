"""Which derivatives a backward pass is for, so that the kernels leave out what nobody asks for.

Training differentiates twice: first the energy by the geometry, then the loss by the weights. Autograd tells an
operator which of its inputs have a gradient at all, not which are wanted in this pass; who starts the pass knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Sweep(NamedTuple):
    """What gradients are made of in the operators' backward passes; others are None."""

    geometry: bool = True
    """Harmonics and distances."""
    weights: bool = True
    """Tables, coefficients and matrices."""


_EVERYTHING = Sweep()
_scheduled: ContextVar[bool] = ContextVar("macekit_scheduled", default=False)
_current: ContextVar[Sweep] = ContextVar("macekit_sweep", default=_EVERYTHING)


def current() -> Sweep:
    """What the backward pass in progress is for; everything, unless said otherwise."""
    return _current.get()


@contextmanager
def sweep(*, geometry: bool, weights: bool) -> Iterator[None]:
    """Run backward passes, in this thread, for some of the derivatives alone.

    Args:
        geometry: Whether derivatives by positions and cells are wanted.
        weights: Whether derivatives by weights are wanted.
    """
    token = _current.set(Sweep(geometry, weights))
    try:
        yield
    finally:
        _current.reset(token)


def is_scheduled() -> bool:
    """Whether models may be evaluated for derivatives by the weights alone; see `scheduled`."""
    return _scheduled.get()


@contextmanager
def scheduled(allowed: bool = True) -> Iterator[None]:
    """Evaluate models, in this thread, so that their forces have derivatives by the weights and by nothing else.

    Both backward passes must then be run in a `sweep`, the second one for weights alone.

    Args:
        allowed: False: with all derivatives.
    """
    token = _scheduled.set(allowed)
    try:
        yield
    finally:
        _scheduled.reset(token)
