"""The edge convolution with a table of radial functions in C++; see `kernels.reference.table_convolution`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from macekit.errors import UsageError
from macekit.kernels import _core
from macekit.kernels.cpu_arguments import (
    BACKWARD,
    BACKWARD2,
    FORWARD,
    TANGENT,
    WEIGHTS,
    WORK_PER_EDGE_ROW,
    addresses,
    convolution_table,
    how_to_run,
    plain,
    plain_or_none,
)
from macekit.kernels.structure import LARGEST_TABLE_DEGREE, ConvolutionStructure
from macekit.kernels.table_edges import TableEdges, Tangents

NO_TANGENTS: Tangents = (None,) * 3


def table_convolution(edges: TableEdges) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]."""
    checked = _checked(edges)
    out = edges.h.new_empty(checked.shape_out)
    checked.run(FORWARD, None, NO_TANGENTS, (out, None, None, None, None))
    return out


def table_convolution_backward(
    grad: Tensor, edges: TableEdges, geometry: bool, weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ with respect to h, y, lengths and table; those not asked for are empty."""
    checked = _checked(edges)
    grad = plain("grad", grad, checked.shape_out, edges.h.dtype)
    asked = geometry or not weights  # the kernels make one of them at least
    to_h, to_y, to_lengths, to_table = checked.gradients(asked, weights)
    outputs = (None, to_h, *((to_y, to_lengths) if asked else (None, None)), to_table if weights else None)
    checked.run(BACKWARD, grad, NO_TANGENTS, outputs)
    if not geometry:
        to_y, to_lengths = to_y.new_empty(0), to_lengths.new_empty(0)
    return to_h, to_y, to_lengths, to_table


def table_convolution_backward2(
    tangents: Tangents, tangent_table: Tensor | None, grad: Tensor, edges: TableEdges, geometry: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Φ with respect to grad, h, y, lengths and table; those by y and lengths empty if not asked for."""
    checked = _checked(edges)
    grad = plain("grad", grad, checked.shape_out, edges.h.dtype)
    out = edges.h.new_empty(checked.shape_out)
    to_h, to_y, to_lengths, to_table = checked.gradients(geometry, True)
    outputs = (out, to_h, *((to_y, to_lengths) if geometry else (None, None)), to_table)
    checked.run(BACKWARD2, grad, tangents, outputs)
    if tangent_table is not None:  # everything is linear in the table
        moved = edges._replace(table=tangent_table)
        out += table_convolution(moved)
        more = table_convolution_backward(grad, moved, True, False)
        to_h += more[0]
        if geometry:
            to_y += more[1]
            to_lengths += more[2]
    return out, to_h, to_y, to_lengths, to_table


def table_convolution_tangent(tangents: Tangents, edges: TableEdges) -> Tensor:
    """The tangent of the messages, [N, D_out, K]."""
    checked = _checked(edges)
    out = edges.h.new_empty(checked.shape_out)
    checked.run(TANGENT, None, tangents, (out, None, None, None, None))
    return out


def table_convolution_weights(
    grad: Tensor, tangent_grad: Tensor, tangents: Tangents, edges: TableEdges
) -> tuple[Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ + ⟨tangent_grad, A'⟩ with respect to h and table."""
    checked = _checked(edges)
    grad = plain("grad", grad, checked.shape_out, edges.h.dtype)
    tangent_grad = plain("tangent_grad", tangent_grad, checked.shape_out, edges.h.dtype)
    to_h, _, _, to_table = checked.gradients(False, True)
    checked.run(WEIGHTS, grad, tangents, (None, to_h, None, None, to_table), tangent_grad)
    return to_h, to_table


class _Checked(NamedTuple):
    """Edges of which every tensor is as the extension takes it."""

    edges: TableEdges
    shape_out: tuple[int, int, int]

    def gradients(self, geometry: bool, weights: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Memory for the gradients by h, y, lengths and table; those not asked for are empty."""
        h, y, lengths, table, *_ = self.edges
        return (
            h.new_empty(h.shape),
            y.new_empty(y.shape if geometry else 0),
            lengths.new_empty(lengths.shape if geometry else 0),
            table.new_empty(table.shape if weights else 0),
        )

    def run(
        self,
        which: int,
        grad: Tensor | None,
        tangents: Tangents,
        outputs: tuple[Tensor | None, ...],
        tangent_grad: Tensor | None = None,
    ) -> None:
        """Call the extension; outputs in the order of its arguments."""
        h, y, lengths, table, sender, receiver, first, step, key = self.edges
        along = (
            plain_or_none("tangent_h", tangents[0], h.shape, h.dtype),
            plain_or_none("tangent_y", tangents[1], y.shape, h.dtype),
            plain_or_none("tangent_lengths", tangents[2], lengths.shape, torch.float64),
        )
        atoms, rows, channels = self.shape_out
        _core.table_convolution(
            convolution_table(key), how_to_run(h.dtype, WORK_PER_EDGE_ROW * len(lengths) * rows * channels), which,
            atoms, len(lengths), channels, _core.Knots(first, step, len(table)), sender.data_ptr(),
            receiver.data_ptr(), addresses((h, y, lengths, table, grad, *along, tangent_grad, *outputs)),
        )  # fmt: skip


def _checked(edges: TableEdges) -> _Checked:
    structure = ConvolutionStructure.from_key(edges.key)
    if max(structure.degrees_in) > LARGEST_TABLE_DEGREE:
        raise UsageError(
            f"the cpu backend has tables for features of degrees up to {LARGEST_TABLE_DEGREE}; '{edges.key}' has "
            "higher ones",
            "use exact radial functions, or the reference backend",
        )
    h, y, lengths, table, sender, receiver, *_ = edges
    (atoms, _, channels), count, rows = h.shape, y.shape[0], table.shape[0]
    given = edges._replace(
        h=plain("h", h, (atoms, structure.dim_in, channels), h.dtype),
        y=plain("y", y, (count, (structure.max_ell + 1) ** 2), h.dtype),
        lengths=plain("lengths", lengths, (count,), torch.float64),
        table=plain("table", table, (rows, len(structure.paths), channels), h.dtype),
        sender=plain("sender", sender, (count,), torch.int64),
        receiver=plain("receiver", receiver, (count,), torch.int64),
    )
    return _Checked(given, (atoms, structure.dim_out, channels))
