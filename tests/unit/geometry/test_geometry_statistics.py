"""What is measured before a model is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

import structures as named
from macekit.geometry.statistics import average_neighbours, measure_facts
from tiny_runs import run_of


def test_atoms_without_neighbours_count() -> None:
    """M19: they are atoms too."""
    structures = [named.water(), named.single_atom(), named.isolated_pair()]
    assert average_neighbours(structures, 3.2) == 6 / 6
    assert average_neighbours([named.single_atom()], 3.2) == 1.0
    copper = named.cubic_copper().to_ase()
    assert average_neighbours([named.cubic_copper()], 3.2) == len(neighbor_list("i", copper, 3.2)) / 4


@pytest.mark.parametrize("compute_forces", [True, False])
def test_scales(tmp_path: Path, compute_forces: bool) -> None:
    """Energies that are exactly E0 per atom plus a known rest; forces of known size."""
    generator = np.random.default_rng(0)
    rest = generator.normal(size=6)
    structures = []
    for k, value in enumerate(rest):
        count = 2 + k % 3
        structure = named.structure([8] * count, generator.normal(scale=3.0, size=(count, 3)))
        forces = np.full((count, 3), 0.5)
        structures.append(structure.with_targets({"energy": -10.0 * count + value, "forces": forces}))
    changes = {"model.compute_forces": compute_forces, "data.reference_energies": {"O": -10.0}}
    if not compute_forces:
        changes["model.y_node_vector_loss_config"] = None
    facts = measure_facts(structures, run_of(tmp_path / "none.xyz", tmp_path / "run", changes)).facts
    assert facts.elements == [8]
    assert facts.reference_energies == {"energy": [-10.0]}
    sizes = [structure.num_atoms for structure in structures]
    assert facts.shift["energy"] == pytest.approx(float(np.mean(rest / sizes)), rel=1e-12)
    expected = 0.5 if compute_forces else float(np.std(rest))
    assert facts.scale["energy"] == pytest.approx(expected, rel=1e-12)
