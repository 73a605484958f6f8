"""Layers and read-outs as one differentiable operation that gives the energy together with its gradient.

Where nothing but the sum of scalar read-outs is asked of a model, forces need no second use of autograd: values and
their reverse by the geometry follow each other at once, and so do tangents and the reverse by the weights when autograd
comes back with the gradient of a loss. The sweeps of the parts are those of `model.scheduling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from macekit.kernels.dispatch import backend_for
from macekit.kernels.layer_parts import Gradients, Sweeps
from macekit.model.scheduling import ONLY_ONCE


class Differentiated(NamedTuple):
    """Scalars of the atoms, and the gradient of one combination of them."""

    scalars: Tensor
    """[N, T]."""
    vectors: Tensor
    """Of the edges, float64 [E, 3], Å; without graph."""
    by_vectors: Tensor
    """The gradient by them, float64 [E, 3]; differentiable once, by the weights."""


class EnergyParts(NamedTuple):
    """What lies between the vectors of the edges and the scalars of the atoms. New for every call."""

    layers: Sequence[Sweeps]
    """Of features, harmonics and distances."""
    readouts: Sweeps
    """Of the features of the last layers."""
    num_read: int
    """How many these are."""
    num_weights: Sequence[int]
    """Of every layer, then of the read-outs."""
    shortest: float
    """Edges shorter than this are treated as this long, Å."""
    max_ell: int
    """Highest degree of the harmonics."""


def scheduled_energy(
    parts: EnergyParts, vectors: Tensor, factors: Tensor, features: Tensor, weights: Sequence[Tensor]
) -> Differentiated:
    """Scalars of the atoms and the gradient by the vectors of Σ factors · scalars.

    Args:
        parts: New for every call.
        vectors: Of the edges, float64 [E, 3], Å.
        factors: [T].
        features: Of the atoms before the first layer, [N, 1, K].
        weights: Of all layers and of the read-outs, as many as `parts` says.
    """
    scalars, by_vectors = _Energy.apply(parts, vectors, factors, features, *weights)  # type: ignore[no-untyped-call]
    return Differentiated(scalars, vectors, by_vectors)


class _Energy(torch.autograd.Function):
    """The first two sweeps, and the other two as their derivative."""

    @staticmethod
    def forward(
        ctx: Any, parts: EnergyParts, vectors: Tensor, factors: Tensor, features: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.chain = _Chain(parts, vectors, [weight.detach() for weight in weights])
        scalars = ctx.chain.values(features.detach())
        return scalars, ctx.chain.geometry(factors.to(scalars.dtype).expand(scalars.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_scalars: Tensor | None, along: Tensor | None) -> Gradients:
        if ctx.chain is None:
            raise RuntimeError(ONLY_ONCE)
        chain, ctx.chain = ctx.chain, None
        if along is not None:
            chain.tangents(along)
        return (None, None, None, *chain.weights(to_scalars, ctx.needs_input_grad[4:]))


class _Chain:
    """The parts one after another: each has its inputs from those before it."""

    def __init__(self, parts: EnergyParts, vectors: Tensor, weights: Sequence[Tensor]) -> None:
        self.parts, self.vectors, self.of_parts = parts, vectors, _shared(weights, parts.num_weights)
        self.measure = backend_for(vectors)

    def values(self, h: Tensor) -> Tensor:
        """The scalars, given the features before the first layer."""
        parts = self.parts
        self.dtype = h.dtype
        y, lengths = self.measure.edge_harmonics(self.vectors, parts.shortest, parts.max_ell, h.dtype)
        per_layer = []
        for layer, weights in zip(parts.layers, self.of_parts[:-1], strict=True):
            h = layer.values((h, y, lengths), weights)
            per_layer.append(h)
        return parts.readouts.values(per_layer[-parts.num_read :], self.of_parts[-1])

    def geometry(self, grad: Tensor) -> Tensor:
        """The gradient by the vectors, given that by the scalars."""
        parts = self.parts
        to_features = self._of_layers(parts.readouts.geometry(grad))
        to_y = to_lengths = to_h = None
        for layer, found in zip(reversed(parts.layers), reversed(to_features), strict=True):
            to_h, by_y, by_lengths = layer.geometry(_sum(to_h, found))
            to_y, to_lengths = _sum(to_y, by_y), _sum(to_lengths, by_lengths)
        assert to_y is not None and to_lengths is not None
        return self.measure.edge_harmonics_backward(to_y, to_lengths, self.vectors, parts.shortest, parts.max_ell)

    def tangents(self, along: Tensor) -> None:
        """Go along a change of the vectors."""
        parts = self.parts
        moved = self.measure.edge_harmonics_tangent(along, self.vectors, parts.shortest, parts.max_ell, self.dtype)
        h, per_layer = None, []
        for layer in parts.layers:
            h = layer.tangents((h, *moved))
            per_layer.append(h)
        parts.readouts.tangents(tuple(per_layer[-parts.num_read :]))

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Gradients by the features before the first layer and by all weights, given that by the scalars."""
        parts = self.parts
        *of_layers, of_readouts = _shared(wanted, parts.num_weights)
        by_features, last = parts.readouts.weights(grad, of_readouts)
        found, to_h = [last], None
        to_features = self._of_layers(by_features)
        for layer, asked, given in zip(reversed(parts.layers), reversed(of_layers), reversed(to_features), strict=True):
            (to_h, _, _), by_weights = layer.weights(_sum(to_h, given), asked)
            found.append(by_weights)
        return [to_h, *(gradient for each in reversed(found) for gradient in each)]

    def _of_layers(self, read: Gradients) -> Gradients:
        """One for every layer out of those of the layers that are read."""
        return *(None,) * (len(self.parts.layers) - self.parts.num_read), *read


def _shared(values: Sequence[Any], counts: Sequence[int]) -> list[tuple[Any, ...]]:
    """So many for each, in order."""
    left = iter(values)
    return [tuple(islice(left, count)) for count in counts]


def _sum(x: Tensor | None, y: Tensor | None) -> Any:
    """Of what there is; changes `x`."""
    if x is None or y is None:
        return y if x is None else x
    return x.add_(y)
