"""What the C++ kernels are given: checked tensors as addresses, coupling structures, the number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from macekit.errors import UsageError
from macekit.kernels import _core
from macekit.kernels.factored_terms import factored_terms
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure

LARGEST_DEGREE = 4
WORK_PER_THREAD = 800_000
"""Multiplications that are worth another thread, some 20 µs. Measured with a step of 32 channels on 5 molecules: with
2.5 million, two threads take 6 % longer."""
FORWARD, BACKWARD, BACKWARD2, TANGENT, WEIGHTS = range(5)
WORK_PER_TERM = {FORWARD: 4, BACKWARD: 8, BACKWARD2: 20}
"""Multiplications that take as long as a term of the symmetric contraction, for `how_to_run`; measured."""
WORK_PER_EDGE_ROW = 4
"""Multiplications that take as long as one number of a message out of a table."""
LARGEST_ORDER = 4


def _best_instruction_set() -> str:
    found = _core.instruction_sets()
    if not found:
        raise ImportError(
            "it was compiled for instruction sets that this processor does not have; install macekit again on this one"
        )
    return found[0]


INSTRUCTION_SET = _best_instruction_set()
"""The best one that was compiled and that this processor has."""


def plain(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor with its numbers in order in memory."""
    if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_cpu:
        raise UsageError(
            f"{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}; expected {dtype} {list(shape)} on cpu",
            "give all arguments of an operator in one precision and in the shapes of its structure",
        )
    return tensor if tensor.is_contiguous() else tensor.detach().contiguous()


def plain_or_none(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """`plain` of a tensor that may not be there."""
    return None if tensor is None else plain(name, tensor, tuple(shape), dtype)


def addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    """Where the numbers of tensors are; 0 for one that is not there."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def how_to_run(dtype: torch.dtype, work: int) -> _core.Run:
    """How to run: with torch's number of threads, fewer where each would have too little of the multiplications."""
    return _run(INSTRUCTION_SET, dtype, max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD)))


@cache
def _run(instruction_set: str, dtype: torch.dtype, threads: int) -> _core.Run:
    return _core.Run(instruction_set, dtype == torch.float64, threads)


def effort() -> _core.Effort:
    """The same rule for what chooses the number of threads itself."""
    return _effort(torch.get_num_threads(), WORK_PER_THREAD)


@cache
def _effort(threads: int, per_thread: float) -> _core.Effort:
    return _core.Effort(threads, per_thread, tuple(WORK_PER_TERM.values()), WORK_PER_EDGE_ROW)


def highest_degree(structure: ConvolutionStructure) -> int:
    """Of the features and of the harmonics."""
    return max(structure.max_ell, *structure.degrees_in)


def lanes(dtype: torch.dtype) -> int:
    """Numbers in a register."""
    return _lanes(INSTRUCTION_SET, dtype)


@cache
def _lanes(instruction_set: str, dtype: torch.dtype) -> int:
    return _core.lanes(_run(instruction_set, dtype, 1))


@cache
def convolution_table(key: str) -> _core.ConvolutionTable:
    """A `ConvolutionStructure` for the kernels."""
    structure = ConvolutionStructure.from_key(key)
    if highest_degree(structure) > LARGEST_DEGREE:
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


def highest_order(structure: ContractionStructure) -> int:
    """Of the polynomials."""
    return max(product.order for product in structure.products)


@cache
def contraction_table(key: str) -> _core.ContractionTable:
    """A `ContractionStructure` for the kernels."""
    structure = ContractionStructure.from_key(key)
    if highest_order(structure) > LARGEST_ORDER:
        raise UsageError(
            f"the cpu backend has correlations up to {LARGEST_ORDER}; '{key}' has a higher one",
            "use the reference backend",
        )
    terms = factored_terms(structure)
    return _core.ContractionTable(structure.dim_in, structure.dim_out, terms.rows, terms.columns, terms.entries)
