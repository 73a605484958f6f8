"""What the network sees of distances: a transform of the distance by the two elements, a basis, an envelope."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from macekit.config import DatasetFacts, ModelConfig
from macekit.model.basis import bessel_basis, chebyshev_basis, gaussian_basis
from macekit.model.constants import Constants


class DistanceTransform(nn.Module):
    """The distance itself."""

    def __init__(self, config: ModelConfig, elements: Sequence[int]) -> None:
        super().__init__()

    def forward(self, lengths: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """Map distances, float64 [E], of edges between species sender [E] and receiver [E]."""
        return lengths


class AgnesiTransform(DistanceTransform):
    """1 / (1 + a (r/r₀)^q / (1 + (r/r₀)^(q−p))), r₀ the mean covalent radius (arXiv 2305.18159, eq. 12-13)."""

    def __init__(self, config: ModelConfig, elements: Sequence[int]) -> None:
        super().__init__(config, elements)
        self.radii = Constants(constants_of(config, "covalent_radii", radii_of(elements)))
        self.shape = Constants(constants_of(config, "agnesi", [0.9183, 4.5791, 1.0805]))

    def forward(self, lengths: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """Transformed distances between 0 and 1, [E]."""
        q, p, a = self.shape.value.unbind()
        x = lengths / (0.5 * (self.radii.value[sender] + self.radii.value[receiver]))
        steps: Tensor = 1.0 + a * x.pow(q) / (1.0 + x.pow(q - p))
        return steps.reciprocal()


class SoftTransform(DistanceTransform):
    """p₀ + (r − p₀) (1 + tanh(α (r − m)/(p₁ − p₀)))/2 with p₀, p₁ = ¾ and 4/3 of the sum of radii, m their mean."""

    def __init__(self, config: ModelConfig, elements: Sequence[int]) -> None:
        super().__init__(config, elements)
        self.radii = Constants(constants_of(config, "covalent_radii", radii_of(elements)))
        self.steepness = Constants(constants_of(config, "soft", [4.0]))

    def forward(self, lengths: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """Distances that do not fall below p₀, [E], Å."""
        total = self.radii.value[sender] + self.radii.value[receiver]
        low, high = 3.0 / 4.0 * total, 4.0 / 3.0 * total
        steepness = self.steepness.value / (high - low)
        return low + (lengths - low) * 0.5 * (1.0 + torch.tanh(steepness * (lengths - 0.5 * (low + high))))


TRANSFORMS: dict[str, type[DistanceTransform]] = {
    "none": DistanceTransform,
    "agnesi": AgnesiTransform,
    "soft": SoftTransform,
}
BASES: dict[str, Callable[..., Tensor]] = {
    "bessel": bessel_basis,
    "gaussian": gaussian_basis,
    "chebyshev": chebyshev_basis,
}


class RadialBasis(nn.Module):
    """The radial basis of every edge.

    Args:
        config: Choices.
        facts: Facts; elements and the cutoff are taken from here.
    """

    def __init__(self, config: ModelConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.function, self.cutoff, self.size = BASES[config.radial_basis], facts.cutoff, config.num_bessel
        self.transform = TRANSFORMS[config.distance_transform](config, facts.elements)
        given = config.radial_constants.get(config.radial_basis)
        self.parameters_given = None if given is None else Constants(given)

    def forward(self, lengths: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """Basis of edges of these lengths [E] between these species, float64 [E, B], without envelope."""
        transformed = self.transform(lengths, sender, receiver)
        given = None if self.parameters_given is None else self.parameters_given.value
        return self.function(transformed, self.cutoff, self.size, given)


def constants_of(config: ModelConfig, name: str, default: Sequence[float]) -> list[float]:
    """Constants that the configuration gives, or the usual ones."""
    return config.radial_constants.get(name, list(default))


def radii_of(elements: Sequence[int]) -> list[float]:
    """Covalent radii, Å (Cordero et al., doi:10.1039/b801115j)."""
    return [float(covalent_radii[number]) for number in elements]
