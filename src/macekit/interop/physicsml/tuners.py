"""Tuners of a PhysicsML model as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.tree import Array
from macekit.interop.physicsml.weights import E3NN_SILU_NORM, BackboneReader, Tensors, Weights

EPSILON = 1e-5
"""Of e3nn's batch normalisation."""


def tuner_weights(
    tensors: Tensors, tuner: str, prefix: str, reader: BackboneReader, values: Mapping[str, Any]
) -> Weights:
    """Weights of what follows the layers, by our names.

    Raises:
        ModelFileError: If it cannot be represented.
    """
    weights: Weights = {}
    for layer in range(reader.num_layers):
        if tuner == "ssf":
            found = _ssf(tensors, f"{prefix}.ssf.{layer}", reader.degrees_of(layer), reader.channels)
            if layer == reader.num_layers - 1:
                found["gamma"] = found["gamma"][:1]
            weights |= {f"backbone.tuners.{layer}.{key}": value for key, value in found.items()}
        elif tuner == "adapter":
            found = _Adapter(tensors, prefix, layer, reader, values["ratio_adapter_down"]).read()
            weights |= {f"backbone.tuners.{layer}.{key}": value for key, value in found.items()}
    return weights


def _ssf(tensors: Tensors, prefix: str, degrees: Sequence[int], channels: int) -> dict[str, Array]:
    """γ per channel and degree, β for the scalars."""
    gamma = tensors.array(f"{prefix}.gamma", len(degrees), channels)
    return {"gamma": gamma[np.argsort(degrees)], "beta": tensors.array(f"{prefix}.beta", channels)}


class _Adapter:
    """The adapters of one layer, with the normalisations of e3nn at their stored statistics multiplied out."""

    def __init__(self, tensors: Tensors, prefix: str, layer: int, reader: BackboneReader, ratio: int) -> None:
        self.tensors, self.prefix, self.layer, self.channels = tensors, prefix, layer, reader.channels
        self.incoming = reader.degrees_of(layer - 1) if layer else (0,)
        self.outgoing = reader.degrees_of(layer)
        self.kept = (0,) if layer == reader.num_layers - 1 else tuple(sorted(self.outgoing))
        self.width = reader.channels // ratio

    def read(self) -> Weights:
        """Weights by the names of our adapter."""
        factors, constant = self._normalisation(f"{self.prefix}.batch_norms.{self.layer}")
        weights: Weights = {"gamma": np.stack([factors[l] for l in self.kept]), "beta": constant}
        for ours, degrees in (("before", self.incoming), ("after", self.outgoing)):
            found, shift = self._bottleneck(f"{self.prefix}.adapters_{ours}.{self.layer}", degrees)
            s = self.tensors.array(f"{self.prefix}.s_params_{ours}.{self.layer}", 1)
            weights |= {f"{ours}.{name}": value for name, value in found.items()} | {f"s_{ours}": s.reshape(())}
            weights["beta"] = weights["beta"] + s * shift
        return weights

    def _bottleneck(self, name: str, degrees: Sequence[int]) -> tuple[Weights, Array]:
        """Maps of an adapter, its normalisation in the last; and the constant that this adds to the scalars.

        Bottlenecks without channels are one channel that is zero.
        """
        k, width = self.channels, self.width
        down = self.tensors.blocks(f"{name}.linear_down.weight", [(k, width)] * len(degrees))
        shared = [l for l in degrees if l in self.outgoing]
        up = self.tensors.blocks(f"{name}.linear_up.weight", [(width, k)] * len(shared))
        factors, constant = self._normalisation(f"{name}.bn")
        weights: Weights = {}
        for l, first, last in zip(shared, [down[degrees.index(l)] for l in shared], up, strict=True):
            if l not in self.kept:
                continue
            weights[f"down.weights.{l}"] = first if width else np.zeros((k, 1))
            scaled = last * factors[l] * (E3NN_SILU_NORM if l == 0 else 1.0)
            weights[f"up.weights.{l}"] = scaled if width else np.zeros((1, k))
        return weights, constant

    def _normalisation(self, name: str) -> tuple[dict[int, Array], Array]:
        """Factors [K] by degree and the constant [K] of the scalars of an `e3nn.nn.BatchNorm` in evaluation."""
        size = (len(self.outgoing), self.channels)
        variance, weight = (self.tensors.array(f"{name}.{key}", *size) for key in ("running_var", "weight"))
        scale = weight / np.sqrt(variance + EPSILON)
        factors = dict(zip(self.outgoing, scale, strict=True))
        mean, bias = (self.tensors.array(f"{name}.{key}", self.channels) for key in ("running_mean", "bias"))
        return factors, bias - mean * factors[0]


def check_order(tuner: str, hidden: Sequence[int]) -> None:
    """Refuse what is not equivariant in PhysicsML.

    Raises:
        ModelFileError: If β would be added to vectors.
    """
    if tuner == "ssf" and hidden[0] != 0:
        raise ModelFileError(
            "hidden irreps that do not start with scalars: PhysicsML adds β to the first features there, "
            "which is not equivariant and cannot be represented"
        )
