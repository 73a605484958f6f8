"""The inference engine in C++: energies, forces and virials of a batch in one native call.

Sizes are checked here and in the extension, indices in the extension. Where macekit was installed without a compiler,
importing this module raises ImportError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macekit.errors import UsageError
from macekit.kernels import _core
from macekit.kernels.cpu import INSTRUCTION_SET
from macekit.kernels.folded import NOTHING, FloatArray, FoldedLayer, FoldedModel, Readout
from macekit.kernels.monomial_tree import gradient_monomials, monomial_tree
from macekit.kernels.structure import ConvolutionStructure, Path
from macekit.o3.spherical_harmonics import raising_terms

FirstLayer = Literal["cheaper", "moments", "messages"]

HIGHEST_ELL, HIGHEST_INPUT, MOST_COLUMNS = 4, 3, 1024
"""Highest degree of harmonics and of sent features; largest number of hidden units and outputs of the read-out."""
PIECE_DEGREE = {torch.float32: 4, torch.float64: 8}
"""Degree n of the polynomials that replace radial functions between knots."""
ACTIVATIONS = ("silu", "tanh", "abs", "none")
FIRST_LAYERS: tuple[FirstLayer, ...] = ("cheaper", "moments", "messages")


class Evaluation(NamedTuple):
    """What one call gives, float64."""

    energies: FloatArray
    """[N, T]."""
    forces: FloatArray
    """[N, 3]."""
    virial: FloatArray
    """dE/dε for a symmetric strain, [structures, 3, 3]."""
    shortest: float
    """Shortest distance within the cutoff, Å; infinity where there is none."""


class Neighbourhoods(NamedTuple):
    """Atoms and edges sorted for one engine, to be evaluated wherever the atoms move."""

    core: _core.SortedSystem
    num_atoms: int
    num_structures: int


def engine_paths(structure: ConvolutionStructure) -> list[Path]:
    """The paths in the engine's order: ascending l_in, then l_sh, then l_out."""
    return sorted(structure.paths, key=lambda path: (path.l_in, path.l_sh, path.l_out))


class NativeEngine:
    """A folded model in the extension's memory. Evaluations of one engine wait for each other.

    Args:
        model: What to compute.
        dtype: Precision of the features: torch.float32 or torch.float64. Geometry and energies are float64 in both.
        instruction_set: One that this processor has.
    """

    def __init__(self, model: FoldedModel, dtype: torch.dtype, instruction_set: str = INSTRUCTION_SET) -> None:
        self.num_outputs = len(model.readout.scale)
        row, column, value = _raising_entries(model.max_ell)
        self._core = _core.make_engine(
            instruction_set, dtype == torch.float64, model.max_ell, model.channels, model.pair.shape[0], model.knots,
            model.cutoff, model.pair.flatten().tolist(), max((model.max_ell + 1) ** 2 - 4, 0), row, column, value,
        )  # fmt: skip
        for index, layer in enumerate(model.layers):
            self._add_layer(index, layer)
        if model.moments is not None:
            hidden = model.moments.table.shape[-1]
            self._core.set_moments(hidden, _plain(model.moments.table), [_plain(m) for m in model.moments.matrices])
        self._set_readout(model.readout)
        if (r := model.repulsion) is not None:
            arrays = (r.weights, r.decays, r.strength, r.inverse, r.reach)
            self._core.set_repulsion(r.power, r.column, *(_plain(array) for array in arrays))

    def _add_layer(self, index: int, layer: FoldedLayer) -> None:
        structure = ConvolutionStructure.from_key(layer.convolution)
        components, dim_basis = (structure.max_ell + 1) ** 2, sum(2 * l + 1 for l in layer.degrees_out)
        polynomials = monomial_tree(layer.monomials, range(len(layer.monomials)), dim_basis)
        gradient = monomial_tree(*gradient_monomials(layer.monomials, components), components)
        row, product, value = _coupling_entries(structure)
        self._core.add_layer(
            layer.width, structure.degrees_in, structure.max_ell, len(structure.paths), structure.dim_out, dim_basis,
            len(layer.monomials), tuple(polynomials), tuple(gradient), _plain(layer.table), row, product, value,
            _plain(layer.constant), _plain(layer.density), _plain(layer.coefficients),
        )  # fmt: skip
        for degree, matrices in layer.mixing.items():
            rows, paths = structure.rows_out(degree), len(structure.paths_to(degree))
            self._core.add_mixing(index, degree, rows.start, paths, _plain(matrices))
        for source in layer.sources:
            to = sum(2 * l + 1 for l in structure.degrees_in if l < source.degree)
            self._core.add_source(
                index, source.layer, source.degree, self._rows[source.layer][source.degree], to, _plain(source.matrices)
            )
        starts = np.cumsum([0, *(2 * l + 1 for l in layer.degrees_out)]).tolist()
        self._rows = [*self._rows, dict(zip(layer.degrees_out, starts, strict=False))]

    _rows: Sequence[dict[int, int]] = ()
    """First row of every degree of the polynomials, by layer."""

    def _set_readout(self, readout: Readout) -> None:
        arrays = (
            readout.constant, readout.middle, readout.middle_bias, readout.last, readout.last_bias, readout.scale,
            readout.offset, readout.seed,
        )  # fmt: skip
        activation = ACTIVATIONS.index(readout.activation)
        self._core.set_readout(
            readout.hidden, self.num_outputs, activation, readout.norm, *(_plain(array) for array in arrays)
        )
        for read in readout.reads:
            self._core.add_reading(read.layer, _plain(read.matrices))

    def sort(
        self, element: Tensor, batch: Tensor, edge_index: Tensor, edge_shifts: Tensor, num_structures: int
    ) -> Neighbourhoods:
        """Sort atoms and edges, once for all positions at which no other pair is within the cutoff.

        Args:
            element: Index among the engine's elements, int64 [N].
            batch: Structure of each atom, int64 [N].
            edge_index: Senders and receivers, int64 [2, E], in any order; pairs beyond the cutoff do no harm.
            edge_shifts: Float64 [E, 3].
            num_structures: Number G of structures.

        Raises:
            IndexError: If an element, an atom or a structure does not exist.
        """
        N, E = len(element), edge_index.shape[1]
        _check("element", element, (N,), torch.int64)
        _check("batch", batch, (N,), torch.int64)
        _check("edge_index", edge_index, (2, E), torch.int64)
        _check("edge_shifts", edge_shifts, (E, 3), torch.float64)
        core = self._core.sort(
            _numbers(element), _numbers(batch), num_structures, _numbers(edge_index), _numbers(edge_shifts),
            bool(edge_shifts.any()),
        )  # fmt: skip
        return Neighbourhoods(core, N, num_structures)

    def evaluate(
        self,
        around: Neighbourhoods,
        positions: FloatArray,
        cell: FloatArray,
        *,
        first_layer: FirstLayer = "cheaper",
        seconds: FloatArray = NOTHING,
    ) -> Evaluation:
        """Energies, forces and virials.

        Args:
            around: What `sort` of this engine gave. It belongs to one evaluation at a time.
            positions: Float64 [N, 3].
            cell: Float64 [G, 3, 3].
            first_layer: How the first layer is computed.
            seconds: Float64 [16], to which the first thread's processor time of every stage is added; empty: none.

        Raises:
            ValueError: If a size does not fit.
        """
        N, G = around.num_atoms, around.num_structures
        energies, forces, virial = np.empty((N, self.num_outputs)), np.empty((N, 3)), np.empty((G, 3, 3))
        shortest = self._core.evaluate(
            around.core, self.num_outputs, np.ascontiguousarray(positions, dtype=np.float64),
            np.ascontiguousarray(cell, dtype=np.float64), energies, forces, virial, seconds,
            FIRST_LAYERS.index(first_layer), max(1, min(torch.get_num_threads(), N)),
        )  # fmt: skip
        return Evaluation(energies, forces, (virial + virial.transpose(0, 2, 1)) / 2.0, shortest)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
        raise UsageError(
            f"{name}: the engine expects {dtype} {list(shape)} on the cpu, got {tensor.dtype} "
            f"{list(tensor.shape)} on {tensor.device}"
        )


def _numbers(tensor: Tensor) -> NDArray[np.generic]:
    return np.ascontiguousarray(tensor.detach().numpy())


def _plain(array: FloatArray) -> FloatArray:
    return np.ascontiguousarray(array, dtype=np.float64).reshape(-1)


def _raising_entries(max_ell: int) -> tuple[list[int], list[int], list[float]]:
    """Every component of Y_2 ... as a sum of products of components of Y_1 and Y_(l−1): row, columns, coefficient."""
    terms = raising_terms(max_ell)
    rows, columns = [term.row - 4 for term in terms], [term.first * 32 + term.second for term in terms]
    return rows, columns, [term.factor for term in terms]


def _coupling_entries(structure: ConvolutionStructure) -> tuple[list[int], list[int], list[float]]:
    """Rows of the messages as sums of products (harmonic, component of the sender) of the engine's paths."""
    coupling, paths = structure.coupling(), engine_paths(structure)
    sizes = [(2 * path.l_sh + 1) * (2 * path.l_in + 1) for path in paths]
    starts = {path.index: start for path, start in zip(paths, np.cumsum([0, *sizes]).tolist(), strict=False)}
    columns = structure.path_of_column()
    by_path = {path.index: path for path in paths}
    harmonic, row, column = np.nonzero(coupling)
    products = []
    for h, c in zip(harmonic.tolist(), column.tolist(), strict=True):
        path = by_path[columns[c]]
        products.append(starts[path.index] + (h - path.l_sh**2) * (2 * path.l_in + 1) + c - columns.index(path.index))
    return row.tolist(), products, coupling[harmonic, row, column].tolist()


__all__ = ["Evaluation", "FirstLayer", "NativeEngine", "Neighbourhoods", "engine_paths"]
