"""How functions become torch operators of the library `macekit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.library import Library, define, impl, infer_schema

from macekit.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
LIBRARY = Library("macekit", "FRAGMENT")


def operator(function: Callable[P, R]) -> Callable[P, R]:
    """The function as the operator `macekit::<name>`.

    Not `torch.library.custom_op`: the first call of such an operator imports torch's compiler, which takes seconds
    and writes to the environment.
    """
    name = f"macekit::{function.__name__}"
    define(name, infer_schema(function, mutates_args=()), lib=LIBRARY, tags=(torch.Tag.pt2_compliant_tag,))
    impl(name, "default", function, lib=LIBRARY)
    return cast(Callable[P, R], getattr(torch.ops.macekit, function.__name__).default)


def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the tensors of an operator's call and, as `ctx.rest`, its other arguments; absent gradients come as None."""
    ctx.save_for_backward(*(value for value in inputs if value is None or isinstance(value, Tensor)))
    ctx.rest = tuple(value for value in inputs if value is not None and not isinstance(value, Tensor))
    ctx.set_materialize_grads(False)


def fresh(tensor: Tensor) -> Tensor:
    """A tensor of the same shape, its numbers in order."""
    return tensor.new_empty(tensor.shape)


def refuse_third_derivatives(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    """The derivative of second backward operators."""
    raise UsageError(
        "a third derivative of a model was asked for; macekit's kernels are differentiable twice",
        "differentiate the second derivative by finite differences",
    )
