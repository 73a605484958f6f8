"""The radial networks of a model as tables, one for every pair of elements that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macekit.errors import BackendUnavailable
from macekit.kernels.engine import PIECE_DEGREE, engine_paths
from macekit.kernels.folded import NOTHING, FloatArray
from macekit.model.basis import polynomial_envelope
from macekit.model.interaction import Interaction, NeighbourDensity
from macekit.model.layer import Layer
from macekit.model.mace import Mace
from macekit.model.mlp import RadialMLP
from macekit.model.radial import DistanceTransform
from macekit.outputs.radial_tables import PiecewiseTable, piecewise

KNOTS = (128, 192, 256, 384, 512, 768, 1024, 1536)
"""Numbers of intervals that are tried."""
VALUE_BOUND = {torch.float32: 1e-7, torch.float64: 1e-12}
SLOPE_BOUND = {torch.float32: 1e-6, torch.float64: 1e-10}
"""Errors that are allowed, relative to the largest value and slope."""
LARGEST_TABLE = 2_000_000_000
"""Bytes of all tables of a model."""


class RadialTables(NamedTuple):
    """Tables of all layers over the same knots; S elements."""

    knots: int
    pair: NDArray[np.int64]
    """Which table belongs to receiver and sender, [S, S]."""
    weights: list[FloatArray]
    """By layer: [pairs, G + 1, n + 1, P, width], paths in the engine's order."""
    densities: list[FloatArray]
    """By layer: [pairs, G + 1, n + 1], or empty."""
    hidden: FloatArray
    """Last hidden units of the first layer's network under the envelope, [pairs, G + 1, n + 1, H]."""


class TooSharp(BackendUnavailable):
    """No number of knots is enough for a radial function."""


def tabulate(model: Mace, elements: Sequence[int], dtype: torch.dtype) -> RadialTables:
    """Tables of a float64 model for some of its elements.

    Args:
        model: The model, in float64.
        elements: Indices among the model's elements.
        dtype: Precision of the engine.

    Raises:
        TooSharp: If the error stays above the bound, or the tables would not fit into memory.
    """
    pair, pairs = _pairs(model, elements)
    worst = ""
    for knots in KNOTS:
        _check_size(model, len(pairs), knots, dtype)
        tables: list[Parts] = []
        for receiver, sender in pairs:
            tables.append(_tables(model, sender, receiver, knots, PIECE_DEGREE[dtype]))
            value = max(part.value_error for part in tables[-1] if part is not None)
            slope = max(part.slope_error for part in tables[-1] if part is not None)
            if value > VALUE_BOUND[dtype] or slope > SLOPE_BOUND[dtype]:
                worst = f"{value:.1e} (slope {slope:.1e}) with {knots} knots"
                break
        else:
            return _collect(model, pair, tables, knots)
    raise TooSharp(f"radial functions that a table cannot hold: error {worst}")


def interactions(model: Mace) -> list[Interaction]:
    """The interactions of all layers, which are not the non-linear one."""
    found = [layer.interaction for layer in model.backbone.layers if isinstance(layer, Layer)]
    return [interaction for interaction in found if isinstance(interaction, Interaction)]


def _pairs(model: Mace, elements: Sequence[int]) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """Number of the table of receiver and sender, and an example of each."""
    count = len(elements)
    if type(model.backbone.basis.transform) is DistanceTransform:
        return np.zeros((count, count), dtype=np.int64), [(elements[0], elements[0])]
    pair = np.zeros((count, count), dtype=np.int64)
    pairs: list[tuple[int, int]] = []
    for i in range(count):
        for j in range(i + 1):  # transforms are symmetric in the two elements
            pair[i, j] = pair[j, i] = len(pairs)
            pairs.append((elements[i], elements[j]))
    return pair, pairs


def _check_size(model: Mace, pairs: int, knots: int, dtype: torch.dtype) -> None:
    functions = sum(len(each.structure.paths) * each.width for each in interactions(model))
    size = pairs * (knots + 1) * (PIECE_DEGREE[dtype] + 1) * functions * 8
    if size > LARGEST_TABLE:
        raise TooSharp(f"radial tables of {size / 1e9:.0f} GB for {pairs} pairs of elements")


Parts = list[PiecewiseTable | None]
"""For every layer its weights and its density, then the hidden units of the first."""


def _tables(model: Mace, sender: int, receiver: int, knots: int, degree: int) -> Parts:
    cutoff = model.backbone.cutoff
    parts: Parts = []
    for interaction in interactions(model):
        parts.append(piecewise(_seen(model, sender, receiver, _weights(interaction)), cutoff, knots, degree))
        is_by_density = isinstance(interaction.normalisation, NeighbourDensity)
        density = _seen(model, sender, receiver, _density(interaction)) if is_by_density else None
        parts.append(None if density is None else piecewise(density, cutoff, knots, degree))
    hidden = _seen(model, sender, receiver, interactions(model)[0].radial.hidden)
    return [*parts, piecewise(hidden, cutoff, knots, degree)]


def _seen(model: Mace, sender: int, receiver: int, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of the radial basis as one of the distance, under the envelope."""
    backbone = model.backbone

    def of_distance(distances: Tensor) -> Tensor:
        ends = torch.full(distances.shape, 0, dtype=torch.int64)
        basis = backbone.basis(distances, ends + sender, ends + receiver)
        envelope = polynomial_envelope(distances, backbone.cutoff, backbone.power)[:, None]
        values = function(basis * envelope if backbone.envelopes_basis else basis)
        return values * envelope if backbone.envelopes_messages else values

    return of_distance


def _weights(interaction: Interaction) -> Callable[[Tensor], Tensor]:
    order = torch.tensor([path.index for path in engine_paths(interaction.structure)])
    radial: RadialMLP = interaction.radial
    return lambda basis: radial(basis).unflatten(1, (-1, interaction.width))[:, order].flatten(1)


def _density(interaction: Interaction) -> Callable[[Tensor], Tensor]:
    normalisation = interaction.normalisation
    assert isinstance(normalisation, NeighbourDensity)
    return normalisation.per_edge


def _collect(model: Mace, pair: NDArray[np.int64], tables: list[Parts], knots: int) -> RadialTables:
    def stacked(number: int) -> FloatArray:
        found = [parts[number] for parts in tables]
        return np.stack([part.coefficients for part in found if part is not None]) if found[0] else NOTHING

    weights, densities = [], []
    for t, interaction in enumerate(interactions(model)):
        width = interaction.width
        values = stacked(2 * t)
        weights.append(values.reshape(*values.shape[:3], -1, width))
        densities.append(stacked(2 * t + 1))
    return RadialTables(knots, pair, weights, densities, stacked(len(tables[0]) - 1))
