"""Repulsion of atoms at short distance, added to what the network learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from macekit.config import DatasetFacts, ModelConfig
from macekit.geometry.graph import Graph
from macekit.geometry.vectors import edge_vectors
from macekit.model.basis import polynomial_envelope
from macekit.model.constants import Constants
from macekit.model.radial import constants_of, radii_of

SHORTEST = 1e-8
"""Å; distances below this are treated as this."""
COULOMB = 14.3996
"""e²/4πε₀, eV Å, to the digits that MACE uses."""
BOHR = 0.529
"""Å, to the digits that MACE uses."""
DECAYS = (3.2, 0.9423, 0.4028, 0.2016)


class ZBLRepulsion(nn.Module):
    """Ziegler-Biersack-Littmark repulsion of pairs closer than the sum of their covalent radii.

    Each atom of a pair has half of Z Z' e²/r Σ_k c_k exp(−d_k r/a) under the polynomial envelope,
    a = prefactor · 0.529 Å / (Z^x + Z'^x), as in MACE foundation models (arXiv 2401.00096).

    Args:
        config: Choices; the envelope's power is `num_polynomial_cutoff`.
        facts: Facts; elements are taken from here.
    """

    def __init__(self, config: ModelConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.power = int(constants_of(config, "zbl_power", [config.num_polynomial_cutoff])[0])
        self.radii = Constants(constants_of(config, "covalent_radii", radii_of(facts.elements)))
        self.numbers = Constants([float(number) for number in facts.elements])
        self.screening = Constants(constants_of(config, "zbl_screening", [0.4543, 0.300]))
        self.weights = Constants(constants_of(config, "zbl_weights", [0.1818, 0.5099, 0.2802, 0.02817]))
        self.decays = Constants(DECAYS)
        self.factors = Constants(constants_of(config, "zbl_factor", [1.0]))

    def forward(self, graph: Graph) -> Tensor:
        """Energy of every atom, float64 [N], eV."""
        lengths = edge_vectors(graph).square().sum(1).clamp(min=SHORTEST**2).sqrt()  # [E]
        sender, receiver = graph.species[graph.edge_index[0]], graph.species[graph.edge_index[1]]
        first, second = self.numbers.value[sender], self.numbers.value[receiver]
        prefactor, exponent = self.screening.value
        scaled = lengths * (first.pow(exponent) + second.pow(exponent)) / (prefactor * BOHR)
        screened = torch.exp(-scaled[:, None] * self.decays.value) @ self.weights.value  # [E]
        reach = self.radii.value[sender] + self.radii.value[receiver]
        envelope = polynomial_envelope(lengths / reach, 1.0, self.power)
        factor = self._factor(graph)
        energies = (0.5 * factor * COULOMB) * first * second / lengths * screened * envelope
        return energies.new_zeros(graph.num_nodes).index_add(0, graph.edge_index[1], energies)

    def _factor(self, graph: Graph) -> Tensor:
        """Factor of every edge [E], or of all [1]; levels of theory of imported models have one each."""
        factors: Tensor = self.factors.value
        if len(factors) == 1:
            return factors
        return factors[graph.head[graph.batch[graph.edge_index[1]]]]


REPULSIONS: dict[str, type[ZBLRepulsion] | None] = {"none": None, "zbl": ZBLRepulsion}
"""By the name that configurations use."""
