"""What a layer of message passing is made of besides features and geometry, for `model.scheduled_layer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from macekit.model.matrices import Layout

T = TypeVar("T")


class LinearMap(NamedTuple):
    """Products with one matrix per degree, or per degree and class."""

    layout: Layout
    """Where the degrees are."""
    matrices: tuple[Tensor, ...]
    """In its order."""

    def __call__(self, x: Tensor) -> Tensor:
        """S x W."""
        return self.layout.product(x, self.matrices)

    def transposed(self, y: Tensor) -> Tensor:
        """S y Wᵀ."""
        return self.layout.transposed(y, self.matrices)

    def followed_by(self, by_class: LinearMap, atoms: int) -> LinearMap | None:
        """This map and then one by class as one map by class, if a training step is cheaper with it, else None.

        A step applies a map four times and makes two outer products for its gradient, for every row of features; the
        product of the matrices and its two gradients are made once for every class.

        Args:
            by_class: From all of the output, degree by degree.
            atoms: N.
        """
        first, second = self.layout, by_class.layout
        assert first.counts is None and second.counts is not None and first.shape_out == second.shape_in
        rows = sum(span.components for span in second.spans)
        if 3 * len(second.counts) * sum(span.fan_in for span in first.spans) > 6 * atoms * rows:
            return None
        spans = tuple(
            one._replace(first_out=other.first_out, fan_out=other.fan_out, scale=one.scale * other.scale)
            for one, other in zip(first.spans, second.spans, strict=True)
        )
        layout = Layout(spans, first.shape_in, second.shape_out, second.counts)
        pairs = zip(self.matrices, by_class.matrices, strict=True)
        return LinearMap(layout, tuple(torch.matmul(one, other) for one, other in pairs))


class LayerInputs(NamedTuple):
    """Everything that the values of a layer depend on besides its features and the geometry."""

    up: LinearMap
    """From features to what is sent."""
    linear: LinearMap
    """From messages to the atomic basis."""
    mix: LinearMap | None
    """By element, of the atomic basis; None: it is not mixed."""
    product: LinearMap
    """From polynomials to the output."""
    residual: LinearMap | None
    """From features to the first rows of the output; None: there is none."""
    table: Tensor
    """Radial functions, [G + 2, P, K]."""
    coefficients: Tensor
    """Of the polynomials, [S, T, K]."""
    sender: Tensor
    """int64 [E]."""
    receiver: Tensor
    """int64 [E]."""
    classes: Tensor
    """Class of every atom, int64 [N]."""
    first: float
    """Distance of the first knot, Å."""
    step: float
    """Distance between knots, Å."""
    convolution: str
    """Name of the `ConvolutionStructure`."""
    contraction: str
    """Name of the `ContractionStructure`."""

    def maps(self) -> list[LinearMap]:
        """Those that are there."""
        return [each for each in (self.up, self.linear, self.mix, self.product, self.residual) if each is not None]

    def weights(self) -> tuple[Tensor, ...]:
        """Everything that has a gradient."""
        return *(matrix for each in self.maps() for matrix in each.matrices), self.table, self.coefficients

    def with_weights(self, weights: Sequence[Tensor]) -> LayerInputs:
        """The same with other tensors in the place of `weights()`."""
        left = iter(weights)

        def renewed(each: LinearMap) -> LinearMap:
            return each._replace(matrices=take(left, each))

        return self._replace(  # in the order of `weights`
            up=renewed(self.up),
            linear=renewed(self.linear),
            mix=None if self.mix is None else renewed(self.mix),
            product=renewed(self.product),
            residual=None if self.residual is None else renewed(self.residual),
            table=next(left),
            coefficients=next(left),
        )


def take(values: Iterator[T], linear: LinearMap) -> tuple[T, ...]:
    """As many values as the map has matrices."""
    return tuple(islice(values, len(linear.matrices)))
