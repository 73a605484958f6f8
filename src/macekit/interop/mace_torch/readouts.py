"""Read-outs of a mace-torch model as read-outs of ours: energies of one head, dipoles."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from macekit.interop.mace_torch.description import Description
from macekit.interop.mace_torch.maps import activation, by_degree, gate_functions, linear_blocks
from macekit.interop.mace_torch.tree import Array, Module
from macekit.model.activation import ACTIVATIONS

Weights = dict[str, Array]


def readout_weights(model: Module, description: Description, heads: Sequence[int]) -> Weights:
    """Weights of all read-outs, by the names of our parameters.

    Args:
        model: The model.
        description: What it is.
        heads: Positions of the heads.
    """
    if len(heads) == 1:
        return _of_one_head(model, description, heads[0])
    weights: Weights = {}
    for index, head in enumerate(heads):
        for name, value in _of_one_head(model, description, head).items():
            prefix, output, rest = name.split(".", 2)
            weights[f"{prefix}.{output}.levels.{index}.{rest}"] = value
    return weights


def _of_one_head(model: Module, description: Description, head: int) -> Weights:
    weights: Weights = {}
    readouts = model.children("readouts")
    for number, readout in enumerate(readouts):
        is_last = number == len(readouts) - 1
        found = _READERS[readout.class_name](readout, description, head, is_last)
        for name, value in found.items():
            kind, _, rest = name.partition(".")
            if kind == "scalars" and description.predicts_energy:
                weights[f"heads.graph_scalars.readouts.readouts.{number}.{rest}"] = value
            elif kind == "vectors":
                weights[f"heads.graph_vector.readouts.{rest.replace('#', str(number))}"] = value
    return weights


def _linear(readout: Module, description: Description, head: int, is_last: bool) -> Weights:
    matrices = by_degree(linear_blocks(readout.child("linear")))
    weights: Weights = {}
    if 0 in matrices:
        matrix = matrices[0][:, [head]]
        matrix = matrix * sqrt(matrix.shape[0])
        if is_last:
            weights = {"scalars.linear_1.weight": matrix, "scalars.linear_2.weight": np.ones((1, 1))}
        else:
            weights = {"scalars.weight": matrix}
    if 1 in matrices:
        vectors = matrices[1] * sqrt(len(matrices[1]))
        if is_last:  # through a gate that is 1/2 everywhere
            weights |= {
                "vectors.gated.vectors.weight": vectors,
                "vectors.gated.gates.weight": np.zeros_like(vectors),
                "vectors.gated.linear.weight": np.full((1, 1), 2.0),
            }
        else:
            weights["vectors.linear.#.weight"] = vectors
    return weights


def _mlp(readout: Module, description: Description, head: int, is_last: bool) -> Weights:
    """The hidden units and the output of one head; those of other heads are masked in the file."""
    first, second = (by_degree(linear_blocks(readout.child(f"linear_{n}")))[0] for n in (1, 2))
    width = description.mlp_channels
    units = slice(head * width, (head + 1) * width)
    function = readout.child("non_linearity").state["_modules"]["acts"].state["_modules"].get("0")
    name, factor = activation(function, readout.path)
    return _scalar_mlp(first[:, units], second[units][:, [head]] * (factor / ACTIVATIONS[name].norm))


def _biased_mlp(readout: Module, description: Description, head: int, is_last: bool) -> Weights:
    """As `_mlp` with a hidden layer more; the heads' units are masked after each."""
    width = description.mlp_channels
    units = slice(head * width, (head + 1) * width)
    first, mid, second = (
        by_degree(linear_blocks(readout.child(f"linear_{name}"), with_biases=True))[0] for name in ("1", "mid", "2")
    )
    function = readout.child("non_linearity").state["_modules"]["acts"].state["_modules"].get("0")
    name, factor = activation(function, readout.path)
    ratio = factor / ACTIVATIONS[name].norm
    weights = _scalar_mlp(first[:, units], second[units][:, [head]] * ratio)
    weights["scalars.linear_mid.weight"] = mid[units, units] * (ratio * sqrt(width))
    weights["scalars.bias_mid"] = readout.child("linear_mid").tensor("bias").ravel()[units]
    weights["scalars.bias_2"] = readout.child("linear_2").tensor("bias").ravel()[[head]]
    return weights


def _scalar_mlp(first: Array, second: Array) -> Weights:
    return {
        "scalars.linear_1.weight": first * sqrt(first.shape[0]),
        "scalars.linear_2.weight": second * sqrt(second.shape[0]),
    }


def _gated(readout: Module, description: Description, head: int, is_last: bool) -> Weights:
    """Scalars through an activation; vectors times gates that are made of further scalars."""
    first, second = (by_degree(linear_blocks(readout.child(f"linear_{n}"))) for n in (1, 2))
    (name, factor), (gate, gate_factor) = gate_functions(readout.child("equivariant_nonlin"))
    channels, width = first[1].shape
    if 0 not in first:  # a model of dipoles alone has no scalars here, so that its gates are f(0) = 0
        zeros = np.zeros((channels, width))
        first = first | {0: zeros}
        second = {1: second[1]}
    scalars = first[0].shape[1] - width
    weights = {
        "vectors.gated.vectors.weight": first[1] * sqrt(channels),
        "vectors.gated.gates.weight": first[0][:, scalars:] * sqrt(channels),
        "vectors.gated.linear.weight": second[1] * (sqrt(width) * gate_factor / ACTIVATIONS[gate].norm),
    }
    if scalars:
        weights |= _scalar_mlp(first[0][:, :scalars], second[0] * (factor / ACTIVATIONS[name].norm))
    return weights


_READERS = {
    "LinearReadoutBlock": _linear,
    "LinearDipoleReadoutBlock": _linear,
    "NonLinearReadoutBlock": _mlp,
    "NonLinearBiasReadoutBlock": _biased_mlp,
    "NonLinearDipoleReadoutBlock": _gated,
}
