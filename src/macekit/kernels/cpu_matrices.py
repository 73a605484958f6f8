"""Products of features with matrices in C++; see `kernels.reference_matrices`, which defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from macekit.kernels import _core, reference_matrices
from macekit.kernels.cpu_arguments import how_to_run, lanes, plain
from macekit.kernels.reference_matrices import MatrixBlock, empty_result


def matrix_products(
    x: Tensor, matrices: Sequence[Tensor], blocks: Sequence[MatrixBlock], shape: tuple[int, ...], transposed: bool
) -> Tensor:
    """S x W for all blocks, or S x Wᵀ, [N, *shape]; channels that leave a remainder of a register go through torch."""
    if not _fill_registers(blocks, x.dtype):
        return reference_matrices.matrix_products(x, matrices, blocks, shape, transposed)
    x = plain("x", x, tuple(x.shape), x.dtype)
    matrices = [plain("matrix", matrix, tuple(matrix.shape), x.dtype) for matrix in matrices]
    result = empty_result(x, blocks, shape, transposed)
    width, width_of_result = math.prod(x.shape[1:]), math.prod(shape)
    widths = (width_of_result, width) if transposed else (width, width_of_result)
    _core.matrix_products(
        how_to_run(x, _work(blocks)), _numbers(blocks, matrices), [block.scale for block in blocks],
        *widths, x.data_ptr(), result.data_ptr(), transposed,
    )  # fmt: skip
    return result


def matrix_gradients(
    pairs: Sequence[tuple[Tensor, Tensor]], blocks: Sequence[MatrixBlock], shapes: Sequence[tuple[int, ...]]
) -> tuple[Tensor, ...]:
    """S Σ xᵀ y over pairs of features, as tensors of these shapes."""
    x, y = pairs[0]
    if not _fill_registers(blocks, x.dtype):
        return reference_matrices.matrix_gradients(pairs, blocks, shapes)
    left = [plain("x", one, tuple(x.shape), x.dtype) for one, _ in pairs]
    right = [plain("y", other, tuple(y.shape), x.dtype) for _, other in pairs]
    covered = len(blocks) == sum(math.prod(shape[:-2]) for shape in shapes)
    make = torch.empty if covered else torch.zeros
    matrices = tuple(make(shape, dtype=x.dtype) for shape in shapes)
    _core.matrix_gradients(
        how_to_run(x, len(pairs) * _work(blocks)), _numbers(blocks, matrices), [block.scale for block in blocks],
        math.prod(x.shape[1:]), math.prod(y.shape[1:]),
        [one.data_ptr() for one in left], [other.data_ptr() for other in right],
    )  # fmt: skip
    return matrices


def _work(blocks: Sequence[MatrixBlock]) -> int:
    """Multiplications."""
    return sum((b.end - b.begin) * b.components * b.fan_in * b.fan_out for b in blocks)


def _numbers(blocks: Sequence[MatrixBlock], matrices: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Address of every matrix and the integers of its block, in the order of the extension."""
    first = [matrix.data_ptr() for matrix in matrices]
    size = matrices[0].element_size() if matrices else 0
    return [(first[b.matrix] + b.number * b.fan_in * b.fan_out * size, *b[2:9]) for b in blocks]


def _fill_registers(blocks: Sequence[MatrixBlock], dtype: torch.dtype) -> bool:
    width = lanes(dtype)
    return all(block.fan_in % width == 0 and block.fan_out % width == 0 for block in blocks)
