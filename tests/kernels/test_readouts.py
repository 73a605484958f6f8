"""The sweeps through the read-outs of scalars: the reference against autograd, C++ against the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from macekit.errors import UsageError
from macekit.kernels import dispatch
from macekit.kernels.layer_parts import Gradients, Sweeps
from macekit.kernels.reference_readouts import readout_sweeps

NORM = 1.6765
SIZES = {
    "one layer": (5, 1, 16, 16, 1),
    "two layers": (5, 2, 16, 16, 1),
    "several targets": (6, 3, 32, 16, 3),
    "remainders of registers": (7, 2, 13, 5, 2),
    "more than a register of targets": (3, 2, 8, 4, 21),
    "one of everything": (1, 1, 1, 1, 1),
    "many channels": (4, 2, 130, 67, 2),
    "no atoms": (0, 2, 16, 16, 1),
}
"""Atoms, layers, channels, hidden units, targets."""
each_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


class Given:
    """Features, weights, cotangents and tangents for all sweeps."""

    def __init__(self, size: tuple[int, ...], dtype: torch.dtype) -> None:
        atoms, layers, channels, units, targets = size
        generator = torch.Generator().manual_seed(11)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        rows = [*(4,) * (layers - 1), 1]
        self.features = [normal(atoms, row, channels) for row in rows]
        self.moved = [normal(atoms, row, channels) for row in rows]
        linear = [normal(channels, targets) for _ in range(layers - 1)]
        self.weights = [*linear, normal(channels, units), normal(units, targets)]
        self.adjoint, self.grad = normal(atoms, targets), normal(atoms, targets)


def read(features: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Σ_l x_l V_l + f(x W₁) W₂, as the documentation has it."""
    scaled = [weight / math.sqrt(weight.shape[0]) for weight in weights]
    hidden = NORM * torch.nn.functional.silu(features[-1][:, 0] @ scaled[-2])
    return sum((x[:, 0] @ v for x, v in zip(features[:-1], scaled[:-2], strict=True)), hidden @ scaled[-1])


def all_sweeps(part: Sweeps, given: Given, moved: Gradients | None, grad: Tensor | None) -> list[Tensor | None]:
    """What all sweeps give, in order."""
    wanted = [True] * len(given.weights)
    found: list[Tensor | None] = [part.values(given.features, given.weights)]
    found += part.geometry(given.adjoint)
    if moved is not None:
        found.append(part.tangents(moved))
    by_features, by_weights = part.weights(grad, wanted)
    return [*found, *by_features, *by_weights]


def cpu_sweeps() -> Sweeps:
    if not dispatch.is_compiled():
        pytest.skip("no compiler: there is the reference alone")
    from macekit.kernels import cpu

    return cpu.readout_sweeps(NORM)


@each_size
@pytest.mark.parametrize("has_moved", [True, False], ids=["along tangents", "energy alone"])
def test_the_reference_is_what_autograd_makes_of_the_definition(size: tuple[int, ...], has_moved: bool) -> None:
    given = Given(size, torch.float64)
    features = [x.requires_grad_() for x in given.features]
    weights = [w.requires_grad_() for w in given.weights]
    adjoint = given.adjoint.requires_grad_()
    out = read(features, weights)
    by_features = torch.autograd.grad(out, features, adjoint, create_graph=True)
    total = (given.grad * out).sum()
    expected = [out, *by_features]
    if has_moved:  # the adjoint times the tangent of the output: the gradient by the features times their tangents
        along = sum((g * d).sum() for g, d in zip(by_features, given.moved, strict=True))
        total = total + along
        expected += torch.autograd.grad(along, adjoint, retain_graph=True)
    expected += torch.autograd.grad(total, [*features, *weights], materialize_grads=True)
    plain = Given(size, torch.float64)
    moved = tuple(plain.moved) if has_moved else None
    found = all_sweeps(readout_sweeps(NORM), plain, moved, plain.grad)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-11, atol=1e-12)


@each_size
@each_dtype
@pytest.mark.parametrize("missing", ["nothing", "tangent of the last", "tangent of the first", "tangents", "grad"])
def test_cpp_is_the_reference(size: tuple[int, ...], dtype: torch.dtype, missing: str) -> None:
    given = Given(size, dtype)
    moved: list[Tensor | None] | None = list(given.moved)
    if missing == "tangents":
        moved = None
    elif missing.startswith("tangent of") and moved is not None:
        moved[-1 if "last" in missing else 0] = None
    grad = None if missing == "grad" else given.grad
    tangents = None if moved is None else tuple(moved)
    found = all_sweeps(cpu_sweeps(), given, tangents, grad)
    allowed = 1e-12 if dtype == torch.float64 else 1e-5
    for mine, theirs in zip(found, all_sweeps(readout_sweeps(NORM), given, tangents, grad), strict=True):
        assert theirs is not None
        torch.testing.assert_close(mine, theirs, rtol=allowed, atol=allowed * math.sqrt(1.0 + size[0] * size[2]))


@each_dtype
def test_every_instruction_set(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given(SIZES["remainders of registers"], dtype)
    expected = all_sweeps(readout_sweeps(NORM), given, tuple(given.moved), given.grad)
    cpu_sweeps()
    from macekit.kernels import _core

    for name in _core.instruction_sets():
        monkeypatch.setattr("macekit.kernels.cpu_arguments.INSTRUCTION_SET", name)
        for mine, theirs in zip(all_sweeps(cpu_sweeps(), given, tuple(given.moved), given.grad), expected, strict=True):
            allowed = 1e-12 if dtype == torch.float64 else 1e-5
            torch.testing.assert_close(mine, theirs, rtol=allowed, atol=10 * allowed)


def test_numbers_that_are_not_in_order_in_memory() -> None:
    given, plain = (Given(SIZES["two layers"], torch.float64) for _ in range(2))
    given.features = [x.transpose(0, 2).contiguous().transpose(0, 2) for x in given.features]
    given.weights = [w.t().contiguous().t() for w in given.weights]
    given.moved = [x.transpose(0, 2).contiguous().transpose(0, 2) for x in given.moved]
    given.adjoint = given.adjoint.expand(len(given.adjoint), 1)
    found = all_sweeps(cpu_sweeps(), given, tuple(given.moved), given.grad)
    for mine, theirs in zip(found, all_sweeps(cpu_sweeps(), plain, tuple(plain.moved), plain.grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=0.0)


def test_only_wanted_gradients_are_made() -> None:
    given = Given(SIZES["several targets"], torch.float64)
    part = cpu_sweeps()
    part.values(given.features, given.weights)
    part.geometry(given.adjoint)
    _, found = part.weights(given.grad, [True, False, False, True])
    assert [each is not None for each in found] == [True, False, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": 0}, r"matrix is torch.float32 \[16, 1\] on cpu; expected torch.float64 \[16, 1\] on cpu"),
        ({"features": 1}, r"features is torch.float32 \[5, 1, 16\] on cpu; expected torch.float64"),
    ],
    ids=["matrix", "features"],
)
def test_other_precisions_are_refused(change: dict[str, Any], message: str) -> None:
    given = Given(SIZES["two layers"], torch.float64)
    ((name, place),) = change.items()
    getattr(given, name)[place] = getattr(given, name)[place].float()
    with pytest.raises(UsageError, match=message):
        cpu_sweeps().values(given.features, given.weights)
