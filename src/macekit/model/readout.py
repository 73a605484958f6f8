"""Read-outs of single layers, and heads that sum them over layers, scale them, and pool them over structures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from macekit.geometry.graph import Graph
from macekit.model.linear import split_degrees
from macekit.model.mlp import SILU_NORM


class LinearReadout(nn.Module):
    """Linear map of the features of one degree: [N, 2l+1, K] → [N, 2l+1, T]."""

    def __init__(self, channels: int, num_outputs: int, generator: Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, num_outputs, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Apply W / √K."""
        return x @ (self.weight / math.sqrt(self.weight.shape[0]))


class ScalarMLP(nn.Module):
    """Read-out of the last layer for scalars: linear, SiLU, linear, without biases."""

    def __init__(self, channels: int, hidden: int, num_outputs: int, generator: Generator) -> None:
        super().__init__()
        self.linear_1 = LinearReadout(channels, hidden, generator)
        self.linear_2 = LinearReadout(hidden, num_outputs, generator)

    def forward(self, scalars: Tensor) -> Tensor:
        """[N, K] → [N, T]."""
        hidden = torch.nn.functional.silu(self.linear_1(scalars)) * SILU_NORM
        return self.linear_2(hidden)  # type: ignore[no-any-return]


class GatedVector(nn.Module):
    """Read-out of the last layer for a vector: vectors times gates made of scalars, then linear. Equivariant."""

    def __init__(self, channels: int, hidden: int, generator: Generator) -> None:
        super().__init__()
        self.vectors = LinearReadout(channels, hidden, generator)
        self.gates = LinearReadout(channels, hidden, generator)
        self.linear = LinearReadout(hidden, 1, generator)

    def forward(self, scalars: Tensor, vectors: Tensor) -> Tensor:
        """[N, K], [N, 3, K] → [N, 3]."""
        gates = torch.sigmoid(self.gates(scalars))[:, None]  # [N, 1, H]
        return self.linear(self.vectors(vectors) * gates).squeeze(-1)  # type: ignore[no-any-return]


class ScalarReadouts(nn.Module):
    """Sum over layers of the scalar read-outs, [N, T].

    Args:
        num_layers: Number of layers; the last is read by an MLP.
        channels: K.
        hidden: Units of the MLP.
        num_outputs: T.
        generator: Source of the initial weights.
    """

    def __init__(self, num_layers: int, channels: int, hidden: int, num_outputs: int, generator: Generator) -> None:
        super().__init__()
        self.readouts = nn.ModuleList(
            [LinearReadout(channels, num_outputs, generator) for _ in range(num_layers - 1)]
            + [ScalarMLP(channels, hidden, num_outputs, generator)]
        )

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Read the scalars of every layer's features [N, D, K]."""
        return _total([readout(h[:, 0]) for readout, h in zip(self.readouts, per_layer, strict=True)])


class VectorReadouts(nn.Module):
    """Sum over layers of the vector read-outs, [N, 3]; layers without vector features contribute nothing.

    Args:
        degrees: Degrees of every layer's features; those of the last include 1.
        channels: K.
        hidden: Channels of the gated read-out.
        generator: Source of the initial weights.
    """

    def __init__(self, degrees: Sequence[tuple[int, ...]], channels: int, hidden: int, generator: Generator) -> None:
        super().__init__()
        self.degrees = tuple(degrees)
        self.linear = nn.ModuleDict(
            {str(i): LinearReadout(channels, 1, generator) for i, d in enumerate(degrees[:-1]) if 1 in d}
        )
        self.gated = GatedVector(channels, hidden, generator)

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Read the vectors of every layer's features [N, D, K]."""
        blocks = [
            dict(zip(degrees, split_degrees(h, degrees), strict=True))
            for degrees, h in zip(self.degrees, per_layer, strict=True)
        ]
        read = [readout(blocks[int(i)][1]).squeeze(-1) for i, readout in self.linear.items()]
        return _total([*read, self.gated(blocks[-1][0].squeeze(1), blocks[-1][1])])


class Constants(nn.Module):
    """Float64 constants that follow the module between devices and keep their precision when it changes.

    Args:
        values: Nested lists of numbers.
    """

    value: Tensor

    def __init__(self, values: Sequence[float] | Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._values = values
        self.register_buffer("value", torch.tensor(values, dtype=torch.float64), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constants:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.value = torch.tensor(self._values, dtype=torch.float64, device=self.value.device)
        return self


class ScalarHead(nn.Module):
    """Scalars of every atom: E0[z] + scale · read-out + shift, per target, in float64.

    Args:
        readouts: Read-outs of all layers.
        scale: Factor of every target, [T].
        shift: Constant per atom of every target, [T].
        reference: E0 of every element and target, [S, T].
    """

    def __init__(
        self,
        readouts: ScalarReadouts,
        scale: Sequence[float],
        shift: Sequence[float],
        reference: Sequence[Sequence[float]],
    ) -> None:
        super().__init__()
        self.readouts = readouts
        self.scale, self.shift, self.reference = Constants(scale), Constants(shift), Constants(reference)

    def forward(self, per_layer: Sequence[Tensor], graph: Graph) -> Tensor:
        """Values of the atoms, float64 [N, T]."""
        read = self.readouts(per_layer).double()  # [N, T]
        offset = self.reference.value.index_select(0, graph.species) + self.shift.value
        return offset + self.scale.value * read  # type: ignore[no-any-return]


class VectorHead(nn.Module):
    """A vector of every atom: scale · read-out, in float64.

    Args:
        readouts: Read-outs of all layers.
        scale: Factor of the target.
    """

    def __init__(self, readouts: VectorReadouts, scale: float) -> None:
        super().__init__()
        self.readouts = readouts
        self.scale = Constants([scale])

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Vectors of the atoms, float64 [N, 3]."""
        return self.scale.value * self.readouts(per_layer).double()  # type: ignore[no-any-return]


class DeviationHead(nn.Module):
    """Standard deviation of graph scalars: the atoms' errors add up as independent ones do.

    σ_g² = Σ_i (scale · softplus(read-out_i))²: positive, and additive over parts that do not interact.

    Args:
        readouts: Read-outs of all layers.
        scale: Factor of every target, [T].
    """

    def __init__(self, readouts: ScalarReadouts, scale: Sequence[float]) -> None:
        super().__init__()
        self.readouts = readouts
        self.scale = Constants(scale)

    def forward(self, per_layer: Sequence[Tensor], graph: Graph) -> Tensor:
        """Standard deviations of the structures, float64 [G, T]; 0 for a structure without atoms."""
        per_atom = self.scale.value * torch.nn.functional.softplus(self.readouts(per_layer).double())  # [N, T]
        variance = pool(per_atom.square(), graph)
        has_atoms = variance != 0.0  # the square root has no derivative at 0
        return variance.where(has_atoms, 1.0).sqrt().where(has_atoms, 0.0)


def pool(values: Tensor, graph: Graph) -> Tensor:
    """Sum over the atoms of every structure, [N, ...] → [G, ...]."""
    return values.new_zeros(graph.num_graphs, *values.shape[1:]).index_add(0, graph.batch, values)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
