"""Read-outs of single layers, and heads that sum them over layers, scale them, and pool them over structures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from macekit.geometry.graph import Graph
from macekit.kernels import sweeps
from macekit.model.activation import ACTIVATIONS
from macekit.model.constants import Constants
from macekit.model.features import Features
from macekit.model.linear import split_degrees
from macekit.model.scheduled_readouts import scheduled_readouts


def gate_function(name: str) -> Callable[[Tensor], Tensor]:
    """Function of the gates of vectors; the sigmoid as it is, between 0 and 1."""
    if name == "sigmoid":
        return torch.sigmoid
    return ACTIVATIONS[name].__call__


class LinearReadout(nn.Module):
    """Linear map of the features of one degree: [N, 2l+1, K] → [N, 2l+1, T]."""

    def __init__(self, channels: int, num_outputs: int, generator: Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, num_outputs, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Apply W / √K."""
        return x @ (self.weight / math.sqrt(self.weight.shape[0]))


class ScalarMLP(nn.Module):
    """Read-out of the last layer for scalars: linear, activation, linear, without biases."""

    linear_1: LinearReadout
    linear_2: LinearReadout

    def __init__(
        self, channels: int, hidden: int, num_outputs: int, generator: Generator, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.linear_1 = LinearReadout(channels, hidden, generator)
        self.linear_2 = LinearReadout(hidden, num_outputs, generator)

    def forward(self, scalars: Tensor) -> Tensor:
        """[N, K] → [N, T]."""
        return self.linear_2(self.activation(self.linear_1(scalars)))  # type: ignore[no-any-return]


class BiasedMLP(nn.Module):
    """Read-out of the last layer for scalars with two hidden layers, biases after the first of them."""

    linear_mid: LinearReadout
    linear_1: LinearReadout
    linear_2: LinearReadout

    def __init__(
        self, channels: int, hidden: int, num_outputs: int, generator: Generator, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.linear_1 = LinearReadout(channels, hidden, generator)
        self.linear_mid = LinearReadout(hidden, hidden, generator)
        self.linear_2 = LinearReadout(hidden, num_outputs, generator)
        self.bias_mid = nn.Parameter(torch.zeros(hidden, dtype=torch.float64))
        self.bias_2 = nn.Parameter(torch.zeros(num_outputs, dtype=torch.float64))

    def forward(self, scalars: Tensor) -> Tensor:
        """[N, K] → [N, T]."""
        hidden = self.activation(self.linear_1(scalars))
        hidden = self.activation(self.linear_mid(hidden) + self.bias_mid)
        outputs: Tensor = self.linear_2(hidden) + self.bias_2
        return outputs


MLPS: dict[str, type[ScalarMLP] | type[BiasedMLP]] = {"plain": ScalarMLP, "biased": BiasedMLP}
"""By the name that configurations use."""


class GatedVector(nn.Module):
    """Read-out of the last layer for a vector: vectors times gates made of scalars, then linear. Equivariant."""

    def __init__(self, channels: int, hidden: int, generator: Generator, gate: str = "sigmoid") -> None:
        super().__init__()
        self.gate = gate_function(gate)
        self.vectors = LinearReadout(channels, hidden, generator)
        self.gates = LinearReadout(channels, hidden, generator)
        self.linear = LinearReadout(hidden, 1, generator)

    def forward(self, scalars: Tensor, vectors: Tensor) -> Tensor:
        """[N, K], [N, 3, K] → [N, 3]."""
        gates = self.gate(self.gates(scalars))[:, None]  # [N, 1, H]
        return self.linear(self.vectors(vectors) * gates).squeeze(-1)  # type: ignore[no-any-return]


class ScalarReadouts(nn.Module):
    """Sum over layers of the scalar read-outs, [N, T].

    Args:
        num_layers: Number of layers; the last is read by an MLP.
        channels: K.
        hidden: Units of the MLP.
        num_outputs: T.
        generator: Source of the initial weights.
        activation: Of the MLP.
        reads: "all" layers, or the "last" alone.
        mlp: Which of `MLPS`.
    """

    def __init__(
        self,
        num_layers: int,
        channels: int,
        hidden: int,
        num_outputs: int,
        generator: Generator,
        activation: str = "silu",
        reads: str = "all",
        mlp: str = "plain",
    ) -> None:
        super().__init__()
        num_linear = num_layers - 1 if reads == "all" else 0
        self.readouts = nn.ModuleList(
            [LinearReadout(channels, num_outputs, generator) for _ in range(num_linear)]
            + [MLPS[mlp](channels, hidden, num_outputs, generator, activation)]
        )

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Read the scalars of every layer's features [N, D, K]."""
        read = per_layer[len(per_layer) - len(self.readouts) :]
        if sweeps.is_scheduled() and (weights := self.scheduled_weights()) is not None:
            return scheduled_readouts(read, weights)
        return _total([readout(h[:, 0]) for readout, h in zip(self.readouts, read, strict=True)])

    def scheduled_weights(self) -> tuple[Tensor, ...] | None:
        """The matrices in the order of `scheduled_readouts`; None where the read-outs are not one operation."""
        last = self.readouts[-1]
        if not isinstance(last, ScalarMLP) or last.activation != ACTIVATIONS["silu"]:
            return None
        linear = [readout.weight for readout in self.readouts[:-1] if isinstance(readout, LinearReadout)]
        return *linear, last.linear_1.weight, last.linear_2.weight


class VectorReadouts(nn.Module):
    """Sum over layers of the vector read-outs, [N, 3]; layers without vector features contribute nothing.

    Args:
        degrees: Degrees of every layer's features; those of the last include 1.
        channels: K.
        hidden: Channels of the gated read-out.
        generator: Source of the initial weights.
        gate: Function of the gates.
    """

    def __init__(
        self,
        degrees: Sequence[tuple[int, ...]],
        channels: int,
        hidden: int,
        generator: Generator,
        gate: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.degrees = tuple(degrees)
        self.linear = nn.ModuleDict(
            {str(i): LinearReadout(channels, 1, generator) for i, d in enumerate(degrees[:-1]) if 1 in d}
        )
        self.gated = GatedVector(channels, hidden, generator, gate)

    def forward(self, per_layer: Sequence[Tensor]) -> Tensor:
        """Read the vectors of every layer's features [N, D, K]."""
        blocks = [
            dict(zip(degrees, split_degrees(h, degrees), strict=True))
            for degrees, h in zip(self.degrees, per_layer, strict=True)
        ]
        read = [readout(blocks[int(i)][1]).squeeze(-1) for i, readout in self.linear.items()]
        return _total([*read, self.gated(blocks[-1][0].squeeze(1), blocks[-1][1])])


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

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Values of the atoms, float64 [N, T]."""
        return self.of_readouts(features.in_order(self.readouts(features.per_layer)), graph)

    def of_readouts(self, read: Tensor, graph: Graph) -> Tensor:
        """The same out of the sums of the read-outs, [N, T] in the order of the graph."""
        offset = self.reference.value.index_select(0, graph.species) + self.shift.value
        return offset + self.scale.value * read.double()


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

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Vectors of the atoms, float64 [N, 3]."""
        return self.scale.value * features.in_order(self.readouts(features.per_layer).double())


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

    def forward(self, features: Features, graph: Graph) -> Tensor:
        """Standard deviations of the structures, float64 [G, T]; 0 for a structure without atoms."""
        read = features.in_order(self.readouts(features.per_layer).double())
        per_atom = self.scale.value * torch.nn.functional.softplus(read)  # [N, T]
        variance = pool(per_atom.square(), graph.batch, graph.num_graphs)
        has_atoms = variance != 0.0  # the square root has no derivative at 0
        return variance.where(has_atoms, 1.0).sqrt().where(has_atoms, 0.0)


def pool(values: Tensor, batch: Tensor, num_structures: int) -> Tensor:
    """Sum over the atoms of every structure, [N, ...] → [G, ...]; `batch` tells the structure of every atom."""
    return values.new_zeros(num_structures, *values.shape[1:]).index_add(0, batch, values)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
