"""What a backend of the hot operations has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from macekit.kernels.layer_parts import LayerParts, LayerSweeps, Sweeps
from macekit.kernels.radial_layers import RadialLayers
from macekit.kernels.reference_matrices import MatrixPlan
from macekit.kernels.table_edges import TableEdges, Tangents


class Backend(Protocol):
    """The functions of a backend; their definitions are those of `kernels.reference`."""

    def edge_convolution(
        self, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str, /
    ) -> Tensor:
        """Messages summed at their receivers."""

    def edge_convolution_backward(
        self, grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str, /
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Its gradients."""

    def edge_convolution_backward2(
        self,
        tangent_h: Tensor | None,
        tangent_y: Tensor | None,
        tangent_radial: Tensor | None,
        grad: Tensor,
        h: Tensor,
        y: Tensor,
        radial: Tensor,
        sender: Tensor,
        receiver: Tensor,
        key: str,
        /,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of its gradients."""

    def table_convolution(self, edges: TableEdges, /) -> Tensor:
        """The same with radial functions out of a table."""

    def table_convolution_backward(
        self, grad: Tensor, edges: TableEdges, geometry: bool, weights: bool, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Its gradients, as far as they are asked for."""

    def table_convolution_backward2(
        self, tangents: Tangents, tangent_table: Tensor | None, grad: Tensor, edges: TableEdges, geometry: bool, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The gradients of its gradients."""

    def table_convolution_tangent(self, tangents: Tangents, edges: TableEdges, /) -> Tensor:
        """Its tangent."""

    def table_convolution_weights(
        self, grad: Tensor, tangent_grad: Tensor, tangents: Tangents, edges: TableEdges, /
    ) -> tuple[Tensor, Tensor]:
        """Gradients of a function of it and its tangent by features and table."""

    def symmetric_contraction(self, a: Tensor, coefficients: Tensor, species: Tensor, key: str, /) -> Tensor:
        """Equivariant polynomials."""

    def symmetric_contraction_backward(
        self, grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, weights: bool = True, /
    ) -> tuple[Tensor, Tensor]:
        """Their gradients."""

    def symmetric_contraction_backward2(
        self,
        tangent_a: Tensor | None,
        tangent_coefficients: Tensor | None,
        grad: Tensor,
        a: Tensor,
        coefficients: Tensor,
        species: Tensor,
        key: str,
        /,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of their gradients."""

    def matrix_products(self, x: Tensor, matrices: Sequence[Tensor], plan: MatrixPlan, transposed: bool, /) -> Tensor:
        """Features times one matrix per degree."""

    def matrix_gradients(self, pairs: Sequence[tuple[Tensor, Tensor]], plan: MatrixPlan, /) -> tuple[Tensor, ...]:
        """Gradients of the matrices."""

    def matrix_chains(self, ones: Sequence[Tensor], twos: Sequence[Tensor], /) -> tuple[Tensor, ...]:
        """Products of pairs of matrices."""

    def matrix_chains_backward(
        self, ones: Sequence[Tensor], twos: Sequence[Tensor], grads: Sequence[Tensor], wanted: Sequence[bool], /
    ) -> list[Tensor | None]:
        """Their gradients."""

    def radial_table(self, layers: RadialLayers, /) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Coefficients of splines through radial functions, and what their gradients take."""

    def radial_table_backward(
        self, grad: Tensor, layers: RadialLayers, kept: Sequence[Tensor], /
    ) -> tuple[Tensor, ...]:
        """Gradients of the matrices."""

    def edge_harmonics(
        self, vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype, /
    ) -> tuple[Tensor, Tensor]:
        """Spherical harmonics and distances."""

    def edge_harmonics_backward(
        self, to_harmonics: Tensor, to_lengths: Tensor, vectors: Tensor, shortest: float, max_ell: int, /
    ) -> Tensor:
        """Their gradients."""

    def edge_harmonics_tangent(
        self, tangent_vectors: Tensor, vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype, /
    ) -> tuple[Tensor, Tensor]:
        """Their tangents."""

    def layer_sweeps(self, parts: LayerParts, dtype: torch.dtype, /) -> LayerSweeps | None:
        """All of a layer, with one call for each sweep of training; None: its parts are to be called one by one."""

    def readout_sweeps(self, norm: float, /) -> Sweeps:
        """The read-outs of scalars, with one call for each sweep of training."""
