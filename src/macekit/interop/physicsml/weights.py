"""Weights of a PhysicsML checkpoint as weights of ours, exactly.

The maps of e3nn divide by the square root of their fan-in as ours do, so that most weights are the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.contraction import contraction_weights
from macekit.interop.mace_torch.maps import wigner_ratio
from macekit.interop.mace_torch.projection import CancellingTerms
from macekit.interop.mace_torch.tree import Array
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure
from macekit.model.mlp import SILU_NORM
from macekit.o3 import SymmetricProduct

Weights = dict[str, Array]
E3NN_SILU_NORM = 1.6791767923989418
"""e3nn's normalisation of SiLU, from a sample of a million."""


class Tensors:
    """Tensors of a checkpoint by name, each of which must be used.

    Args:
        tensors: The checkpoint.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.tensors = tensors
        self.used: set[str] = set()
        self.rounds_couplings = False
        """Whether coupling coefficients of convolutions that have been used are those of float32."""

    def array(self, name: str, *shape: int) -> Array:
        """A tensor of a number of values in a shape, float64."""
        value = self.tensors.get(name)
        if value is None:
            raise ModelFileError(f"{name}: missing in the checkpoint")
        if shape and value.size != prod(shape):
            raise ModelFileError(f"{name}: shape {list(value.shape)} in the checkpoint, expected {list(shape)}")
        self.used.add(name)
        found = np.asarray(value, dtype=np.float64)
        return found.reshape(shape) if shape else found

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.tensors

    def blocks(self, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """A tensor that holds several blocks one after the other."""
        flat = self.array(name, sum(prod(shape) for shape in shapes))
        ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]

    def wigner(self, prefix: str, degrees: tuple[int, int, int]) -> float:
        """Stored coupling coefficients of a convolution in units of ours."""
        ending = "_w3j_{}_{}_{}".format(*degrees)
        names = [name for name in self.tensors if name.startswith(prefix) and name.endswith(ending)]
        self.used.update(names)
        ratio, is_rounded = wigner_ratio(self.tensors[names[0]] if names else None, degrees, prefix)
        self.rounds_couplings |= bool(is_rounded)
        return ratio

    def unused(self) -> list[str]:
        """Tensors with values that have not been used; masks are constants of e3nn."""
        return sorted(
            name
            for name, value in self.tensors.items()
            if name not in self.used and value.size and not name.endswith(".output_mask")
        )


class BackboneReader:
    """Weights of the layers.

    Args:
        tensors: The checkpoint.
        prefix: Name of the backbone in it.
        hidden: Degrees of the hidden features in the order of the file.
        channels: K.
        max_ell: Highest degree of the harmonics.
        correlation: Highest order of the contraction.
        num_layers: Number of layers.
        radial_widths: Inputs and hidden units of the radial MLP.
        num_features: F, node features in the file.
        rows: Positions in the file of the node features to keep.
    """

    def __init__(
        self,
        tensors: Tensors,
        prefix: str,
        *,
        hidden: Sequence[int],
        channels: int,
        max_ell: int,
        correlation: int,
        num_layers: int,
        radial_widths: Sequence[int],
        num_features: int,
        rows: Sequence[int],
    ) -> None:
        self.tensors, self.prefix = tensors, prefix
        self.hidden, self.channels, self.max_ell, self.correlation = tuple(hidden), channels, max_ell, correlation
        self.num_layers, self.radial_widths = num_layers, list(radial_widths)
        self.num_features, self.rows = num_features, list(rows)
        self.has_cancelling = False

    def degrees_of(self, layer: int) -> tuple[int, ...]:
        """Degrees that a layer of the file puts out, in its order."""
        return (0,) if 0 < layer == self.num_layers - 1 else self.hidden

    def read(self) -> Weights:
        """All weights, by the names of our parameters."""
        try:
            return self._read()
        except CancellingTerms:
            self.has_cancelling = True
            return self._read()

    def _read(self) -> Weights:
        embedding = self.tensors.array(f"{self.prefix}.node_embedding.weight", self.num_features, self.channels)
        weights = {"backbone.embedding": embedding[self.rows]}
        for i in range(self.num_layers):
            incoming = self.degrees_of(i - 1) if i else (0,)
            found = self._interaction(i, incoming) | self._product(i)
            if i:
                found |= self._residual(i, incoming)
            weights |= {f"backbone.layers.{i}.{name}": value for name, value in found.items()}
        return weights

    def _interaction(self, layer: int, incoming: tuple[int, ...]) -> Weights:
        prefix, k = f"{self.prefix}.interactions.{layer}", self.channels
        theirs = [
            (l_in, l_sh, l_out)
            for l_in in incoming
            for l_sh in range(self.max_ell + 1)
            for l_out in range(abs(l_in - l_sh), min(l_in + l_sh, self.max_ell) + 1)
            if (l_in + l_sh + l_out) % 2 == 0
        ]
        structure = ConvolutionStructure.from_key(ConvolutionStructure.key(tuple(sorted(incoming)), self.max_ell))
        ours = [(path.l_in, path.l_sh, path.l_out) for path in structure.paths]
        if sorted(ours) != sorted(theirs):
            raise ModelFileError(f"{prefix}: a convolution of other paths than ours cannot be represented")
        up = self.tensors.blocks(f"{prefix}.linear_node_feats.weight", [(k, k)] * len(incoming))
        weights = {f"linear_up.weights.{l}": matrix for l, matrix in zip(incoming, up, strict=True)}
        widths = [*self.radial_widths, len(theirs) * k]
        for n, (fan_in, fan_out) in enumerate(pairwise(widths)):
            matrix = self.tensors.array(f"{prefix}.net_R_channels.layer{n}.weight", fan_in, fan_out)
            if n:
                matrix = matrix * (E3NN_SILU_NORM / SILU_NORM)
            if n == len(widths) - 2:
                columns = matrix.reshape(fan_in, len(theirs), k)
                factors = [self.tensors.wigner(f"{prefix}.conv_tp.", path) for path in ours]
                order = [theirs.index(path) for path in ours]
                matrix = (columns[:, order] * np.array(factors)[:, None]).reshape(fan_in, fan_out)
            weights[f"radial.weights.{n}"] = matrix
        degrees = range(self.max_ell + 1)
        counts = {l: sum(path[2] == l for path in theirs) for l in degrees}
        after = self.tensors.blocks(f"{prefix}.linear.weight", [(counts[l] * k, k) for l in degrees if counts[l]])
        for l, matrix in zip([l for l in degrees if counts[l]], after, strict=True):
            at = [path for path in theirs if path[2] == l]
            order = [at.index(path) for path in ours if path[2] == l]
            weights[f"linear.weights.{l}"] = matrix.reshape(counts[l], k, k)[order].reshape(matrix.shape)
        if layer == 0:
            mix = self.tensors.blocks(f"{prefix}.mix_layer.weight", [(k, self.num_features, k)] * len(degrees))
            weights |= {f"mix.weights.{l}": self._of_features(block) for l, block in zip(degrees, mix, strict=True)}
        return {f"interaction.{name}": value for name, value in weights.items()}

    def _of_features(self, block: Array) -> Array:
        """Matrices [K, F, K] of e3nn as ours, [F', K, K], of the kept features."""
        return block.transpose(1, 0, 2)[self.rows]

    def _product(self, layer: int) -> Weights:
        degrees, k, order = self.degrees_of(layer), self.channels, self.correlation
        kept = (0,) if layer == self.num_layers - 1 else tuple(sorted(degrees))
        prefix = f"{self.prefix}.messages.{layer}.symmetric_contractions.contractions"

        def stored(symmetric: SymmetricProduct) -> tuple[Array, Array, str]:
            where = f"{prefix}.{degrees.index(symmetric.degree)}"
            tensor = self.tensors.array(f"{where}.U_matrices.{symmetric.order}")
            name = "weights_max" if symmetric.order == order else f"weights.{order - 1 - symmetric.order}"
            weight = self.tensors.array(f"{where}.{name}", self.num_features, tensor.shape[-1], k)
            return weight[self.rows], tensor, where

        key = ContractionStructure.key(self.max_ell, kept, order, self.has_cancelling)
        weights = contraction_weights(key, stored, len(self.rows), k, (self.max_ell + 1) ** 2)
        linear = self.tensors.blocks(f"{self.prefix}.node_updates.{layer}.linear.weight", [(k, k)] * len(degrees))
        for l, matrix in zip(degrees, linear, strict=True):
            if l in kept:
                weights[f"product.linear.weights.{l}"] = matrix
        return weights

    def _residual(self, layer: int, incoming: tuple[int, ...]) -> Weights:
        shared = [l for l in incoming if l in self.degrees_of(layer)]
        blocks = self.tensors.blocks(
            f"{self.prefix}.node_updates.{layer}.residual_connection_layer.weight",
            [(self.channels, self.num_features, self.channels)] * len(shared),
        )
        return {f"residual.weights.{l}": self._of_features(block) for l, block in zip(shared, blocks, strict=True)}


def scalar_readouts(
    tensors: Tensors, head: str, num_layers: int, channels: int, hidden: int, num_outputs: int
) -> Weights:
    """Weights of the read-outs of a scalar head, by our names."""
    weights = {
        f"readouts.{i}.weight": tensors.array(f"{head}.readouts.{i}.weight", channels, num_outputs)
        for i in range(num_layers - 1)
    }
    last = f"readouts.{num_layers - 1}"
    weights[f"{last}.linear_1.weight"] = tensors.array(f"{head}.{last}.linear_1.weight", channels, hidden)
    second = tensors.array(f"{head}.{last}.linear_2.weight", hidden, num_outputs)
    weights[f"{last}.linear_2.weight"] = second * (E3NN_SILU_NORM / SILU_NORM)
    return weights
