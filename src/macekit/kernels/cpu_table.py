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
    addresses,
    convolution_table,
    how_to_run,
    plain,
    plain_or_none,
)
from macekit.kernels.structure import LARGEST_TABLE_DEGREE, ConvolutionStructure

NO_TANGENTS = (None,) * 3


def table_convolution(
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> Tensor:
    """Messages summed at their receivers, [N, D_out, K]."""
    edges = _edges(h, y, lengths, table, sender, receiver, first, step, key)
    out = h.new_empty(edges.shape_out)
    edges.run(FORWARD, None, NO_TANGENTS, (out, None, None, None, None))
    return out


def table_convolution_backward(
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
    weights: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ with respect to h, y, lengths and table; those not asked for are empty."""
    edges = _edges(h, y, lengths, table, sender, receiver, first, step, key)
    grad = plain("grad", grad, edges.shape_out, h.dtype)
    asked = geometry or not weights  # the kernels make one of them at least
    to_h, to_y, to_lengths, to_table = edges.gradients(asked, weights)
    outputs = (None, to_h, *((to_y, to_lengths) if asked else (None, None)), to_table if weights else None)
    edges.run(BACKWARD, grad, NO_TANGENTS, outputs)
    return to_h, to_y if geometry else y.new_empty(0), to_lengths if geometry else lengths.new_empty(0), to_table


def table_convolution_backward2(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    tangent_table: Tensor | None,
    grad: Tensor,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
    geometry: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Φ with respect to grad, h, y, lengths and table; those by y and lengths empty if not asked for."""
    edges = _edges(h, y, lengths, table, sender, receiver, first, step, key)
    grad = plain("grad", grad, edges.shape_out, h.dtype)
    tangents = edges.tangents(tangent_h, tangent_y, tangent_lengths)
    out = h.new_empty(edges.shape_out)
    to_h, to_y, to_lengths, to_table = edges.gradients(geometry, True)
    outputs = (out, to_h, *((to_y, to_lengths) if geometry else (None, None)), to_table)
    edges.run(BACKWARD2, grad, tangents, outputs)
    if tangent_table is not None:  # everything is linear in the table
        rest = sender, receiver, first, step, key
        out += table_convolution(h, y, lengths, tangent_table, *rest)
        more = table_convolution_backward(grad, h, y, lengths, tangent_table, *rest, True, False)
        to_h += more[0]
        if geometry:
            to_y += more[1]
            to_lengths += more[2]
    return out, to_h, to_y, to_lengths, to_table


def table_convolution_tangent(
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> Tensor:
    """The tangent of the messages, [N, D_out, K]."""
    edges = _edges(h, y, lengths, table, sender, receiver, first, step, key)
    out = h.new_empty(edges.shape_out)
    edges.run(TANGENT, None, edges.tangents(tangent_h, tangent_y, tangent_lengths), (out, None, None, None, None))
    return out


def table_convolution_weights(
    grad: Tensor,
    tangent_grad: Tensor,
    tangent_h: Tensor | None,
    tangent_y: Tensor | None,
    tangent_lengths: Tensor | None,
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of ⟨grad, A⟩ + ⟨tangent_grad, A'⟩ with respect to h and table."""
    edges = _edges(h, y, lengths, table, sender, receiver, first, step, key)
    grad = plain("grad", grad, edges.shape_out, h.dtype)
    tangent_grad = plain("tangent_grad", tangent_grad, edges.shape_out, h.dtype)
    to_h, _, _, to_table = edges.gradients(False, True)
    tangents = edges.tangents(tangent_h, tangent_y, tangent_lengths)
    edges.run(WEIGHTS, grad, tangents, (None, to_h, None, None, to_table), tangent_grad)
    return to_h, to_table


class _Edges(NamedTuple):
    """Checked arguments of the convolution."""

    h: Tensor
    y: Tensor
    lengths: Tensor
    table: Tensor
    sender: Tensor
    receiver: Tensor
    knots: _core.Knots
    key: str
    shape_out: tuple[int, int, int]

    def gradients(self, geometry: bool, weights: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Memory for the gradients by h, y, lengths and table; those not asked for are empty."""
        y, lengths, table = self.y, self.lengths, self.table
        return (
            self.h.new_empty(self.h.shape),
            y.new_empty(y.shape if geometry else 0),
            lengths.new_empty(lengths.shape if geometry else 0),
            table.new_empty(table.shape if weights else 0),
        )

    def tangents(self, h: Tensor | None, y: Tensor | None, lengths: Tensor | None) -> tuple[Tensor | None, ...]:
        """Checked tangents in the order of the extension."""
        return (
            plain_or_none("tangent_h", h, self.h.shape, self.h.dtype),
            plain_or_none("tangent_y", y, self.y.shape, self.h.dtype),
            plain_or_none("tangent_lengths", lengths, self.lengths.shape, torch.float64),
        )

    def run(
        self,
        which: int,
        grad: Tensor | None,
        tangents: tuple[Tensor | None, ...],
        outputs: tuple[Tensor | None, ...],
        tangent_grad: Tensor | None = None,
    ) -> None:
        """Call the extension; tangents and outputs in the order of its arguments."""
        atoms, rows, channels = self.shape_out
        edges = self.lengths.shape[0]
        _core.table_convolution(
            convolution_table(self.key), how_to_run(self.h, 4 * edges * rows * channels), which,
            atoms, edges, channels, self.knots, self.sender.data_ptr(), self.receiver.data_ptr(),
            addresses((self.h, self.y, self.lengths, self.table, grad, *tangents, tangent_grad, *outputs)),
        )  # fmt: skip


def _edges(
    h: Tensor,
    y: Tensor,
    lengths: Tensor,
    table: Tensor,
    sender: Tensor,
    receiver: Tensor,
    first: float,
    step: float,
    key: str,
) -> _Edges:
    structure = ConvolutionStructure.from_key(key)
    if max(structure.degrees_in) > LARGEST_TABLE_DEGREE:
        raise UsageError(
            f"the cpu backend has tables for features of degrees up to {LARGEST_TABLE_DEGREE}; '{key}' has higher ones",
            "use exact radial functions, or the reference backend",
        )
    (atoms, _, channels), edges, rows = h.shape, y.shape[0], table.shape[0]
    return _Edges(
        plain("h", h, (atoms, structure.dim_in, channels), h.dtype),
        plain("y", y, (edges, (structure.max_ell + 1) ** 2), h.dtype),
        plain("lengths", lengths, (edges,), torch.float64),
        plain("table", table, (rows, len(structure.paths), channels), h.dtype),
        plain("sender", sender, (edges,), torch.int64),
        plain("receiver", receiver, (edges,), torch.int64),
        _core.Knots(first, step, rows),
        key,
        (atoms, structure.dim_out, channels),
    )
