"""A layer of message passing in C++, one call for each sweep of training; see `model.scheduled_layer`.

What is between the kernels stays in memory of the extension from one sweep to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from macekit.kernels import _core
from macekit.kernels.cpu_arguments import (
    addresses,
    contraction_table,
    convolution_table,
    effort,
    how_to_run,
    lanes,
    plain,
    plain_or_none,
)
from macekit.kernels.cpu_matrices import native_plan
from macekit.kernels.layer_parts import LayerParts
from macekit.kernels.reference_matrices import MatrixPlan
from macekit.kernels.structure import LARGEST_TABLE_DEGREE, ContractionStructure, ConvolutionStructure


def layer_sweeps(parts: LayerParts, dtype: torch.dtype) -> CpuLayer | None:
    """The sweeps of a layer, for numbers of a precision.

    None where channels leave a remainder of a register, and where the kernels lack a structure, as they say themselves.
    """
    widths = [native_plan(plan)[1] for plan in parts.plans() if plan is not None]
    degrees = ConvolutionStructure.from_key(parts.convolution).degrees_in
    if max(degrees) > LARGEST_TABLE_DEGREE or any(width % lanes(dtype) for width in widths):
        return None
    return CpuLayer(parts, dtype)


class CpuLayer:
    """`layer_parts.LayerSweeps` in C++.

    Args:
        parts: What the layer is made of.
        dtype: Precision of the numbers.
    """

    def __init__(self, parts: LayerParts, dtype: torch.dtype) -> None:
        self.parts, self.dtype = parts, dtype
        self.kept: list[Tensor | None] = []
        """What the extension goes on reading."""

    def values(
        self, inputs: Sequence[Tensor], table: Tensor, coefficients: Tensor, matrices: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """The output, [N, D_out, K]."""
        parts, dtype = self.parts, self.dtype
        structure = ConvolutionStructure.from_key(parts.convolution)
        polynomials = ContractionStructure.from_key(parts.contraction)
        atoms, count, rows = len(parts.classes), len(parts.sender), table.shape[0]
        channels, (classes, _, width) = table.shape[2], coefficients.shape
        self.h_shape, self.y_shape = (atoms, *parts.up.shape_in), (count, (structure.max_ell + 1) ** 2)
        self.out_shape = atoms, *parts.product.shape_out
        table_shape = rows, len(structure.paths), channels
        coefficient_shape = classes, polynomials.num_terms, width
        given = [
            plain("h", inputs[0], self.h_shape, dtype),
            plain("y", inputs[1], self.y_shape, dtype),
            plain("lengths", inputs[2], (count,), torch.float64),
            plain("table", table, table_shape, dtype),
            plain("coefficients", coefficients, coefficient_shape, dtype),
        ]
        of_maps = [
            [] if plan is None else [plain("matrix", m, s, dtype) for m, s in zip(each, plan.shapes, strict=True)]
            for plan, each in zip(parts.plans(), matrices, strict=True)
        ]
        ends = [plain("sender", parts.sender, (count,), torch.int64)]
        ends += [plain("receiver", parts.receiver, (count,), torch.int64)]
        ends += [plain("classes", parts.classes, (atoms,), torch.int64)]
        self.table, self.coefficients = given[3:]
        self.kept = [*given, *(matrix for each in matrices for matrix in each)]
        self.native = _core.layer_sweeps(
            convolution_table(parts.convolution), contraction_table(parts.contraction),
            native_plan(parts.up)[0], native_plan(parts.linear)[0], _plan_or_none(parts.mix),
            native_plan(parts.product)[0], _plan_or_none(parts.residual),
            how_to_run(dtype, 0), effort(), (atoms, count, classes),
            _core.Knots(parts.first, parts.step, rows), *(end.data_ptr() for end in ends),
        )  # fmt: skip
        out = table.new_empty(self.out_shape)
        self.native.values(addresses(given), [addresses(each) for each in of_maps], out.data_ptr())
        return out

    def geometry(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by features, harmonics and distances."""
        grad = plain("grad", grad, self.out_shape, self.dtype)
        self.kept.append(grad)
        to_h, to_y = grad.new_empty(self.h_shape), grad.new_empty(self.y_shape)
        to_lengths = torch.empty(self.y_shape[0], dtype=torch.float64)
        self.native.geometry(grad.data_ptr(), addresses((to_h, to_y, to_lengths)))
        return to_h, to_y, to_lengths

    def tangents(self, h: Tensor | None, y: Tensor | None, lengths: Tensor | None) -> Tensor:
        """The tangent of the output."""
        given = (
            plain_or_none("tangent_h", h, self.h_shape, self.dtype),
            plain_or_none("tangent_y", y, self.y_shape, self.dtype),
            plain_or_none("tangent_lengths", lengths, self.y_shape[:1], torch.float64),
        )
        self.kept += given
        out = self.table.new_empty(self.out_shape)
        self.native.tangents(addresses(given), out.data_ptr())
        return out

    def weights(
        self, grad: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor, list[tuple[Tensor, ...] | None], Tensor, Tensor]:
        """Gradients by features, by the matrices of every map where they are wanted, by table and coefficients."""
        grad = plain_or_none("grad", grad, self.out_shape, self.dtype)
        to_h, to_table = self.table.new_empty(self.h_shape), self.table.new_empty(self.table.shape)
        to_coefficients = self.table.new_empty(self.coefficients.shape)
        matrices = [
            None if plan is None or not is_wanted else plan.empty_matrices(self.table)
            for plan, is_wanted in zip(self.parts.plans(), wanted, strict=True)
        ]
        self.native.weights(
            0 if grad is None else grad.data_ptr(),
            addresses((to_h, to_table, to_coefficients)),
            [[] if each is None else addresses(each) for each in matrices],
        )
        return to_h, matrices, to_table, to_coefficients


def _plan_or_none(plan: MatrixPlan | None) -> _core.MatrixPlan | None:
    return None if plan is None else native_plan(plan)[0]
