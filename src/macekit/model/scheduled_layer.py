"""One layer of message passing as one differentiable operation, for losses on energies, forces and stress.

Its values are h → messages A → atomic basis B → polynomials C → output. The sweeps are those of `model.scheduling`, so
that a step is tens of calls and every weight has its gradient from one product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from macekit.kernels.backend import Backend
from macekit.kernels.dispatch import contraction_backend, table_backend
from macekit.kernels.layer_parts import Gradients, LayerParts, LayerSweeps, Sweeps
from macekit.kernels.table_edges import TableEdges, Tangents
from macekit.model.layer_inputs import LayerInputs, LinearMap, take
from macekit.model.scheduling import scheduled_output


def scheduled_layer(h: Tensor, y: Tensor, lengths: Tensor, inputs: LayerInputs) -> Tensor:
    """The output of a layer, [N, D_out, K]; see `scheduling.scheduled_output`.

    Args:
        h: Features, [N, D_in, K].
        y: Spherical harmonics of the edges, [E, L].
        lengths: Distances, float64 [E], Å.
        inputs: The rest.
    """
    return scheduled_output(layer_part(inputs), (h, y, lengths), inputs.weights())


def layer_part(inputs: LayerInputs) -> Sweeps:
    """The sweeps of a layer: as the backend has them in one, or kernel by kernel."""
    whole = _whole_layer(inputs)
    return _Sweeps(inputs) if whole is None else _WholeLayer(inputs, whole)


def _whole_layer(inputs: LayerInputs) -> LayerSweeps | None:
    """The layer as the backend has it in one; None: it has the kernels alone."""
    backend = table_backend(inputs.table, inputs.convolution)
    if contraction_backend(inputs.table, inputs.contraction) is not backend:
        return None
    atoms, mix, residual = inputs.classes.shape[0], inputs.mix, inputs.residual
    parts = LayerParts(
        inputs.up.layout.plan(atoms),
        inputs.linear.layout.plan(atoms),
        None if mix is None else mix.layout.plan(atoms),
        inputs.product.layout.plan(atoms),
        None if residual is None else residual.layout.plan(atoms),
        inputs.convolution, inputs.contraction,
        inputs.sender, inputs.receiver, inputs.classes, inputs.first, inputs.step,
    )  # fmt: skip
    return backend.layer_sweeps(parts, inputs.table.dtype)


class _WholeLayer:
    """One layer of one step, by a backend that has all of it."""

    def __init__(self, inputs: LayerInputs, sweeps: LayerSweeps) -> None:
        self.inputs, self.sweeps = inputs, sweeps

    def values(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        rest = self.inputs.with_weights(weights)
        matrices = [() if each is None else each.matrices for each in rest.all_maps()]
        return self.sweeps.values(inputs, rest.table, rest.coefficients, matrices)

    def geometry(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.sweeps.geometry(grad)

    def tangents(self, changes: Gradients) -> Tensor:
        return self.sweeps.tangents(*changes)

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> tuple[Gradients, Gradients]:
        left, maps = iter(wanted), self.inputs.all_maps()
        asked = [each is not None and any(take(left, each)) for each in maps]
        to_h, found, table, coefficients = self.sweeps.weights(grad, asked)
        matrices: list[Tensor | None] = []
        for each, gradients in zip(maps, found, strict=True):
            if each is not None:
                matrices += [None] * len(each.matrices) if gradients is None else gradients
        return (to_h, None, None), (*matrices, table, coefficients)


class _Adjoints(NamedTuple):
    """Derivatives of the energy by the values, the λ of the second sweep."""

    out: Tensor
    polynomials: Tensor
    basis: Tensor
    mixed: Tensor
    messages: Tensor
    sent: Tensor


class _Tangents(NamedTuple):
    """Tangents of the values, and what the curvature of the polynomials adds to the last sweep."""

    h: Tensor | None
    along: Tangents
    """Of what is sent, of the harmonics and of the distances."""
    messages: Tensor
    mixed: Tensor
    polynomials: Tensor
    to_basis: Tensor
    to_coefficients: Tensor


class _Sweeps:
    """One layer of one step kernel by kernel, and what its sweeps leave for the next ones."""

    def __init__(self, inputs: LayerInputs) -> None:
        self.inputs = inputs
        self.adjoints: _Adjoints | None = None
        self.moved: _Tangents | None = None

    def values(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        self.h, y, lengths = inputs
        self.inputs = rest = self.inputs.with_weights(weights)
        ends, knots = (rest.sender, rest.receiver), (rest.first, rest.step)
        self.edges = TableEdges(rest.up(self.h), y, lengths, rest.table, *ends, *knots, rest.convolution)
        self.messages = self._convolver.table_convolution(self.edges)
        self.mixed = rest.linear(self.messages)
        self.basis = self.mixed if rest.mix is None else rest.mix(self.mixed)
        self.polynomials = self._contractor.symmetric_contraction(*self._contracted())
        return self._output(self.polynomials, self.h)

    def geometry(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs = self.inputs
        polynomials = inputs.product.transposed(grad)
        basis, _ = self._contractor.symmetric_contraction_backward(polynomials, *self._contracted(), False)
        mixed = basis if inputs.mix is None else inputs.mix.transposed(basis)
        messages = inputs.linear.transposed(mixed)
        sent, to_y, to_lengths, _ = self._convolver.table_convolution_backward(messages, self.edges, True, False)
        self.adjoints = _Adjoints(grad, polynomials, basis, mixed, messages, sent)
        return self._features(sent, grad), to_y, to_lengths

    def tangents(self, changes: Gradients) -> Tensor:
        d_h, d_y, d_lengths = changes
        inputs, adjoints = self.inputs, self.adjoints
        assert adjoints is not None
        d_sent = None if d_h is None else inputs.up(d_h)
        along = d_sent, d_y, d_lengths
        messages = self._convolver.table_convolution_tangent(along, self.edges)
        mixed = inputs.linear(messages)
        basis = mixed if inputs.mix is None else inputs.mix(mixed)
        polynomials, to_basis, to_coefficients = self._contractor.symmetric_contraction_backward2(
            basis, None, adjoints.polynomials, *self._contracted()
        )
        self.moved = _Tangents(d_h, along, messages, mixed, polynomials, to_basis, to_coefficients)
        return self._output(polynomials, d_h)

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> tuple[Gradients, Gradients]:
        inputs, adjoints, moved = self.inputs, self.adjoints, self.moved
        grad = self.polynomials.new_zeros(self.polynomials.shape) if grad is None else grad
        polynomials = inputs.product.transposed(grad)
        basis, coefficients = self._contractor.symmetric_contraction_backward(polynomials, *self._contracted(), True)
        if moved is not None:
            basis += moved.to_basis
            coefficients += moved.to_coefficients
        mixed = basis if inputs.mix is None else inputs.mix.transposed(basis)
        messages = inputs.linear.transposed(mixed)
        if moved is not None and adjoints is not None:
            sent, table = self._convolver.table_convolution_weights(
                messages, adjoints.messages, moved.along, self.edges
            )
        else:
            sent, _, _, table = self._convolver.table_convolution_backward(messages, self.edges, False, True)
        pairs = {
            "up": [(self.h, sent)],
            "linear": [(self.messages, mixed)],
            "mix": [(self.mixed, basis)],
            "product": [(self.polynomials, grad)],
            "residual": [(self.h, grad)],
        }
        if moved is not None and adjoints is not None:
            pairs["linear"].append((moved.messages, adjoints.mixed))
            pairs["mix"].append((moved.mixed, adjoints.basis))
            pairs["product"].append((moved.polynomials, adjoints.out))
            if moved.h is not None:
                pairs["up"].append((moved.h, adjoints.sent))
                pairs["residual"].append((moved.h, adjoints.out))
        self.adjoints = self.moved = None
        return (self._features(sent, grad), None, None), (*self._outer(pairs, iter(wanted)), table, coefficients)

    def _outer(self, pairs: dict[str, list[tuple[Tensor, Tensor]]], wanted: Iterator[bool]) -> list[Tensor | None]:
        """Gradients of the matrices of all maps, as far as they are wanted."""
        found: list[Tensor | None] = []
        for name, factors in pairs.items():
            linear: LinearMap | None = getattr(self.inputs, name)
            if linear is None:
                continue
            if not any(take(wanted, linear)):
                found += [None] * len(linear.matrices)
                continue
            kept = [(x, self._carried(y)) for x, y in factors] if name == "residual" else factors
            found += linear.layout.outer(kept)
        return found

    def _output(self, polynomials: Tensor, h: Tensor | None) -> Tensor:
        """The product's linear map and the residual."""
        out = self.inputs.product(polynomials)
        if self.inputs.residual is not None and h is not None:
            carried = self.inputs.residual(h)
            out[:, : carried.shape[1]] += carried
        return out

    def _features(self, to_sent: Tensor, grad: Tensor) -> Tensor:
        """The gradient by the features out of that by what is sent and by the output."""
        to_h = self.inputs.up.transposed(to_sent)
        if self.inputs.residual is not None:
            to_h += self.inputs.residual.transposed(self._carried(grad))
        return to_h

    def _carried(self, grad: Tensor) -> Tensor:
        """The rows of the output that the residual is added to."""
        residual = self.inputs.residual
        assert residual is not None
        return grad[:, : residual.layout.dim_out]

    @property
    def _convolver(self) -> Backend:
        return table_backend(self.h, self.inputs.convolution)

    @property
    def _contractor(self) -> Backend:
        return contraction_backend(self.h, self.inputs.contraction)

    def _contracted(self) -> tuple[Tensor, Tensor, Tensor, str]:
        return self.basis, self.inputs.coefficients, self.inputs.classes, self.inputs.contraction
