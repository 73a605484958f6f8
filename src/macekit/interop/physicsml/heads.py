"""Heads of a PhysicsML model: their weights, their scaling, and whether they behave as ours do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macekit.config import DatasetFacts
from macekit.errors import ModelFileError
from macekit.interop.physicsml.fields import has_variance, names_of, tuner_of
from macekit.interop.physicsml.weights import Tensors, Weights, scalar_readouts
from macekit.o3 import parse_scalar_irreps

HEADS = {
    "y_graph_scalars": "graph_scalars_head",
    "y_graph_vector": "graph_vector_head",
    "y_node_scalars": "node_scalars_head",
    "y_node_vector": "node_vector_head",
}


def present(values: Mapping[str, Any], targets: Mapping[str, Any]) -> list[str]:
    """Outputs that have a head; forces have none."""
    return [key for key in HEADS if targets[key] and not (key == "y_node_vector" and values["compute_forces"])]


def scales_and_shifts(
    tensors: Tensors, targets: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """Factor and constant of every target with a head."""
    scale: dict[str, float] = {}
    shift: dict[str, float] = {}
    for key in present(values, targets):
        factor, constant = (
            float(tensors.array(f"{HEADS[key]}.scale_shift.{name}", 1)[0]) for name in ("scale", "shift")
        )
        scale |= dict.fromkeys(names_of(targets[key]), factor)
        shift |= dict.fromkeys(names_of(targets[key]), constant)
    return scale, shift


def compatibility_of(name: str, values: Mapping[str, Any], facts: DatasetFacts) -> str:
    """Which behaviour the model needs: "none" where PhysicsML and we agree."""
    differs = (
        has_variance(name)
        or tuner_of(name) == "adapter"
        or values["num_edge_feats"] > 0
        or any(key.endswith("vector") for key in present(values, facts.targets.model_dump()))
        or (values["compute_forces"] and len(facts.targets.y_graph_scalars) > 1)
    )
    return "physicsml" if differs else "none"


def head_weights(
    tensors: Tensors, values: Mapping[str, Any], facts: DatasetFacts, channels: int, hidden: Sequence[int]
) -> Weights:
    """Weights of all heads, by our names."""
    layers, width = values["num_interactions"], parse_scalar_irreps(values["mlp_irreps"])
    targets = facts.targets.model_dump()
    weights: Weights = {}
    for key in present(values, targets):
        head, ours = HEADS[key], key.removeprefix("y_")
        if key.endswith("scalars"):
            found = scalar_readouts(tensors, head, layers, channels, width, len(targets[key]))
        else:
            found = _vector_readouts(tensors, head, layers, channels, width, 1 in hidden)
        weights |= {f"heads.{ours}.readouts.{name}": value for name, value in found.items()}
    std = "graph_scalars_head_std"
    if tensors.has(f"{std}.scale_shift.scale"):
        num_outputs = len(targets["y_graph_scalars"])
        found = scalar_readouts(tensors, std, layers, channels, width, num_outputs)
        weights |= {f"heads.graph_scalars_std.readouts.{name}": value for name, value in found.items()}
        mean = tensors.array("graph_scalars_head.scale_shift.scale", 1)
        own, constant = (tensors.array(f"{std}.scale_shift.{name}", 1) for name in ("scale", "shift"))
        if np.any(own != mean) or np.any(constant != 0.0):
            raise ModelFileError(f"{std}.scale_shift: another scale than that of the mean cannot be represented")
    return weights


def _vector_readouts(tensors: Tensors, head: str, layers: int, channels: int, width: int, has_vectors: bool) -> Weights:
    """Layers before the last are read linearly; what there is of the last has no weights."""
    last = f"{head}.readouts.{layers - 1}"
    tensors.array(f"{last}.linear_1.weight", channels, width)
    found = {}
    if has_vectors:
        for i in range(layers - 1):
            found[f"linear.{i}.weight"] = tensors.array(f"{head}.readouts.{i}.weight", channels, 1)
    return found
