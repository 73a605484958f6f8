"""Tables of radial functions in C++; see `kernels.reference_radial`, which defines them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from torch import Tensor

from macekit.kernels import _core, reference_radial
from macekit.kernels.cpu_arguments import addresses, how_to_run, lanes, plain, plain_or_none
from macekit.kernels.radial_layers import RadialLayers

FEWEST_KNOTS = 5
"""What the conditions at both ends of the splines take."""


def radial_table(layers: RadialLayers) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Coefficients of the splines, and what `radial_table_backward` takes; through torch unless `is_served`."""
    if not is_served(layers):
        return reference_radial.radial_table(layers)
    layers, widths = _checked(layers)
    basis, knots = layers.basis, layers.basis.shape[0]
    inner = [basis.new_empty(knots, width) for width in widths[1:-1]]
    filtered, table = basis.new_empty(knots + 2, widths[-2]), basis.new_empty(knots + 2, widths[-1])
    _run(layers, widths, (*inner, filtered), table, ())
    return table, (*inner, filtered)


def radial_table_backward(grad: Tensor, layers: RadialLayers, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the matrices."""
    if not is_served(layers):
        return reference_radial.radial_table_backward(grad, layers, kept)
    layers, widths = _checked(layers)
    grad = plain("grad", grad, (layers.basis.shape[0] + 2, widths[-1]), layers.basis.dtype)
    gradients = tuple(matrix.new_empty(matrix.shape) for matrix in layers.matrices)
    _run(layers, widths, kept, grad, gradients)
    return gradients


def is_served(layers: RadialLayers) -> bool:
    """Whether there is a hidden layer, units and outputs fill whole registers, and there are knots enough."""
    width = lanes(layers.basis.dtype)
    whole = all(matrix.shape[1] % width == 0 for matrix in layers.matrices)
    return whole and len(layers.matrices) > 1 and layers.basis.shape[0] >= FEWEST_KNOTS


def _checked(layers: RadialLayers) -> tuple[RadialLayers, tuple[int, ...]]:
    """Layers with numbers in order in memory, and the widths of all of them."""
    basis, envelope, matrices, factors = layers
    widths = (basis.shape[1], *(matrix.shape[1] for matrix in matrices))
    checked = RadialLayers(
        plain("basis", basis, tuple(basis.shape), basis.dtype),
        plain_or_none("envelope", envelope, (basis.shape[0], 1), basis.dtype),
        tuple(plain("matrix", m, (widths[n], widths[n + 1]), basis.dtype) for n, m in enumerate(matrices)),
        factors,
    )
    return checked, widths


def _run(
    layers: RadialLayers, widths: tuple[int, ...], kept: Sequence[Tensor], table: Tensor, gradients: Sequence[Tensor]
) -> None:
    basis, envelope = layers.basis, layers.envelope
    work = sum(matrix.numel() for matrix in layers.matrices) * basis.shape[0]
    _core.radial_table(
        _plan(widths, layers.factors), how_to_run(basis.dtype, work), basis.shape[0],
        addresses((basis, envelope, kept[-1])), addresses(layers.matrices), addresses(kept[:-1]),
        table.data_ptr(), addresses(gradients),
    )  # fmt: skip


@cache
def _plan(widths: tuple[int, ...], factors: tuple[float, ...]) -> _core.RadialPlan:
    return _core.RadialPlan(widths, factors)
