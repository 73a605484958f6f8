"""The hot operations in C++ for CPUs: the same six functions as `kernels.reference`, which defines them.

The extension is given pointers; everything about its arguments is checked here, except indices. It is not there where
macekit was installed without a compiler: importing this module raises ImportError then.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from macekit.errors import UsageError
from macekit.kernels import _core
from macekit.kernels.factored_terms import factored_terms
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure

PRECISIONS = (torch.float32, torch.float64)
LARGEST_DEGREE = 4
LARGEST_ORDER = 4
WORK_PER_THREAD = 500_000
"""Multiplications that are worth another thread, about 10 µs."""
FORWARD, BACKWARD, BACKWARD2 = range(3)
INSTRUCTION_SET = _core.instruction_sets()[0]
"""The best one that this processor has."""


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
    grad = _plain("grad", grad, edges.shape_out, h.dtype)
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
    grad = _plain("grad", grad, edges.shape_out, h.dtype)
    tangents = (
        _plain_or_none("tangent_h", tangent_h, h.shape, h.dtype),
        _plain_or_none("tangent_y", tangent_y, y.shape, h.dtype),
        _plain_or_none("tangent_radial", tangent_radial, radial.shape, h.dtype),
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
    grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients ([N, D, K], [S, T, K]) of ⟨grad, B⟩ with respect to a and the coefficients."""
    atoms = _atoms(a, coefficients, species, key)
    grad = _plain("grad", grad, atoms.shape_out, a.dtype)
    to_a, to_coefficients = a.new_empty(a.shape), a.new_empty(coefficients.shape)
    atoms.run(BACKWARD, (atoms.a, atoms.coefficients, grad, None, None, None, to_a, to_coefficients))
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
    grad = _plain("grad", grad, atoms.shape_out, a.dtype)
    tangents = (
        _plain_or_none("tangent_a", tangent_a, a.shape, a.dtype),
        _plain_or_none("tangent_coefficients", tangent_coefficients, coefficients.shape, a.dtype),
    )
    out, to_a, to_coefficients = a.new_empty(atoms.shape_out), a.new_empty(a.shape), a.new_empty(coefficients.shape)
    atoms.run(BACKWARD2, (atoms.a, atoms.coefficients, grad, *tangents, out, to_a, to_coefficients))
    return out, to_a, to_coefficients


def serves(tensor: Tensor) -> bool:
    """Whether these kernels are for tensors of this device and precision."""
    return tensor.device.type == "cpu" and tensor.dtype in PRECISIONS


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
            _convolution_table(self.key), _run(self.h, 2 * self.y.shape[0] * rows * channels), which,
            atoms, self.y.shape[0], channels,
            self.sender.data_ptr(), self.receiver.data_ptr(), _addresses(tensors),
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
            _contraction_table(self.key), _run(self.a, atoms * self.coefficients.shape[1] * channels), which,
            atoms, self.coefficients.shape[0], channels, self.species.data_ptr(), _addresses(tensors),
        )  # fmt: skip


def _edges(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> _Edges:
    structure = ConvolutionStructure.from_key(key)
    (atoms, _, channels), edges = h.shape, y.shape[0]
    return _Edges(
        _plain("h", h, (atoms, structure.dim_in, channels), h.dtype),
        _plain("y", y, (edges, (structure.max_ell + 1) ** 2), h.dtype),
        _plain("radial", radial, (edges, len(structure.paths), channels), h.dtype),
        _plain("sender", sender, (edges,), torch.int64),
        _plain("receiver", receiver, (edges,), torch.int64),
        key,
        (atoms, structure.dim_out, channels),
    )


def _atoms(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> _Atoms:
    structure = ContractionStructure.from_key(key)
    atoms, _, channels = a.shape
    return _Atoms(
        _plain("a", a, (atoms, structure.dim_in, channels), a.dtype),
        _plain("coefficients", coefficients, (coefficients.shape[0], structure.num_terms, channels), a.dtype),
        _plain("species", species, (atoms,), torch.int64),
        key,
        (atoms, structure.dim_out, channels),
    )


def _plain(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor with its numbers in order in memory."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
        raise UsageError(
            f"{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}; expected {dtype} {list(shape)} on cpu",
            "give all arguments of an operator in one precision and in the shapes of its structure",
        )
    return tensor.detach().contiguous()


def _plain_or_none(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else _plain(name, tensor, tuple(shape), dtype)


def _addresses(tensors: tuple[Tensor | None, ...]) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def _run(tensor: Tensor, work: int) -> _core.Run:
    """How to run: with torch's number of threads, fewer where each would have too little of the multiplications."""
    threads = max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))
    return _core.Run(INSTRUCTION_SET, tensor.dtype == torch.float64, threads)


@cache
def _convolution_table(key: str) -> _core.ConvolutionTable:
    structure = ConvolutionStructure.from_key(key)
    if max(structure.max_ell, *structure.degrees_in) > LARGEST_DEGREE:
        raise UsageError(
            f"the cpu backend has degrees up to {LARGEST_DEGREE}; '{key}' has higher ones", "use the reference backend"
        )
    coupling = structure.coupling()
    harmonic, row, column = np.nonzero(coupling)
    inputs, columns = structure.input_of_column(), structure.path_of_column()
    return _core.ConvolutionTable(
        structure.max_ell,
        structure.dim_in,
        structure.dim_out,
        [path.l_in for path in structure.paths],
        [path.l_sh for path in structure.paths],
        [inputs[columns.index(path.index)] for path in structure.paths],
        harmonic.tolist(),
        row.tolist(),
        column.tolist(),
        coupling[harmonic, row, column].tolist(),
    )


@cache
def _contraction_table(key: str) -> _core.ContractionTable:
    structure = ContractionStructure.from_key(key)
    order = max(product.order for product in structure.products)
    if order > LARGEST_ORDER:
        raise UsageError(
            f"the cpu backend has correlations up to {LARGEST_ORDER}; '{key}' has a higher one",
            "use the reference backend",
        )
    terms = factored_terms(structure)
    return _core.ContractionTable(structure.dim_in, structure.dim_out, structure.num_terms, terms.groups, terms.entries)
