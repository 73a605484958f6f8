"""Weights of ours as a checkpoint of PhysicsML's base model, exactly: the inverse of `weights`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from macekit.interop.mace_torch.projection import project_paths
from macekit.interop.mace_torch.tree import Array
from macekit.interop.physicsml.trees import coupling_trees
from macekit.interop.physicsml.weights import E3NN_SILU_NORM, Weights
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure
from macekit.model.mlp import SILU_NORM
from macekit.o3 import symmetric_product, wigner_3j

BACKBONE = "mace"
EMPTY = np.zeros(0)


class BackboneWriter:
    """Tensors of the backbone.

    Args:
        weights: Our parameters, float64.
        hidden: Degrees of the hidden features, ascending.
        channels: K.
        max_ell: Highest degree of the harmonics.
        correlation: Highest order of the contraction.
        num_layers: Number of layers.
        rescaled: Maps by element in PhysicsML's normalisation, in units of ours.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        hidden: Sequence[int],
        channels: int,
        max_ell: int,
        correlation: int,
        num_layers: int,
        rescaled: float,
    ) -> None:
        self.weights, self.hidden, self.channels = weights, tuple(hidden), channels
        self.max_ell, self.correlation, self.num_layers, self.rescaled = max_ell, correlation, num_layers, rescaled
        self.num_features = len(weights["backbone.embedding"])

    def degrees_of(self, layer: int) -> tuple[int, ...]:
        """Degrees that a layer puts out in PhysicsML; a single layer keeps all of them."""
        return (0,) if 0 < layer == self.num_layers - 1 else self.hidden

    def tensors(self) -> dict[str, Array]:
        """All tensors, by PhysicsML's names without that of the backbone, float64."""
        found = linear("node_embedding", [self.weights["backbone.embedding"] * self.rescaled], self.channels)
        for layer in range(self.num_layers):
            incoming = self.degrees_of(layer - 1) if layer else (0,)
            found |= self._interaction(layer, incoming) | self._messages(layer) | self._update(layer, incoming)
        return found

    def _of_layer(self, layer: int, name: str) -> Array | None:
        return self.weights.get(f"backbone.layers.{layer}.{name}")

    def _interaction(self, layer: int, incoming: tuple[int, ...]) -> dict[str, Array]:
        prefix, k, degrees = f"interactions.{layer}", self.channels, range(self.max_ell + 1)
        structure = ConvolutionStructure.from_key(ConvolutionStructure.key(tuple(sorted(incoming)), self.max_ell))
        ours = [(path.l_in, path.l_sh, path.l_out) for path in structure.paths]
        theirs = sorted(ours)
        up = [self._required(layer, f"interaction.linear_up.weights.{l}") for l in incoming]
        found = linear(f"{prefix}.linear_node_feats", up, _dimension(incoming, k))
        number = 0
        while (matrix := self._of_layer(layer, f"interaction.radial.weights.{number}")) is not None:
            scaled = matrix * (SILU_NORM / E3NN_SILU_NORM) if number else matrix
            found[f"{prefix}.net_R_channels.layer{number}.weight"] = scaled
            number += 1
        name = f"{prefix}.net_R_channels.layer{number - 1}.weight"
        order = [ours.index(path) for path in theirs]
        found[name] = found[name].reshape(-1, len(ours), k)[:, order].reshape(found[name].shape)
        outputs = sum((2 * path[2] + 1) * k for path in theirs)
        found |= {f"{prefix}.conv_tp.weight": EMPTY, f"{prefix}.conv_tp.output_mask": np.ones(outputs)}
        for path in theirs:
            if min(path) > 0:
                ending = "_w3j_{}_{}_{}".format(*path)
                found[f"{prefix}.conv_tp._compiled_main_left_right.{ending}"] = wigner_3j(*path)
        after = []
        for l in degrees:
            matrix = self._required(layer, f"interaction.linear.weights.{l}")
            at_ours, at_theirs = ([path for path in paths if path[2] == l] for paths in (ours, theirs))
            rows = matrix.reshape(len(at_ours), -1, k)[[at_ours.index(path) for path in at_theirs]]
            after.append(rows.reshape(matrix.shape))
        found |= linear(f"{prefix}.linear", after, _dimension(degrees, k))
        if layer == 0:
            mix = [self._by_feature(layer, f"interaction.mix.weights.{l}") for l in degrees]
            found |= product(f"{prefix}.mix_layer", mix, _dimension(degrees, k))
        return found

    def _messages(self, layer: int) -> dict[str, Array]:
        """Weights of the coupling trees; of the many that mean the same, those of smallest norm."""
        found = {}
        kept = tuple(l for l in self.degrees_of(layer) if l == 0 or layer < self.num_layers - 1)
        structure = ContractionStructure.from_key(ContractionStructure.key(self.max_ell, kept, self.correlation))
        ours = self._required(layer, "product.weights")  # [F, functions, K]
        ends = np.cumsum([symmetric.num_functions for symmetric in structure.products])[:-1]
        by_kind = {
            (symmetric.degree, symmetric.order): part
            for symmetric, part in zip(structure.products, np.split(ours, ends, axis=1), strict=True)
        }
        for index, degree in enumerate(self.degrees_of(layer)):
            where = f"messages.{layer}.symmetric_contractions.contractions.{index}"
            for order in range(1, self.correlation + 1):
                trees, inverse = _trees(self.max_ell, degree, order)
                name = "weights_max" if order == self.correlation else f"weights.{self.correlation - 1 - order}"
                empty = np.zeros((self.num_features, inverse.shape[1], self.channels))
                part = by_kind.get((degree, order), empty)
                found[f"{where}.U_matrices.{order}"] = trees
                found[f"{where}.{name}"] = np.einsum("pf,zfk->zpk", inverse, part)
        return found

    def _update(self, layer: int, incoming: tuple[int, ...]) -> dict[str, Array]:
        degrees, k = self.degrees_of(layer), self.channels
        silent = np.zeros((k, k))  # of degrees that a single layer puts out and nothing reads
        blocks = [self._of_layer(layer, f"product.linear.weights.{l}") for l in degrees]
        matrices = [silent if block is None else block for block in blocks]
        found = linear(f"node_updates.{layer}.linear", matrices, _dimension(degrees, k))
        if layer:
            carried = [self._by_feature(layer, f"residual.weights.{l}") for l in incoming if l in degrees]
            found |= product(f"node_updates.{layer}.residual_connection_layer", carried, _dimension(degrees, k))
        return found

    def _required(self, layer: int, name: str) -> Array:
        return self.weights[f"backbone.layers.{layer}.{name}"]

    def _by_feature(self, layer: int, name: str) -> Array:
        """Matrices [F, K, K] of ours as e3nn's [K, F, K]."""
        return self._required(layer, name).transpose(1, 0, 2) * self.rescaled


@cache
def _trees(max_ell: int, degree: int, order: int) -> tuple[Array, Array]:
    """The trees [..., P], and the map [P, F] from weights of our functions to weights of trees."""
    symmetric = symmetric_product(max_ell, degree, order)
    trees = coupling_trees(max_ell, degree, order)
    members = project_paths(trees, symmetric, (max_ell + 1) ** 2, "coupling trees").members
    return trees, np.asarray(np.linalg.pinv(members.T), dtype=np.float64)


def readouts(weights: Mapping[str, Array], head: str, scale: Sequence[float], hidden_width: int) -> dict[str, Array]:
    """Tensors of a scalar head whose factors are multiplied into its last maps.

    Args:
        weights: Parameters of our head: `readouts.0.weight`, ...
        head: Its name in PhysicsML.
        scale: Factor of every column, [T].
        hidden_width: Units of the MLP.
    """
    count = len({name.split(".")[1] for name in weights})
    found: dict[str, Array] = {}
    for i in range(count - 1):
        found |= linear(f"{head}.readouts.{i}", [weights[f"readouts.{i}.weight"] * scale], len(scale))
    last = f"readouts.{count - 1}"
    found |= linear(f"{head}.{last}.linear_1", [weights[f"{last}.linear_1.weight"]], hidden_width)
    second = weights[f"{last}.linear_2.weight"] * scale * (SILU_NORM / E3NN_SILU_NORM)
    return found | linear(f"{head}.{last}.linear_2", [second], len(scale))


def linear(name: str, blocks: Sequence[Array], outputs: int) -> dict[str, Array]:
    """A linear map of e3nn: its blocks in one row, no bias, and the mask of its outputs."""
    return product(name, blocks, outputs) | {f"{name}.bias": EMPTY}


def product(name: str, blocks: Sequence[Array], outputs: int) -> dict[str, Array]:
    """A tensor product of e3nn: its blocks in one row, and the mask of its outputs."""
    flat = np.concatenate([block.ravel() for block in blocks])
    return {f"{name}.weight": flat, f"{name}.output_mask": np.ones(outputs)}


def _dimension(degrees: Sequence[int], channels: int) -> int:
    return sum((2 * l + 1) * channels for l in degrees)
