"""The read-outs of scalars as one differentiable operation, for losses on energies, forces and stress.

With the scalars x_l of layer l, Σ_l x_l V_l + f(x W₁) W₂, where the last layer has an MLP with f(z) = c silu(z). The
sweeps are those of `model.scheduling`, and the backend has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from macekit.kernels.dispatch import backend_for
from macekit.kernels.layer_parts import Sweeps
from macekit.model.mlp import SILU_NORM
from macekit.model.scheduling import scheduled_output


def scheduled_readouts(per_layer: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """The sum of the read-outs, [N, T]; see `scheduling.scheduled_output`.

    Args:
        per_layer: Features of the layers, [N, D, K] each with scalars first.
        weights: V of all layers but the last, [K, T], then W₁ [K, H] and W₂ [H, T] of the last. All are divided by
            the square root of their fan-in.
    """
    return scheduled_output(readout_part(weights[0]), per_layer, weights)


def readout_part(weight: Tensor) -> Sweeps:
    """The sweeps of the read-outs with weights like this one."""
    return backend_for(weight).readout_sweeps(SILU_NORM)
