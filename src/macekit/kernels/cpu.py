"""The hot operations in C++ for CPUs: the same functions as `kernels.reference`, which defines them.

The extension is given pointers; everything about its arguments is checked here, except indices. It is not there where
macekit was installed without a compiler: importing this module raises ImportError then.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from macekit.kernels import _core
from macekit.kernels.cpu_arguments import (
    BACKWARD,
    BACKWARD2,
    FORWARD,
    INSTRUCTION_SET,
    LARGEST_DEGREE,
    LARGEST_ORDER,
    WORK_PER_TERM,
    addresses,
    contraction_table,
    convolution_table,
    highest_degree,
    highest_order,
    how_to_run,
    plain,
    plain_or_none,
)
from macekit.kernels.cpu_chains import matrix_chains, matrix_chains_backward
from macekit.kernels.cpu_harmonics import (
    edge_harmonics,
    edge_harmonics_backward,
    edge_harmonics_tangent,
)
from macekit.kernels.cpu_layer import layer_sweeps
from macekit.kernels.cpu_matrices import matrix_gradients, matrix_products
from macekit.kernels.cpu_radial import radial_table, radial_table_backward
from macekit.kernels.cpu_readouts import readout_sweeps
from macekit.kernels.cpu_table import (
    table_convolution,
    table_convolution_backward,
    table_convolution_backward2,
    table_convolution_tangent,
    table_convolution_weights,
)
from macekit.kernels.structure import (
    LARGEST_TABLE_DEGREE,
    ContractionStructure,
    ConvolutionStructure,
    TableStructure,
)

__all__ = [
    "INSTRUCTION_SET",
    "LARGEST_DEGREE",
    "edge_convolution",
    "edge_convolution_backward",
    "edge_convolution_backward2",
    "edge_harmonics",
    "edge_harmonics_backward",
    "edge_harmonics_tangent",
    "layer_sweeps",
    "matrix_chains",
    "matrix_chains_backward",
    "matrix_gradients",
    "matrix_products",
    "radial_table",
    "radial_table_backward",
    "readout_sweeps",
    "serves",
    "symmetric_contraction",
    "symmetric_contraction_backward",
    "symmetric_contraction_backward2",
    "table_convolution",
    "table_convolution_backward",
    "table_convolution_backward2",
    "table_convolution_tangent",
    "table_convolution_weights",
]
PRECISIONS = (torch.float32, torch.float64)


def edge_convolution(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]; see `kernels.reference.edge_convolution`."""
    edges = _edges(h, y, radial, sender, receiver, key)
    out = h.new_empty(edges.shape_out)
    edges.run(FORWARD, (edges.h, edges.y, edges.radial, None, None, None, None, out, None, None, None))
    return out


def edge_convolution_backward(
    grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients ([N, D_in, K], [E, L], [E, P, K]) of ⟨grad, A⟩ with respect to h, y and radial."""
    edges = _edges(h, y, radial, sender, receiver, key)
    grad = plain("grad", grad, edges.shape_out, h.dtype)
    to_h, to_y, to_radial = h.new_zeros(h.shape), y.new_empty(y.shape), radial.new_empty(radial.shape)
    inputs = (edges.h, edges.y, edges.radial, grad, None, None, None)
    edges.run(BACKWARD, (*inputs, None, to_h, to_y, to_radial))
    return to_h, to_y, to_radial


def edge_convolution_backward2(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_radial: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    radial: Tensor,
    sender: Tensor,
    receiver: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Φ (see the reference) with respect to grad, h, y and radial; a tangent of None is zero."""
    edges = _edges(h, y, radial, sender, receiver, key)
    grad = plain("grad", grad, edges.shape_out, h.dtype)
    tangents = (
        plain_or_none("tangent_h", tangent_h, h.shape, h.dtype),
        plain_or_none("tangent_y", tangent_y, y.shape, h.dtype),
        plain_or_none("tangent_radial", tangent_radial, radial.shape, h.dtype),
    )
    out, to_h = h.new_empty(edges.shape_out), h.new_zeros(h.shape)
    to_y, to_radial = y.new_empty(y.shape), radial.new_empty(radial.shape)
    edges.run(BACKWARD2, (edges.h, edges.y, edges.radial, grad, *tangents, out, to_h, to_y, to_radial))
    return out, to_h, to_y, to_radial


def symmetric_contraction(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Equivariant polynomials of the atomic basis, [N, M, K]; see `kernels.reference.symmetric_contraction`."""
    atoms = _atoms(a, coefficients, species, key)
    out = a.new_empty(atoms.shape_out)
    atoms.run(FORWARD, (atoms.a, atoms.coefficients, None, None, None, out, None, None))
    return out


def symmetric_contraction_backward(
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, weights: bool = True
) -> tuple[Tensor, Tensor]:
    """Gradients ([N, D, K], [S, T, K]) of ⟨grad, B⟩ by a and the coefficients; these are empty unless `weights`."""
    atoms = _atoms(a, coefficients, species, key)
    grad = plain("grad", grad, atoms.shape_out, a.dtype)
    to_a, to_coefficients = a.new_empty(a.shape), a.new_empty(coefficients.shape if weights else 0)
    given = to_coefficients if weights else None
    atoms.run(BACKWARD, (atoms.a, atoms.coefficients, grad, None, None, None, to_a, given))
    return to_a, to_coefficients


def symmetric_contraction_backward2(
    tangent_a: Tensor | None,
    tangent_coefficients: Tensor | None,
    grad: Tensor,
    a: Tensor,
    coefficients: Tensor,
    species: Tensor,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ⟨a', ∂S/∂a⟩ + ⟨c', ∂S/∂c⟩ by grad, a and the coefficients; a tangent of None is zero."""
    atoms = _atoms(a, coefficients, species, key)
    grad = plain("grad", grad, atoms.shape_out, a.dtype)
    tangents = (
        plain_or_none("tangent_a", tangent_a, a.shape, a.dtype),
        plain_or_none("tangent_coefficients", tangent_coefficients, coefficients.shape, a.dtype),
    )
    out, to_a, to_coefficients = a.new_empty(atoms.shape_out), a.new_empty(a.shape), a.new_empty(coefficients.shape)
    atoms.run(BACKWARD2, (atoms.a, atoms.coefficients, grad, *tangents, out, to_a, to_coefficients))
    return out, to_a, to_coefficients


@cache
def serves(
    device: torch.device,
    dtype: torch.dtype,
    structure: ConvolutionStructure | TableStructure | ContractionStructure | None = None,
) -> bool:
    """Whether these kernels are for tensors of a device and precision, and have a structure."""
    if isinstance(structure, TableStructure):
        has_features = max(structure.convolution.degrees_in) <= LARGEST_TABLE_DEGREE
        return has_features and serves(device, dtype, structure.convolution)
    if isinstance(structure, ConvolutionStructure) and highest_degree(structure) > LARGEST_DEGREE:
        return False
    if isinstance(structure, ContractionStructure) and highest_order(structure) > LARGEST_ORDER:
        return False
    return device.type == "cpu" and dtype in PRECISIONS


class _Edges(NamedTuple):
    """Checked arguments of the edge convolution."""

    h: Tensor
    y: Tensor
    radial: Tensor
    sender: Tensor
    receiver: Tensor
    key: str
    shape_out: tuple[int, int, int]

    def run(self, which: int, tensors: tuple[Tensor | None, ...]) -> None:
        """Call the extension with tensors in the order of its arguments."""
        atoms, rows, channels = self.shape_out
        _core.edge_convolution(
            convolution_table(self.key), how_to_run(self.h.dtype, 2 * self.y.shape[0] * rows * channels), which,
            atoms, self.y.shape[0], channels,
            self.sender.data_ptr(), self.receiver.data_ptr(), addresses(tensors),
        )  # fmt: skip


class _Atoms(NamedTuple):
    """Checked arguments of the symmetric contraction."""

    a: Tensor
    coefficients: Tensor
    species: Tensor
    key: str
    shape_out: tuple[int, int, int]

    def run(self, which: int, tensors: tuple[Tensor | None, ...]) -> None:
        """Call the extension with tensors in the order of its arguments."""
        atoms, _, channels = self.shape_out
        _core.symmetric_contraction(
            contraction_table(self.key),
            how_to_run(self.a.dtype, WORK_PER_TERM[which] * atoms * self.coefficients.shape[1] * channels), which,
            atoms, self.coefficients.shape[0], channels, self.species.data_ptr(), addresses(tensors),
        )  # fmt: skip


def _edges(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> _Edges:
    structure = ConvolutionStructure.from_key(key)
    (atoms, _, channels), edges = h.shape, y.shape[0]
    return _Edges(
        plain("h", h, (atoms, structure.dim_in, channels), h.dtype),
        plain("y", y, (edges, (structure.max_ell + 1) ** 2), h.dtype),
        plain("radial", radial, (edges, len(structure.paths), channels), h.dtype),
        plain("sender", sender, (edges,), torch.int64),
        plain("receiver", receiver, (edges,), torch.int64),
        key,
        (atoms, structure.dim_out, channels),
    )


def _atoms(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> _Atoms:
    structure = ContractionStructure.from_key(key)
    atoms, _, channels = a.shape
    return _Atoms(
        plain("a", a, (atoms, structure.dim_in, channels), a.dtype),
        plain("coefficients", coefficients, (coefficients.shape[0], structure.num_terms, channels), a.dtype),
        plain("species", species, (atoms,), torch.int64),
        key,
        (atoms, structure.dim_out, channels),
    )
