"""Tables of the radial functions: where they are evaluated once for all edges, and interpolated for every edge.

With neither bond features nor a transform by the two elements the radial functions depend on the distance alone. They
are then evaluated at some hundreds of knots, in training at every step, and edges interpolate with cubic B-splines
(`kernels.splines`); gradients reach the weights of the radial MLP through the table. Whether a table is used is a
matter of run time, like the device: it is never part of a model's configuration nor of a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from macekit.kernels.splines import interpolated, spline_weights

if TYPE_CHECKING:
    from macekit.model.backbone import Backbone


class Knots(NamedTuple):
    """G evenly spaced distances with what the radial functions are functions of."""

    basis: Tensor
    """Radial basis under the envelope, [G, B]."""
    envelope: Tensor | None
    """Envelope of the radial functions, [G, 1]; None: they need none."""
    first: float
    """Distance of the first, Å."""
    step: float
    """Distance between two, Å."""


def interpolation_error(backbone: Backbone, num_knots: int, shortest: float = 0.0) -> float:
    """Largest difference of interpolated and exact radial functions half-way between knots.

    Args:
        backbone: The model's, whose radial functions depend on the distance alone.
        num_knots: G.
        shortest: From the interval with this distance on, Å. At shorter ones, where there are no data, functions may
            change as they like.

    Returns:
        Relative to the largest value of the radial functions of a layer; the worst layer counts.
    """
    dtype, device = backbone.embedding.dtype, backbone.embedding.device
    worst = 0.0
    with torch.no_grad():
        knots = backbone.knots_at(num_knots, dtype, device)
        first = min(max(int((shortest - knots.first) / knots.step), 0), num_knots - 2)
        middle = knots.first + knots.step * (torch.arange(first, num_knots - 1, device=device).double() + 0.5)
        row, (weights, _, _) = spline_weights(middle, num_knots + 2, knots.first, knots.step)
        between = backbone.radial_inputs(middle, dtype)
        for radial in backbone.tabulated():
            table = radial.table(knots)  # [G + 2, P K]
            found = interpolated(table[:, None], row, weights)[:, 0]
            exact = radial(between[0])
            if between[1] is not None:
                exact = exact * between[1]
            worst = max(worst, float((found - exact).abs().max() / exact.abs().max().clamp(min=1e-30)))
    return worst
