"""What the inference engine computes, in float64: `outputs.folding` makes it of a model, `kernels.engine` packs it.

Letters: S elements of the engine, K channels, P paths of a convolution, T scalar outputs, G intervals between knots, n
the degree of the polynomials between knots.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from macekit.kernels.monomial_tree import Monomial

FloatArray = NDArray[np.float64]
NOTHING: FloatArray = np.zeros(0)


class Map(NamedTuple):
    """A linear map of one degree from the polynomials of a layer."""

    layer: int
    """Whose polynomials."""
    degree: int
    """Which degree of them."""
    matrices: FloatArray
    """[1 or S, K, outputs]: for all elements, or one for each."""


class FoldedLayer(NamedTuple):
    """One layer; linear maps between a polynomial and the next convolution are folded into `sources`."""

    convolution: str
    """Name of the `ConvolutionStructure`; its highest degree may be lower than the model's."""
    degrees_out: tuple[int, ...]
    """Degrees of the polynomials, ascending."""
    monomials: list[Monomial]
    """Of the polynomials of all degrees one after another, in components of the atomic basis."""
    width: int
    """Channels of what is sent."""
    table: FloatArray
    """Radial functions [pairs, G + 1, n + 1, P, width], powers of −1/2 ... 1/2 between knots; engine's paths."""
    constant: FloatArray
    """Scalars that are sent whatever the neighbours, [S, width]."""
    sources: list[Map]
    """What else is sent."""
    mixing: dict[int, FloatArray]
    """Messages to atomic basis by degree, [1 or S, P_l · width, K]."""
    density: FloatArray
    """[pairs, G + 1, n + 1]: what the density of neighbours is summed from; empty: messages are not divided by it."""
    coefficients: FloatArray
    """Of the monomials, [S, monomials, K]."""


class Moments(NamedTuple):
    """The first layer by moments of the radial network's last hidden units (H of them)."""

    table: FloatArray
    """[pairs, G + 1, n + 1, H]."""
    matrices: list[FloatArray]
    """Moments to atomic basis by degree, [1 or S, S · H, K]."""


class Readout(NamedTuple):
    """Hidden units and linear outputs as columns, then a perceptron: e = offset + scale (linear + MLP)."""

    hidden: int
    activation: str
    norm: float
    reads: list[Map]
    """To columns [hidden + T]; of the scalars."""
    constant: FloatArray
    """[S, hidden + T]."""
    middle: FloatArray
    """[hidden, hidden], or empty."""
    middle_bias: FloatArray
    last: FloatArray
    """[hidden, T]."""
    last_bias: FloatArray
    scale: FloatArray
    """[T]."""
    offset: FloatArray
    """[S, T]."""
    seed: FloatArray
    """[T]: forces are those of this sum of outputs."""


class Repulsion(NamedTuple):
    """strength / r Σ_k weight_k exp(−decay_k · inverse · r) under the envelope that ends at the reach of the pair."""

    power: int
    column: int
    weights: FloatArray
    decays: FloatArray
    strength: FloatArray
    """[S, S], as are the others."""
    inverse: FloatArray
    reach: FloatArray


class FoldedModel(NamedTuple):
    """All that the engine needs."""

    max_ell: int
    channels: int
    cutoff: float
    knots: int
    """Number of intervals of the radial tables; a further row of zeros follows."""
    pair: NDArray[np.int64]
    """Which radial functions belong to receiver and sender, [S, S]."""
    layers: list[FoldedLayer]
    moments: Moments | None
    readout: Readout
    repulsion: Repulsion | None
