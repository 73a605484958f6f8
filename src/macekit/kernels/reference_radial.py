"""Tables of radial functions, value and gradients, in torch: a few products, not a hundred operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from macekit.kernels.radial_layers import RadialLayers
from macekit.kernels.splines import spline_filter


def radial_table(layers: RadialLayers) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Coefficients of the splines, and what `radial_table_backward` takes.

    Returns:
        [G + 2, outputs]; and [G, units] of every hidden layer before its activation, [G + 2, units] of the last one
        behind the filter.
    """
    x, inner = layers.basis, []
    scaled = [matrix * factor for matrix, factor in zip(layers.matrices, layers.factors, strict=True)]
    for matrix in scaled[:-1]:
        inner.append(x @ matrix)
        x = torch.nn.functional.silu(inner[-1])
    filtered = spline_filter(x if layers.envelope is None else x * layers.envelope, False)
    return filtered @ scaled[-1], (*inner, filtered)


def radial_table_backward(grad: Tensor, layers: RadialLayers, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the matrices.

    Args:
        grad: By the table, [G + 2, outputs].
        layers: As they were.
        kept: As `radial_table` gave it.
    """
    *inner, filtered = kept
    values = [layers.basis, *(torch.nn.functional.silu(z) for z in inner[:-1])]
    gradients = [filtered.T @ grad]
    if inner:
        to_x = spline_filter(grad @ layers.matrices[-1].T, True)
        to_x = to_x if layers.envelope is None else to_x * layers.envelope
    for number in reversed(range(len(inner))):
        to_z = torch.ops.aten.silu_backward(to_x * layers.factors[number + 1], inner[number])
        gradients.append(values[number].T @ to_z)
        to_x = to_z @ layers.matrices[number].T
    return tuple(gradient * factor for gradient, factor in zip(gradients[::-1], layers.factors, strict=True))
