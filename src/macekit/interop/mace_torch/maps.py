"""Linear maps of e3nn as plain matrices, with every normalisation of e3nn multiplied out."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.projection import EXACT, FLOAT32, is_single
from macekit.interop.mace_torch.records import Record
from macekit.interop.mace_torch.tree import Array, Module, function_name
from macekit.o3 import wigner_3j

ACTIVATION_NAMES = {
    "torch.nn.functional.silu": "silu",
    "torch._C._nn.silu": "silu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.tanh": "tanh",
    "torch.nn.functional.tanh": "tanh",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.abs": "abs",
    "torch.sigmoid": "sigmoid",
    "torch.nn.functional.sigmoid": "sigmoid",
}


class LinearBlock(NamedTuple):
    """One matrix of an equivariant linear map."""

    position_in: int
    """Position among the input irreps."""
    degree: int
    """Degree that it maps."""
    matrix: Array
    """[channels in, channels out]: y = x @ matrix."""


class Layer(NamedTuple):
    """A layer of a radial MLP: x @ matrix, then factor · silu."""

    matrix: Array
    factor: float | None
    """None: no activation."""


class Coupling(NamedTuple):
    """A path of the edge convolution."""

    degrees: tuple[int, int, int]
    """Degrees of sender, harmonics and message."""
    position_out: int
    """Position among the output irreps."""
    factor: float
    """What the file's coefficients are, in units of ours."""
    is_rounded: bool | None
    """Whether the file's coefficients are those of float32; None: it has none."""


def linear_blocks(linear: Module, with_biases: bool = False) -> list[LinearBlock]:
    """Matrices of an `e3nn.o3.Linear`; its biases are read apart.

    Raises:
        ModelFileError: If it has biases or is of another kind.
    """
    if linear.class_name != "Linear" or (linear.get("bias_numel", 0) and not with_biases):
        what = "biases" if linear.class_name == "Linear" else linear.class_name
        raise ModelFileError(f"{linear.path}: linear maps with {what} are not read")
    irreps, weight = linear.irreps("irreps_in"), linear.tensor("weight").ravel()
    blocks, start = [], 0
    for instruction in instructions(linear):
        position_in, _, shape, path_weight = instruction[:4]
        if position_in == -1:  # a bias
            continue
        matrix = weight[start : start + prod(shape)].reshape(shape) * path_weight
        blocks.append(LinearBlock(position_in, irreps[position_in][1].l, matrix))
        start += prod(shape)
    return blocks


def by_degree(blocks: list[LinearBlock]) -> dict[int, Array]:
    """Matrices by degree, those of several inputs of a degree below one another in the order of the inputs."""
    degrees = sorted({block.degree for block in blocks})
    ordered = sorted(blocks, key=lambda block: block.position_in)
    return {l: np.concatenate([block.matrix for block in ordered if block.degree == l]) for l in degrees}


def element_matrices(product: Module) -> dict[int, Array]:
    """Matrices [S, K, K'] by degree of a product of features with one-hot elements."""
    if product.class_name != "FullyConnectedTensorProduct":
        raise ModelFileError(f"{product.path}: {product.class_name} is not read in this place")
    irreps, weight = product.irreps("irreps_in1"), product.tensor("weight").ravel()
    matrices, start = {}, 0
    for instruction in instructions(product):
        position, _, _, mode, has_weight, path_weight, shape = instruction[:7]
        if mode != "uvw" or not has_weight:
            raise ModelFileError(f"{product.path}: expected a fully connected product, found the mode {mode}")
        l = irreps[position][1].l
        block = weight[start : start + prod(shape)].reshape(shape)
        matrices[l] = block.transpose(1, 0, 2) * (path_weight / np.sqrt(2 * l + 1))  # w3j(l, 0, l) = δ/√(2l+1)
        start += prod(shape)
    return matrices


def couplings(product: Module) -> list[Coupling]:
    """Paths of a convolution's tensor product, in the order of their weights.

    Raises:
        ModelFileError: If its coefficients are not Wigner 3j symbols, up to a factor and rounding.
    """
    if product.class_name != "TensorProduct":
        raise ModelFileError(f"{product.path}: {product.class_name} is not read in this place")
    first, second = product.irreps("irreps_in1"), product.irreps("irreps_in2")
    third, stored = product.irreps("irreps_out"), _stored_wigner(product)
    found = []
    for instruction in instructions(product):
        i, j, k, mode, has_weight, path_weight = instruction[:6]
        irreps = (first[i][1], second[j][1], third[k][1])
        if mode != "uvu" or not has_weight or not all(irrep.is_natural for irrep in irreps):
            raise ModelFileError(f"{product.path}: the path {'x'.join(map(str, irreps))} ({mode}) is not read")
        degrees = (irreps[0].l, irreps[1].l, irreps[2].l)
        ratio, is_rounded = wigner_ratio(stored.get("_w3j_{}_{}_{}".format(*degrees)), degrees, product.path)
        found.append(Coupling(degrees, k, ratio * path_weight / np.sqrt(2 * degrees[2] + 1), is_rounded))
    return found


def radial_layers(network: Module) -> list[Layer]:
    """Layers of an `e3nn.nn.FullyConnectedNet`."""
    if network.class_name != "FullyConnectedNet":
        raise ModelFileError(f"{network.path}: {network.class_name} is not read in this place")
    layers: list[Layer] = []
    while network.has(f"layer{len(layers)}"):
        layer = network.child(f"layer{len(layers)}")
        variance_in, variance_out = layer.number("var_in", 1.0), layer.number("var_out", 1.0)
        matrix = layer.tensor("weight") / np.sqrt(layer.number("h_in") * variance_in)
        if not layer.has("act"):
            layers.append(Layer(matrix * np.sqrt(variance_out), None))
            continue
        name, factor = activation(layer.get("act"), layer.path)
        if name != "silu":
            raise ModelFileError(f"{layer.path}: the activation {name} in a radial MLP is not read")
        layers.append(Layer(matrix, factor * np.sqrt(variance_out)))
    return layers


def normalised_layers(network: Module) -> dict[str, Array]:
    """Weights of mace-torch's `RadialMLP`: linear maps with biases, layer normalisations, SiLU."""
    if network.class_name != "RadialMLP":
        raise ModelFileError(f"{network.path}: {network.class_name} is not read in this place")
    found: dict[str, Array] = {}
    counts = {"Linear": 0, "LayerNorm": 0}
    for module in network.children("net"):
        if module.class_name == "Linear":
            number = counts["Linear"]
            found |= {f"weights.{number}": module.tensor("weight").T.copy(), f"biases.{number}": module.tensor("bias")}
        elif module.class_name == "LayerNorm" and module.number("eps", 1e-5) == 1e-5:
            number = counts["LayerNorm"]
            found |= {f"scales.{number}": module.tensor("weight"), f"shifts.{number}": module.tensor("bias")}
        elif module.class_name != "SiLU":
            raise ModelFileError(f"{module.path}: {module.class_name} in a radial MLP is not read")
        counts[module.class_name] = counts.get(module.class_name, 0) + 1
    return found


def activation(value: Any, where: str) -> tuple[str, float]:
    """Name and factor of a normalised activation; ("none", 1) for None.

    Raises:
        ModelFileError: If the function is not known.
    """
    if value is None:
        return "none", 1.0
    module = Module(value, where)
    is_normalised = module.class_name == "normalize2mom"
    name = function_name(module.get("f") if is_normalised else value)
    if name not in ACTIVATION_NAMES:
        raise ModelFileError(
            f"{where}: the activation {name} is not read; known: {', '.join(sorted(set(ACTIVATION_NAMES.values())))}"
        )
    factor = module.number("cst") if is_normalised else 1.0
    return ACTIVATION_NAMES[name], 1.0 if abs(factor - 1.0) < 1e-4 else factor  # e3nn leaves these out


def gate_functions(gate: Module) -> tuple[tuple[str, float], tuple[str, float]]:
    """Names and normalisations of the functions on scalars and on gates, as `activation` gives them."""
    if gate.class_name != "GatedEquivariantBlock":  # e3nn.nn.Gate
        first, second = (gate.child(f"act_{name}").child("acts").state["_modules"] for name in ("scalars", "gates"))
        return activation(first.get("0"), gate.path), activation(second.get("0"), gate.path)
    found = []
    for kind in ("scalar", "gate"):
        function = gate.get(f"_act_{kind}")
        name = "none" if function is None else ACTIVATION_NAMES.get(function_name(function))
        if name is None:
            raise ModelFileError(f"{gate.path}: the gate {function_name(function)} is not read")
        found.append((name, gate.number(f"_{kind}_cst", 1.0) if name != "none" else 1.0))
    return found[0], found[1]


def instructions(module: Module) -> list[tuple[Any, ...]]:
    """Fields of the instructions of a module of e3nn."""
    found = [item.args if isinstance(item, Record) else tuple(item) for item in module.get("instructions") or ()]
    if not found or any(len(fields) < 4 for fields in found):
        raise ModelFileError(f"{module.path}: its instructions cannot be read")
    return found


def _stored_wigner(product: Module) -> dict[str, Any]:
    """The coupling coefficients in the TorchScript that e3nn embeds; none where they are not in a file."""
    embedded = product.get("__codegen__")
    content = embedded.get("_compiled_main_left_right") if isinstance(embedded, dict) else None
    if not isinstance(content, bytes):
        return {}
    script = read_archive(content, f"{product.path} (TorchScript)")
    return script.state if isinstance(script, Record) and isinstance(script.state, dict) else {}


def wigner_ratio(stored: Any, degrees: tuple[int, int, int], where: str) -> tuple[float, bool | None]:
    """What stored coupling coefficients are in units of our Wigner 3j symbols, and whether they are of float32.

    (1, None) where nothing is stored. The precision is that of the numbers: a float32 model that was saved after
    `model.double()` has couplings of float32.

    Raises:
        ModelFileError: If they are no Wigner 3j symbols, up to a factor and rounding.
    """
    if not isinstance(stored, np.ndarray):
        return 1.0, None
    ours = wigner_3j(*degrees)
    is_rounded = is_single(stored)
    if is_rounded:
        ours = ours.astype(np.float32).astype(np.float64)
    theirs = np.asarray(stored, dtype=np.float64).reshape(ours.shape)
    ratio = float(np.vdot(ours, theirs) / np.vdot(ours, ours))
    if np.abs(theirs - ratio * ours).max() > (FLOAT32 if is_rounded else EXACT):
        raise ModelFileError(f"{where}: the coupling {degrees} is no Wigner 3j symbol")
    return ratio, is_rounded
