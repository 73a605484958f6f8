"""The product basis: symmetric powers of the atomic basis, weighted by element."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from macekit.kernels import sweeps
from macekit.kernels.ops import symmetric_contraction
from macekit.kernels.reference_chains import chained
from macekit.kernels.structure import ContractionStructure, product_basis
from macekit.model.linear import DegreeLinear, NodeAttributes
from macekit.model.matrices import all_chained


class ProductBasis(nn.Module):
    """B[i] = linear(Σ_ν Σ_f w[z_i, f] P_f(A_i)) (arXiv 2206.07697, eq. 10-11).

    The polynomials P are a basis of all symmetric couplings, 8 instead of 23 weights per channel and element for
    0e out of degrees 0-3 at order 3. Weights: F · functions · K, and K² per degree. An imported model may have
    further functions, which hold the rounding of the couplings in its file.

    Args:
        max_ell: Highest degree of the atomic basis.
        degrees_out: Degrees of the result.
        correlation: Highest order ν.
        channels: K.
        num_node_features: F, number of node features (elements first).
        generator: Source of the initial weights.
        num_rounding: Number of further functions, constants of an imported model.
        has_cancelling: Whether these have terms that cancel in exact couplings.
    """

    rounding_basis: Tensor
    rounding_weights: Tensor

    def __init__(
        self,
        max_ell: int,
        degrees_out: tuple[int, ...],
        correlation: int,
        channels: int,
        num_node_features: int,
        generator: Generator,
        num_rounding: int = 0,
        has_cancelling: bool = False,
    ) -> None:
        super().__init__()
        self.key = ContractionStructure.key(max_ell, degrees_out, correlation, has_cancelling)
        self.degrees_out, self.channels = degrees_out, channels
        structure = ContractionStructure.from_key(self.key)
        scale = torch.as_tensor(structure.initial_scale())
        shape = (num_node_features, structure.num_functions, channels)
        self.weights = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64) * scale[:, None])
        self.linear = DegreeLinear(dict.fromkeys(degrees_out, channels), channels, generator)
        self.num_rounding = num_rounding
        if num_rounding:
            empty = torch.zeros(structure.num_terms, num_rounding, dtype=torch.float64)
            self.register_buffer("rounding_basis", empty)
            self.register_buffer("rounding_weights", empty.new_zeros(num_node_features, num_rounding, channels))

    def forward(self, a: Tensor, attributes: NodeAttributes) -> Tensor:
        """Map the atomic basis [N, (max_ell+1)², K] to features [N, D_out, K]."""
        coefficients = self.coefficients(attributes)  # [S, T, K]
        polynomials = symmetric_contraction(a, coefficients, attributes.classes, self.key)  # [N, D_out, K]
        return self.linear.whole(polynomials)

    def coefficients(self, attributes: NodeAttributes) -> Tensor:
        """Coefficients of the polynomials for every class, [S, T, K]."""
        weights = attributes.per_class(self.weights)  # [S, f, K]
        basis = product_basis(self.key, weights.dtype, weights.device)  # [T, f]
        if sweeps.is_scheduled():  # differentiated once, by the weights
            (coefficients,) = all_chained([basis], [weights])
        else:
            coefficients = chained(basis, weights)
        if self.num_rounding:
            constants = attributes.per_class(self.rounding_weights)
            coefficients = coefficients + chained(self.rounding_basis, constants)
        return coefficients

    @property
    def dim_out(self) -> int:
        """Components of the result."""
        return sum(2 * l + 1 for l in self.degrees_out)
