"""What messages with radial functions out of a table are made of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Tangents = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of h, y and lengths of `TableEdges`; None is zero."""


class TableEdges(NamedTuple):
    """Features, geometry and radial functions of a convolution. N atoms, E edges, G knots, P paths, K channels."""

    h: Tensor
    """Features of the senders, [N, D_in, K]."""
    y: Tensor
    """Spherical harmonics of the edges, [E, L]."""
    lengths: Tensor
    """Distances, float64 [E], Å."""
    table: Tensor
    """Coefficients of the radial functions, [G + 2, P, K]."""
    sender: Tensor
    """Sender of every edge, int64 [E]."""
    receiver: Tensor
    """Receiver of every edge, int64 [E]."""
    first: float
    """Distance of the first knot, Å."""
    step: float
    """Distance between knots, Å."""
    key: str
    """Name of a `ConvolutionStructure`."""
