"""What a layer of message passing is made of besides features and geometry, for `model.scheduled_layer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from torch import Tensor

from macekit.model.matrices import Layout, Span, all_chained

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

    def followed_by(self, other: LinearMap) -> LinearMap:
        """This map, the same for all classes, and another of its degrees as one, whose matrices are the products."""
        spans = tuple(
            Span(one.first_in, one.fan_in, two.first_out, two.fan_out, one.components, one.scale * two.scale)
            for one, two in zip(self.layout.spans, other.layout.spans, strict=True)
        )
        counts = self.layout.counts if other.layout.counts is None else other.layout.counts
        layout = Layout(spans, self.layout.shape_in, other.layout.shape_out, counts)
        return LinearMap(layout, all_chained(self.matrices, other.matrices))

    def is_worth_joining(self, other: LinearMap, num_atoms: int) -> bool:
        """Whether training takes fewer multiplications with `followed_by` than with both maps one after another.

        A step has three products of the matrices, and six of the features: values and tangents, both of their
        adjoints, and twice the gradient of the matrices.
        """
        classes = 1 if other.layout.counts is None else len(other.layout.counts)
        pairs = list(zip(self.layout.spans, other.layout.spans, strict=True))
        of_matrices = classes * sum(one.fan_in * one.fan_out * two.fan_out for one, two in pairs)
        of_features = num_atoms * sum(two.components * two.fan_in * two.fan_out for _, two in pairs)
        return of_matrices < 2 * of_features


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

    def all_maps(self) -> tuple[LinearMap | None, ...]:
        """In the order of `kernels.layer_parts.LayerParts`."""
        return self.up, self.linear, self.mix, self.product, self.residual

    def maps(self) -> list[LinearMap]:
        """Those that are there."""
        return [each for each in self.all_maps() if each is not None]

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
