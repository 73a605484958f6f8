"""The coupling tensors of a file (U matrices) on the reduced basis of symmetric polynomials.

MACE's basis of coupling trees is redundant: with equal factors only the symmetric part of U counts. Each path is a
polynomial in the components of the atomic basis, which the members of our basis span; so the weights of a file become
weights of this basis exactly, whatever the phases and the order of paths in the file. What couplings in float32 have
beside their polynomials is kept as well, so that nothing of a file is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.tree import Array
from macekit.o3 import SymmetricProduct

Integers = NDArray[np.int64]
EXACT, FLOAT32 = 1e-10, 2e-6
"""What rounding to float64 and to float32 explains, relative to the largest coefficient."""
NOTHING = 1e-12
"""What is left out of a path at most, relative to its largest coefficient."""


HALF_PRECISION = (
    "a model that was turned into half precision (float16, bfloat16) has lost its couplings: convert the model before "
    "that, in float32 or float64"
)


class CancellingTerms(Exception):
    """A coupling has monomials that cancel in exact couplings, and that the terms of the basis are without."""


class Projection(NamedTuple):
    """Paths of a coupling tensor as members of the basis and what is left: together the tensor, to 1e-12."""

    members: Array
    """[paths, F]."""
    rounding: Array
    """Coefficients [T, paths] of the basis's terms that the members do not account for."""


def is_single(values: NDArray[np.generic]) -> bool:
    """Whether every number is one of float32, whatever the precision that it is stored in."""
    return bool(np.all(values.astype(np.float32).astype(np.float64) == values))


def project_paths(tensor: Array, product: SymmetricProduct, num_components: int, where: str) -> Projection:
    """Matrix from paths of a coupling tensor to members of the basis.

    Args:
        tensor: U of one order ν and output degree L, [(2L+1,) D, ..., D, paths]; no first dimension for L = 0.
        product: The basis for the same order and degree.
        num_components: D.
        where: For messages.

    Raises:
        ModelFileError: If the tensor has another shape, or a path is not in the span of the basis.
        CancellingTerms: If what is left has monomials that the basis has no terms for.
    """
    outputs, order = 2 * product.degree + 1, product.order
    shape = (outputs, *[num_components] * order, tensor.shape[-1])
    if tensor.size != np.prod(shape):
        raise ModelFileError(f"{where}: a coupling tensor of shape {list(tensor.shape)}, expected {list(shape)}")
    codes, polynomials = _polynomials(tensor.reshape(shape), num_components)
    ours = _codes(product.outputs, product.factors, num_components)
    everything = np.union1d(codes, ours)
    theirs = np.zeros((len(everything), tensor.shape[-1]))
    theirs[np.searchsorted(everything, codes)] = polynomials
    basis = np.zeros((len(everything), product.num_functions))
    basis[np.searchsorted(everything, ours)] = product.coefficients
    if product.num_functions:
        solution = np.linalg.lstsq(basis, theirs, rcond=None)[0]  # [F, paths]
    else:
        solution = np.zeros((0, tensor.shape[-1]))
    left = theirs - basis @ solution
    residual, largest = (float(np.abs(values).max(initial=0.0)) for values in (left, theirs))
    if residual > FLOAT32 * max(largest, 1e-300):
        raise ModelFileError(
            f"{where}: its coupling of order {order} to degree {product.degree} is not a symmetric product of "
            f"natural parity: relative residual {residual / largest:.1e}, allowed {FLOAT32:.0e}",
            HALF_PRECISION if residual < 0.02 * largest else None,
        )
    if np.abs(left[~np.isin(everything, ours)]).max(initial=0.0) > NOTHING * largest:
        raise CancellingTerms(where)
    left = left[np.searchsorted(everything, ours)]
    return Projection(np.asarray(solution.T, dtype=np.float64), np.asarray(left, dtype=np.float64))


def _polynomials(tensor: Array, num_components: int) -> tuple[Integers, Array]:
    """Codes [U] of the monomials of a tensor [2L+1, D, ..., D, paths] and their coefficients [U, paths]."""
    positions = np.nonzero(np.any(tensor != 0.0, axis=-1))
    values = tensor[positions]
    factors = np.sort(np.stack(positions[1:], axis=1), axis=1)
    codes, inverse = np.unique(_codes(positions[0], factors, num_components), return_inverse=True)
    coefficients = np.zeros((len(codes), tensor.shape[-1]))
    np.add.at(coefficients, inverse.reshape(-1), values)
    return codes, coefficients


def _codes(outputs: Integers, factors: Integers, num_components: int) -> Integers:
    """One number for an output component and its ascending factors."""
    code = np.asarray(outputs, dtype=np.int64)
    for column in np.asarray(factors, dtype=np.int64).T:
        code = code * num_components + column
    return code


def block_diagonal(blocks: Sequence[Array]) -> Array:
    """Matrices below and beside one another, zero elsewhere."""
    matrix = np.zeros((sum(block.shape[0] for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return matrix
