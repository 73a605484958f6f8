"""Weights of a mace-torch model as weights of ours, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.contraction import contraction_weights
from macekit.interop.mace_torch.description import Description
from macekit.interop.mace_torch.maps import (
    Coupling,
    by_degree,
    couplings,
    element_matrices,
    gate_functions,
    linear_blocks,
    normalised_layers,
    radial_layers,
)
from macekit.interop.mace_torch.projection import CancellingTerms
from macekit.interop.mace_torch.readouts import readout_weights
from macekit.interop.mace_torch.tree import Array, Module
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure
from macekit.model.activation import ACTIVATIONS
from macekit.o3 import SymmetricProduct

Weights = dict[str, Array]


class Paths(NamedTuple):
    """Paths of a file's convolution."""

    everything: list[Coupling]
    """In the order of the file."""
    ordered: list[int]
    """Positions of those we have, in our order."""

    def columns(self, values: Array) -> Array:
        """Outputs [..., P K] of a radial MLP in our order of the paths, times the couplings' factors."""
        columns = values.reshape(*values.shape[:-1], len(self.everything), -1)
        chosen = [columns[..., position, :] * self.everything[position].factor for position in self.ordered]
        return np.stack(chosen, axis=-2).reshape(*values.shape[:-1], -1)

    def rows(self, values: Array, degree: int) -> Array:
        """Inputs [P K, ...] of the map after the messages of one degree, in our order of the paths."""
        of_file = sorted(path.position_out for path in self.everything if path.degrees[2] == degree)
        ours = [self.everything[i].position_out for i in self.ordered if self.everything[i].degrees[2] == degree]
        rows = values.reshape(len(of_file), -1, values.shape[1])[[of_file.index(position) for position in ours]]
        return rows.reshape(-1, values.shape[1])


class WeightReader:
    """Reads the weights of one model for chosen elements and heads.

    Args:
        model: The model.
        description: What it is.
        rows: Positions of the chosen elements in the file, in ascending order of atomic number.
        heads: Positions of the heads.
    """

    def __init__(self, model: Module, description: Description, rows: Sequence[int], heads: Sequence[int]) -> None:
        self.model, self.description = model, description
        self.rows, self.heads = list(rows), list(heads)
        self.radial_scale = self._radial_scale()
        self.has_cancelling = False
        self.precisions: set[bool] = set()

    def read(self) -> Weights:
        """All weights, by the names of our parameters, float64."""
        try:
            return self._read()
        except CancellingTerms:
            self.has_cancelling = True
            return self._read()

    @property
    def rounds_couplings(self) -> bool:
        """Whether the couplings of the convolutions in the file, which is read, are those of float32."""
        return self.precisions == {True} or (not self.precisions and self.description.dtype == "float32")

    def _read(self) -> Weights:
        weights = {"backbone.embedding": self._embedding()}
        interactions, products = self.model.children("interactions"), self.model.children("products")
        for i, (interaction, product) in enumerate(zip(interactions, products, strict=True)):
            found = self._interaction(interaction) | self._product(product, is_last=i == len(products) - 1)
            if product.get("use_sc", False) and self.description.interactions[i].endswith("residual"):
                found |= self._residual(interaction, is_last=i == len(products) - 1)
            weights |= {f"backbone.layers.{i}.{name}": value for name, value in found.items()}
        return weights | readout_weights(self.model, self.description, self.heads)

    def _embedding(self) -> Array:
        (matrix,) = by_degree(linear_blocks(self.model.child("node_embedding").child("linear"))).values()
        return matrix[self.rows] * sqrt(len(self.description.elements))

    def _radial_scale(self) -> float:
        """The file's basis functions in units of ours; Bessel functions have a stored prefactor."""
        basis = self.model.child("radial_embedding").child("bessel_fn")
        if self.description.radial_basis != "bessel":
            return 1.0
        return basis.number("prefactor") / sqrt(2.0 / self.description.cutoff)

    def _interaction(self, block: Module) -> Weights:
        up = by_degree(linear_blocks(block.child("linear_up")))
        paths = self._paths(block, tuple(up))
        weights = {f"linear_up.weights.{l}": matrix * sqrt(matrix.shape[0]) for l, matrix in up.items()}
        read = self._nonlinear if block.has("source_embedding") else self._linear_interaction
        weights |= read(block, paths)
        return {f"interaction.{name}": value for name, value in weights.items()}

    def _paths(self, block: Module, sent: Sequence[int]) -> Paths:
        """Paths of the convolution.

        A file may have paths of degrees that are sent as zeros, because the features do not have them; they are left
        out.
        """
        everything = couplings(block.child("conv_tp"))
        self.precisions |= {path.is_rounded for path in everything if path.is_rounded is not None}
        if len(self.precisions) > 1:
            raise ModelFileError(f"{block.path}: couplings of float32 beside such of float64 cannot be represented")
        by_path = {path.degrees: number for number, path in enumerate(everything) if path.degrees[0] in sent}
        degrees_in = tuple(sorted({degrees[0] for degrees in by_path}))
        structure = ConvolutionStructure.from_key(ConvolutionStructure.key(degrees_in, self.description.max_ell))
        try:
            ordered = [by_path[path.l_in, path.l_sh, path.l_out] for path in structure.paths]
        except KeyError as missing:
            raise ModelFileError(f"{block.path}: the path {missing} is missing in the convolution") from None
        if len({path.degrees for path in everything}) != len(everything) or len(by_path) != len(ordered):
            raise ModelFileError(f"{block.path}: the convolution has paths that cannot be represented")
        return Paths(everything, ordered)

    def _linear_interaction(self, block: Module, paths: Paths) -> Weights:
        weights = self._radial(block.child("conv_tp_weights"), paths)
        average = self.description.avg_num_neighbours / block.number("avg_num_neighbors")
        if block.has("density_fn"):
            (layer,) = radial_layers(block.child("density_fn"))
            weights["normalisation.weight"] = layer.matrix * (sqrt(layer.matrix.shape[0]) * self.radial_scale)
            average = 1.0
        for l, matrix in self._after_messages(block, "linear", paths).items():
            weights[f"linear.weights.{l}"] = matrix * average
        if "Residual" not in block.class_name:
            matrices = element_matrices(block.child("skip_tp"))
            weights |= {f"mix.weights.{l}": self._of_elements(matrix) for l, matrix in matrices.items()}
        return weights

    def _nonlinear(self, block: Module, paths: Paths) -> Weights:
        weights = {"alpha": block.tensor("alpha").reshape(()), "beta": block.tensor("beta").reshape(())}
        for name, embedding in (("sender", "source_embedding"), ("receiver", "target_embedding")):
            weights[f"{name}_embedding"] = by_degree(linear_blocks(block.child(embedding)))[0][self.rows]
        num_radial = self.description.num_basis
        for name, network in (("radial", "conv_tp_weights"), ("density", "density_fn")):
            weights |= {f"{name}.{key}": v for key, v in normalised_layers(block.child(network)).items()}
            weights[f"{name}.weights.0"][:num_radial] *= self.radial_scale
        last = max(int(key.rpartition(".")[2]) for key in weights if key.startswith("radial.weights."))
        for key in (f"radial.weights.{last}", f"radial.biases.{last}"):
            weights[key] = paths.columns(weights[key])
        channels = self.description.channels
        after = self._after_messages(block, "linear_1", paths)
        sent = by_degree(linear_blocks(block.child("linear_up")))
        res = by_degree(linear_blocks(block.child("linear_res")))
        carried = {l: matrix * sqrt(len(matrix)) for l, matrix in res.items() if l in sent}
        for map_name, gate_name, matrices in (
            ("linear", "gates", after),
            ("residual", "residual_gates", carried),
        ):
            weights[f"{gate_name}.weights.0"] = matrices[0][:, channels:]
            weights |= {f"{map_name}.weights.{l}": matrix[:, :channels] for l, matrix in matrices.items()}
        scalars, gates = gate_functions(block.child("equivariant_nonlin"))
        if (scalars[0], gates[0]) != ("silu", "sigmoid"):
            raise ModelFileError(f"{block.path}: gates of {scalars[0]} and {gates[0]} are not read")
        on_scalars, on_gates = (factor / ACTIVATIONS[name].norm for name, factor in (scalars, gates))
        for l, matrix in by_degree(linear_blocks(block.child("linear_2"))).items():
            weights[f"linear_2.weights.{l}"] = matrix * (sqrt(len(matrix)) * (on_gates if l else on_scalars))
        return weights

    def _radial(self, network: Module, paths: Paths) -> Weights:
        """The radial MLP; couplings' factors and the order of the paths go into its last layer."""
        weights, carried = {}, self.radial_scale
        layers = radial_layers(network)
        for number, layer in enumerate(layers):
            matrix = layer.matrix * carried
            if number == len(layers) - 1:
                matrix = paths.columns(matrix)
            weights[f"radial.weights.{number}"] = matrix * sqrt(matrix.shape[0])
            carried = (layer.factor or 1.0) / ACTIVATIONS["silu"].norm
        return weights

    @staticmethod
    def _after_messages(block: Module, name: str, paths: Paths) -> dict[int, Array]:
        """The map after the messages; inputs in our order of the paths."""
        found = {}
        for l, matrix in by_degree(linear_blocks(block.child(name))).items():
            rows = paths.rows(matrix, l)
            found[l] = rows * sqrt(len(rows))
        return found

    def _product(self, block: Module, is_last: bool) -> Weights:
        contraction = block.child("symmetric_contractions")
        irreps = contraction.irreps("irreps_out")
        modules = {irrep.l: m for (_, irrep), m in zip(irreps, contraction.children("contractions"), strict=True)}
        degrees = tuple(sorted({0} | {l for l in modules if self._is_kept(l, is_last)}))
        max_ell = self.description.max_ell
        key = ContractionStructure.key(max_ell, degrees, max(self.description.correlation), self.has_cancelling)

        def stored(symmetric: SymmetricProduct) -> tuple[Array, Array, str] | None:
            module = modules.get(symmetric.degree)
            weight = self._coupling_weights(module, symmetric.order)  # [S, paths, K]
            if weight is None or module is None:
                return None
            return weight, module.tensor(f"U_matrix_{symmetric.order}"), module.path

        channels = self.description.channels
        weights = contraction_weights(key, stored, len(self.rows), channels, (max_ell + 1) ** 2)
        matrices = by_degree(linear_blocks(block.child("linear")))
        absent = np.zeros((channels, channels))  # models of dipoles alone have no scalars in their last layer
        return weights | {f"product.linear.weights.{l}": matrices.get(l, absent) * sqrt(channels) for l in degrees}

    def _is_kept(self, l: int, is_last: bool) -> bool:
        """Whether anything reads a degree: of the last layer only scalars, and vectors for a dipole."""
        return not is_last or l == 0 or (l == 1 and self.description.predicts_dipole)

    def _coupling_weights(self, contraction: Module | None, order: int) -> Array | None:
        """Weights [S, paths, K] of the chosen elements at one order; None where there are none."""
        if contraction is None:
            return None
        stored = [*reversed(contraction.tensors("weights")), contraction.tensor("weights_max")]
        if order > len(stored):
            return None
        weight = stored[order - 1]  # [S, paths, K], or [1, paths, K] for all elements
        if weight.shape[0] == 1:
            return np.broadcast_to(weight, (len(self.rows), *weight.shape[1:]))
        return weight[self.rows]

    def _residual(self, block: Module, is_last: bool) -> Weights:
        if block.child("skip_tp").class_name == "Linear":
            plain = by_degree(linear_blocks(block.child("skip_tp")))
            kept = {l: matrix for l, matrix in plain.items() if self._is_kept(l, is_last)}
            return {f"residual.weights.{l}": matrix * sqrt(len(matrix)) for l, matrix in kept.items()}
        matrices = element_matrices(block.child("skip_tp"))
        found = {l: self._of_elements(matrix) for l, matrix in matrices.items() if self._is_kept(l, is_last)}
        found.setdefault(0, np.zeros_like(next(iter(found.values()))))
        return {f"residual.weights.{l}": matrix for l, matrix in found.items()}

    def _of_elements(self, matrices: Array) -> Array:
        """Matrices [S, K, K] of the chosen elements in our normalisation."""
        return matrices[self.rows] * sqrt(len(matrices) * matrices.shape[1])
