"""Tuners of a PhysicsML model as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.tree import Array
from macekit.interop.physicsml.weights import BackboneReader, Tensors, Weights


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
            raise ModelFileError("adapters with batch normalisation cannot be represented")
    return weights


def _ssf(tensors: Tensors, prefix: str, degrees: Sequence[int], channels: int) -> dict[str, Array]:
    """γ per channel and degree, β for the scalars."""
    if degrees[0] != 0:
        raise ModelFileError(
            f"{prefix}: hidden irreps that do not start with scalars: PhysicsML adds β to other features there, "
            "which is not equivariant and cannot be represented"
        )
    gamma = tensors.array(f"{prefix}.gamma", len(degrees), channels)
    return {"gamma": gamma[np.argsort(degrees)], "beta": tensors.array(f"{prefix}.beta", channels)}
