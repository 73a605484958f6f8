"""Parts of a model whose sweeps are written out by hand, and what a layer is made of; see `model.scheduling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from macekit.kernels.reference_matrices import MatrixPlan

Gradients = tuple[Tensor | None, ...]


class Sweeps(Protocol):
    """One part of one step, and what its sweeps leave for the next ones. Tensors come and go without graph."""

    def values(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The output."""

    def geometry(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the inputs, given that by the output."""

    def tangents(self, changes: Gradients) -> Tensor:
        """The tangent of the output, given those of the inputs; None is zero. Comes after `geometry`."""

    def weights(self, grad: Tensor | None, wanted: Sequence[bool]) -> tuple[Gradients, Gradients]:
        """Gradients by the inputs that depend on weights, others None, and by those of the weights that are wanted.

        With those of the tangents, if there were any: of ⟨grad, output⟩ + ⟨λ, tangent of the output⟩.
        """


class LayerParts(NamedTuple):
    """The maps, couplings and edges of a layer. N atoms, E edges, S classes of atoms, K channels."""

    up: MatrixPlan
    """From features to what is sent."""
    linear: MatrixPlan
    """From messages to the atomic basis."""
    mix: MatrixPlan | None
    """Of the atomic basis; None: it is not mixed."""
    product: MatrixPlan
    """From polynomials to the output."""
    residual: MatrixPlan | None
    """From features to the first rows of the output; None: there is none."""
    convolution: str
    """Name of the `ConvolutionStructure`."""
    contraction: str
    """Name of the `ContractionStructure`."""
    sender: Tensor
    """int64 [E]."""
    receiver: Tensor
    """int64 [E]."""
    classes: Tensor
    """int64 [N]."""
    first: float
    """Distance of the first knot of the table, Å."""
    step: float
    """Distance between knots, Å."""

    def plans(self) -> tuple[MatrixPlan | None, ...]:
        """Of the maps, in order."""
        return self.up, self.linear, self.mix, self.product, self.residual


class LayerSweeps(Protocol):
    """The four sweeps of training through a layer, in their order; see `model.scheduling`."""

    def values(
        self, inputs: Sequence[Tensor], table: Tensor, coefficients: Tensor, matrices: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """The output, [N, D_out, K].

        Args:
            inputs: Features [N, D_in, K], spherical harmonics [E, L], and distances, float64 [E], Å.
            table: Radial functions, [G + 2, P, K].
            coefficients: Of the polynomials, [S, T, K].
            matrices: Of every map in the order of `LayerParts.plans`, in the shapes of its plan; none where there is
                no map.
        """

    def geometry(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by features, harmonics and distances."""

    def tangents(self, h: Tensor | None, y: Tensor | None, lengths: Tensor | None) -> Tensor:
        """The tangent of the output."""

    def weights(
        self, grad: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor, list[tuple[Tensor, ...] | None], Tensor, Tensor]:
        """Gradients by features, by the matrices of every map where they are wanted, by table and coefficients."""
