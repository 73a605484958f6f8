"""The read-outs of scalars with the sweeps of training, in pure torch.

With the scalars x_l of layer l, Σ_l x_l V_l + f(x W₁) W₂, where the last layer has an MLP with f(z) = c silu(z), and
all matrices are divided by the square root of their fan-in. The sweep of the curvature takes f″.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from macekit.kernels.layer_parts import Gradients


def readout_sweeps(norm: float) -> ReadoutSweeps:
    """`layer_parts.Sweeps` from the features of some layers, [N, D, K] each with scalars first, to [N, T].

    Weights are V of all layers but the last, [K, T], then W₁ [K, H] and W₂ [H, T] of the last.

    Args:
        norm: c.
    """
    return ReadoutSweeps(norm)


class _Activation(NamedTuple):
    """f and its derivatives at some z."""

    value: Tensor
    slope: Tensor
    curvature: Tensor

    @classmethod
    def of(cls, z: Tensor, norm: float) -> _Activation:
        sigmoid = torch.sigmoid(z)
        falling = 1.0 - sigmoid
        slope = sigmoid * (1.0 + z * falling)
        curvature = sigmoid * falling * (2.0 + z * (falling - sigmoid))
        return cls(z * sigmoid * norm, slope * norm, curvature * norm)


class _Moved(NamedTuple):
    """Adjoints λ of the reverse by the geometry, and the tangents after it."""

    to_out: Tensor
    to_hidden: Tensor
    scalars: list[Tensor | None]
    """Of every layer."""
    z: Tensor


class ReadoutSweeps:
    """The read-outs of one step, and what their sweeps leave for the next ones."""

    def __init__(self, norm: float) -> None:
        self.norm = norm
        self.moved: _Moved | None = None

    def values(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The sum of the read-outs."""
        self.inputs = inputs
        self.matrices = [weight / math.sqrt(weight.shape[0]) for weight in weights]
        self.scalars: list[Tensor] = [features[:, 0] for features in inputs]
        self.active = _Activation.of(self.scalars[-1] @ self.matrices[-2], self.norm)
        return self._output(self.scalars, self.active.value)

    def geometry(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the features."""
        self.adjoints = grad, self._to_hidden(grad)
        return self._features(grad, self.adjoints[1] * self.active.slope)

    def tangents(self, changes: Gradients) -> Tensor:
        """The tangent of the sum."""
        scalars = [None if change is None else change[:, 0] for change in changes]
        last = self.scalars[-1].new_zeros(self.scalars[-1].shape) if scalars[-1] is None else scalars[-1]
        z = last @ self.matrices[-2]
        self.moved = _Moved(*self.adjoints, scalars, z)
        return self._output(scalars, self.active.slope * z)

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> tuple[Gradients, Gradients]:
        """Gradients by the features and by the matrices."""
        active, moved, second = self.active, self.moved, self.matrices[-1]
        grad = second.new_zeros(len(self.scalars[0]), second.shape[1]) if grad is None else grad
        to_z = self._to_hidden(grad) * active.slope
        if moved is not None:
            to_z += moved.to_hidden * active.curvature * moved.z
        pairs = [[(x, to_out)] for x, to_out in zip(self.scalars, self._per_layer(grad, to_z), strict=True)]
        pairs.append([(active.value, grad)])
        if moved is not None:
            reverse = self._per_layer(moved.to_out, moved.to_hidden * active.slope)
            for found, change, to_out in zip(pairs[:-1], moved.scalars, reverse, strict=True):
                if change is not None:
                    found.append((change, to_out))
            pairs[-1].append((active.slope * moved.z, moved.to_out))
        by_weights = (_outer(each) if is_wanted else None for each, is_wanted in zip(pairs, wanted, strict=True))
        return self._features(grad, to_z), tuple(by_weights)

    def _output(self, scalars: Sequence[Tensor | None], hidden: Tensor) -> Tensor:
        out = hidden @ self.matrices[-1]
        for x, matrix in zip(scalars[:-1], self.matrices[:-2], strict=True):
            if x is not None:
                out.addmm_(x, matrix)
        return out

    def _to_hidden(self, grad: Tensor) -> Tensor:
        """The gradient by f(z), given that by the output."""
        return grad @ self.matrices[-1].T

    def _per_layer(self, grad: Tensor, to_z: Tensor) -> list[Tensor]:
        """Gradients by what the first matrix of every layer gives."""
        return [grad] * (len(self.inputs) - 1) + [to_z]

    def _features(self, grad: Tensor, to_z: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the features of every layer."""
        found = tuple(torch.zeros_like(features) for features in self.inputs)
        reverse = self._per_layer(grad, to_z)
        for features, to_out, matrix in zip(found, reverse, self.matrices[:-1], strict=True):
            torch.mm(to_out, matrix.T, out=features[:, 0])
        return found


def _outer(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Σ xᵀ y over √fan-in."""
    found = pairs[0][0].T @ pairs[0][1]
    for x, y in pairs[1:]:
        found.addmm_(x.T, y)
    return found.div_(math.sqrt(found.shape[0]))
