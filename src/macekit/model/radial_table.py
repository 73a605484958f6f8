"""Tables of the radial functions: where they are evaluated once for all edges, and interpolated for every edge.

With neither bond features nor a transform by the two elements the radial functions depend on the distance alone. They
are then evaluated at some hundreds of knots, in training at every step, and edges interpolate with cubic B-splines
(`kernels.splines`); gradients reach the weights of the radial MLP through the table. Whether a table is used is a
matter of run time, like the device: it is never part of a model's configuration nor of a file.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

NUM_KNOTS = 256
"""Knots between 0 and the cutoff; forces then differ by about 1e-5 of their size."""


class Knots(NamedTuple):
    """G evenly spaced distances with what the radial functions are functions of."""

    basis: Tensor
    """Radial basis under the envelope, [G, B]."""
    envelope: Tensor | None
    """Envelope of the radial functions, [G, 1]; None: they need none."""
    prefilter: Tensor
    """From values at the knots to coefficients, [G + 2, G]."""
    first: float
    """Distance of the first, Å."""
    step: float
    """Distance between two, Å."""
