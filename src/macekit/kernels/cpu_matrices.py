"""Products of features with matrices in C++; see `kernels.reference_matrices`, which defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from macekit.kernels import _core, reference_matrices
from macekit.kernels.cpu_arguments import how_to_run, lanes, plain
from macekit.kernels.reference_matrices import PLANS_KEPT, MatrixPlan


def matrix_products(x: Tensor, matrices: Sequence[Tensor], plan: MatrixPlan, transposed: bool) -> Tensor:
    """S x W for all blocks, or S x Wᵀ; channels that leave a remainder of a register go through torch."""
    native, width = native_plan(plan)
    if width % lanes(x.dtype):
        return reference_matrices.matrix_products(x, matrices, plan, transposed)
    x = plain("x", x, (plan.atoms, *(plan.shape_out if transposed else plan.shape_in)), x.dtype)
    given = [plain("matrix", each, shape, x.dtype) for each, shape in zip(matrices, plan.shapes, strict=True)]
    result = plan.empty_features(x, transposed)
    run, addresses = how_to_run(x.dtype, plan.work), [matrix.data_ptr() for matrix in given]
    _core.matrix_products(native, run, addresses, x.data_ptr(), result.data_ptr(), transposed)
    return result


def matrix_gradients(pairs: Sequence[tuple[Tensor, Tensor]], plan: MatrixPlan) -> tuple[Tensor, ...]:
    """S Σ xᵀ y over pairs of features, as tensors of the plan's shapes."""
    dtype, (native, width) = pairs[0][0].dtype, native_plan(plan)
    if width % lanes(dtype):
        return reference_matrices.matrix_gradients(pairs, plan)
    left = [plain("x", x, (plan.atoms, *plan.shape_in), dtype) for x, _ in pairs]
    right = [plain("y", y, (plan.atoms, *plan.shape_out), dtype) for _, y in pairs]
    matrices = plan.empty_matrices(left[0])
    _core.matrix_gradients(
        native, how_to_run(left[0].dtype, len(pairs) * plan.work), [matrix.data_ptr() for matrix in matrices],
        [x.data_ptr() for x in left], [y.data_ptr() for y in right],
    )  # fmt: skip
    return matrices


@lru_cache(maxsize=PLANS_KEPT)
def native_plan(plan: MatrixPlan) -> tuple[_core.MatrixPlan, int]:
    """The plan for the extension, and a number of channels that all of its fans are multiples of."""
    width = math.gcd(*(fan for block in plan.blocks for fan in (block.fan_in, block.fan_out)))
    native = _core.MatrixPlan(
        math.prod(plan.shape_in),
        math.prod(plan.shape_out),
        [tuple(block[:9]) for block in plan.blocks],
        [block.scale for block in plan.blocks],
    )
    return native, width
