"""Linear maps between channels, one matrix per degree, optionally one per element; and their low-rank updates.

Initial weights are standard normal and every map divides by the square root of its fan-in, as in e3nn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from macekit.model.layer_inputs import LinearMap
from macekit.model.matrices import Layout, Span, per_degree


class NodeAttributes(NamedTuple):
    """Elements and additional features of the atoms, as classes of atoms with equal attributes.

    N atoms, S classes, F node features. Without additional features a class is an element. Inside the backbone atoms
    are in the order of their classes.
    """

    classes: Tensor
    """Class of every atom, int64 [N], ascending."""
    position: Tensor
    """Where every atom of the graph is in this order, int64 [N]."""
    features: Tensor | None
    """Features of every class, [S, F]; None: the classes are the elements, one-hot."""
    counts: list[int]
    """Number of atoms of every class, [S]."""

    def per_class(self, weight: Tensor) -> Tensor:
        """Weights [F, ...] of the features as weights [S, ...] of the classes."""
        return weight if self.features is None else torch.tensordot(self.features, weight, dims=1)


def node_attributes(species: Tensor, node_features: Tensor, num_elements: int, dtype: torch.dtype) -> NodeAttributes:
    """Order atoms by element and additional features.

    Args:
        species: Element index of every atom, int64 [N].
        node_features: Additional features, [N, F'].
        num_elements: Number of elements.
        dtype: Precision of the features.
    """
    if node_features.shape[1] == 0:
        classes, features, num_classes = species, None, num_elements
    else:
        one_hot = torch.nn.functional.one_hot(species, num_elements).to(node_features.dtype)
        distinct, classes = torch.unique(torch.cat([one_hot, node_features], dim=1), dim=0, return_inverse=True)
        features, num_classes = distinct.to(dtype), distinct.shape[0]
    ascending, order = torch.sort(classes, stable=True)
    position = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    counts = torch.bincount(classes, minlength=num_classes).tolist()
    return NodeAttributes(ascending, position, features, counts)


class DegreeLinear(nn.Module):
    """One matrix per degree: y[n, (l, m), :] = x[n, (l, m), :] W_l / √fan_in.

    Args:
        fan_in: Number of input channels of every degree.
        channels: Number of output channels.
        generator: Source of the initial weights.
    """

    def __init__(self, fan_in: Mapping[int, int], channels: int, generator: Generator) -> None:
        super().__init__()
        self.degrees = tuple(sorted(fan_in))
        self.weights = nn.ParameterDict({str(l): _normal((fan_in[l], channels), generator) for l in self.degrees})
        self.lora: nn.ParameterDict | None = None

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Map blocks [N, 2l+1, C_l] of all degrees to [N, D, K]."""
        return torch.cat([block @ self.scaled_weight(l) for l, block in zip(self.degrees, blocks, strict=True)], dim=1)

    def whole(self, x: Tensor, divisor: float = 1.0) -> Tensor:
        """Map features [N, ...], for every atom the blocks [2l+1, C_l] of all degrees one after another, to [N, D, K].

        Args:
            x: The features.
            divisor: By which the result is divided.
        """
        layout, matrices = self.map_of(tuple(x.shape[1:]), divisor)
        return per_degree(x, matrices, layout)

    def map_of(self, shape_in: tuple[int, ...], divisor: float = 1.0) -> LinearMap:
        """What `whole` does with features of this shape."""
        matrices = tuple(self._weight(l) for l in self.degrees)
        layout = _blocks_one_after_another(self.degrees, tuple(map(_shape, matrices)), shape_in, divisor)
        return LinearMap(layout, matrices)

    def add_lora(self, rank: int, generator: Generator) -> None:
        """Add a low-rank update W + A B (arXiv 2106.09685), with B = 0 so that nothing changes yet."""
        update = {}
        for l in self.degrees:
            weight = self.weights[str(l)]
            width = min(rank, *weight.shape)
            update[f"down_{l}"] = nn.Parameter(_normal((weight.shape[0], width), generator) / math.sqrt(width))
            update[f"up_{l}"] = nn.Parameter(torch.zeros(width, weight.shape[1]))
        self.lora = nn.ParameterDict(update)

    def _weight(self, l: int) -> Tensor:
        weight: Tensor = self.weights[str(l)]
        if self.lora is not None:
            weight = weight + self.lora[f"down_{l}"] @ self.lora[f"up_{l}"]
        return weight

    def scaled_weight(self, l: int) -> Tensor:
        """The matrix of a degree as it acts, with its low-rank update and 1/√fan_in."""
        weight = self._weight(l)
        return weight / math.sqrt(weight.shape[0])


class PlainResidual(DegreeLinear):
    """A residual that is the same for all elements.

    Args:
        degrees: Degrees of input and output.
        num_features: Not used.
        channels: K.
        generator: Source of the initial weights.
    """

    def __init__(self, degrees: Sequence[int], num_features: int, channels: int, generator: Generator) -> None:
        super().__init__(dict.fromkeys(degrees, channels), channels, generator)

    def forward(self, blocks: Sequence[Tensor], attributes: NodeAttributes | None = None) -> Tensor:
        """Map blocks [N, 2l+1, K] of all degrees to [N, D, K]."""
        return super().forward(blocks)

    def of_atoms(self, x: Tensor, attributes: NodeAttributes) -> Tensor:
        """Map features [N, D', K] that begin with the degrees in order to [N, D, K]."""
        return self.whole(x)

    def map_of_atoms(self, shape_in: tuple[int, ...], attributes: NodeAttributes) -> LinearMap:
        """What `of_atoms` does with features of this shape."""
        return self.map_of(shape_in)


class AttributeLinear(nn.Module):
    """One matrix per degree and node feature: y[n, (l, m), :] = Σ_f a[n, f] x[n, (l, m), :] W_lf / √(F K).

    For elements alone, the matrix is chosen by element; nothing is multiplied by a one-hot vector.

    Args:
        degrees: Degrees of input and output.
        num_features: F, number of node features.
        channels: K, number of input and output channels.
        generator: Source of the initial weights.

    `normalisation` is F, or that of the model that this one has some of the elements of.
    """

    def __init__(self, degrees: Sequence[int], num_features: int, channels: int, generator: Generator) -> None:
        super().__init__()
        self.degrees, self.normalisation = tuple(degrees), num_features
        self.weights = nn.ParameterDict(
            {str(l): _normal((num_features, channels, channels), generator) for l in self.degrees}
        )

    def forward(self, blocks: Sequence[Tensor], attributes: NodeAttributes) -> Tensor:
        """Map blocks [N, 2l+1, K] of all degrees to [N, D, K]."""
        return self.of_atoms(torch.cat(list(blocks), dim=1), attributes)

    def of_atoms(self, x: Tensor, attributes: NodeAttributes) -> Tensor:
        """Map features [N, D', K] that begin with the degrees in order to [N, D, K]."""
        layout, matrices = self.map_of_atoms(tuple(x.shape[1:]), attributes)
        return per_degree(x, matrices, layout)

    def map_of_atoms(self, shape_in: tuple[int, ...], attributes: NodeAttributes) -> LinearMap:
        """What `of_atoms` does with features of this shape."""
        matrices = tuple(attributes.per_class(self.weights[str(l)]) for l in self.degrees)  # [S, K, K] each
        shapes, divisor = tuple(map(_shape, matrices)), math.sqrt(self.normalisation)
        layout = _blocks_one_after_another(self.degrees, shapes, shape_in, divisor)
        return LinearMap(layout._replace(counts=tuple(attributes.counts)), matrices)

    def matrices(self, l: int, attributes: NodeAttributes) -> Tensor:
        """The matrix of every class for one degree, [S, K, K]."""
        weight: Tensor = self.weights[str(l)]
        return attributes.per_class(weight) / math.sqrt(self.normalisation * weight.shape[1])


@cache
def _blocks_one_after_another(
    degrees: tuple[int, ...], shapes: tuple[tuple[int, int], ...], shape_in: tuple[int, ...], divisor: float
) -> Layout:
    """Where the degrees are in features [N, *shape_in] that begin with them, and in the result.

    Args:
        degrees: Of the features, in order.
        shapes: Of the matrix of every degree, whose product is divided by √fan-in.
        shape_in: Of the features of one atom.
        divisor: By which the result is divided too.
    """
    spans, first_in, first_out = [], 0, 0
    for l, (fan_in, fan_out) in zip(degrees, shapes, strict=True):
        spans.append(Span(first_in, fan_in, first_out, fan_out, 2 * l + 1, 1.0 / (math.sqrt(fan_in) * divisor)))
        first_in += (2 * l + 1) * fan_in
        first_out += (2 * l + 1) * fan_out
    return Layout(tuple(spans), shape_in, (sum(span.components for span in spans), spans[0].fan_out))


def _shape(matrices: Tensor) -> tuple[int, int]:
    """Fan-in and fan-out of one matrix or several."""
    return matrices.shape[-2], matrices.shape[-1]


def split_degrees(x: Tensor, degrees: Sequence[int]) -> list[Tensor]:
    """The blocks [N, 2l+1, K] of features [N, D, K]."""
    return list(x.split([2 * l + 1 for l in degrees], dim=1))


def _normal(shape: tuple[int, ...], generator: Generator) -> nn.Parameter:
    """Standard normal values, drawn in float64 so that a seed means the same in every precision."""
    return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))


__all__ = ["AttributeLinear", "DegreeLinear", "NodeAttributes", "PlainResidual", "node_attributes", "split_degrees"]
