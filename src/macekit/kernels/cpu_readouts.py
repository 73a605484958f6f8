"""The read-outs of scalars in C++; see `kernels.reference_readouts`, which defines their sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from macekit.kernels import _core
from macekit.kernels.cpu_arguments import addresses, how_to_run, plain, plain_or_none
from macekit.kernels.layer_parts import Gradients


def readout_sweeps(norm: float) -> CpuReadouts:
    """The sweeps of one step."""
    return CpuReadouts(norm)


class CpuReadouts:
    """`layer_parts.Sweeps` of the read-outs in C++.

    Args:
        norm: Factor of the activation.
    """

    def __init__(self, norm: float) -> None:
        self.norm = norm
        self.kept: list[Tensor | None] = []
        """What the extension goes on reading."""

    def values(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The sum of the read-outs, [N, T]."""
        like, (units, targets) = inputs[0], weights[-1].shape
        (atoms, _, channels), self.dtype = like.shape, like.dtype
        shapes = [*((channels, targets),) * (len(inputs) - 1), (channels, units), (units, targets)]
        self.features = [plain("features", x, (atoms, *x.shape[1:-1], channels), self.dtype) for x in inputs]
        self.matrices = [plain("matrix", w, shape, self.dtype) for w, shape in zip(weights, shapes, strict=True)]
        z, out = like.new_empty(atoms, units), like.new_empty(atoms, targets)
        self.kept.append(z)
        self.shapes = z.shape, out.shape
        self.native = _core.Readouts(
            how_to_run(self.dtype, 0), self.norm, (atoms, channels, units, targets),
            [x.shape[1] * channels for x in self.features], addresses(self.features), addresses(self.matrices),
        )  # fmt: skip
        self.native.values(z.data_ptr(), out.data_ptr())
        return out

    def geometry(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the features of every layer."""
        grad = plain("grad", grad, self.shapes[1], self.dtype)
        self.kept.append(grad)
        found = self._like_features()
        self.native.geometry(grad.data_ptr(), addresses(found))
        return found

    def tangents(self, changes: Gradients) -> Tensor:
        """The tangent of the output."""
        moved = [
            plain_or_none("tangent", change, x.shape, self.dtype)
            for change, x in zip(changes, self.features, strict=True)
        ]
        d_z, out = (self.features[0].new_empty(shape) for shape in self.shapes)
        self.kept += [*moved, d_z]
        self.native.tangents(addresses(moved), d_z.data_ptr(), out.data_ptr())
        return out

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> tuple[Gradients, Gradients]:
        """Gradients by the features, and by the matrices that are wanted."""
        grad = plain_or_none("grad", grad, self.shapes[1], self.dtype)
        by_features = self._like_features()
        gradients = tuple(
            matrix.new_empty(matrix.shape) if is_wanted else None
            for matrix, is_wanted in zip(self.matrices, wanted, strict=True)
        )
        self.native.weights(0 if grad is None else grad.data_ptr(), addresses(by_features), addresses(gradients))
        return by_features, gradients

    def _like_features(self) -> tuple[Tensor, ...]:
        return tuple(x.new_empty(x.shape) for x in self.features)
