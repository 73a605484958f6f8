"""What tables of radial functions are made of, for all backends."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RadialLayers(NamedTuple):
    """A multilayer perceptron without biases, with x/(1 + exp(-x)) between its maps, at the knots of a table.

    G knots, B basis functions. The table has the coefficients of splines (`kernels.splines`) through the values at the
    knots, [G + 2, outputs]. The last map is linear, so what is filtered are its inputs, which are fewer.
    """

    basis: Tensor
    """Input, [G, B]."""
    envelope: Tensor | None
    """Factor of the last hidden layer, [G, 1]; None: one."""
    matrices: tuple[Tensor, ...]
    """[fan_in, fan_out] each, one at least."""
    factors: tuple[float, ...]
    """Of the matrices."""
