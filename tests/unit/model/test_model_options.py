"""Options of the backbone in our own configurations: derivatives, symmetry, locality, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from numpy.typing import NDArray

from macekit.config import ModelConfig
from macekit.data import Structure
from macekit.errors import ConfigError
from macekit.geometry.neighbours import graph_from_structure
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from models import tiny_model

OPTIONS: dict[str, dict[str, Any]] = {
    "residual first": {"interaction_first": "agnostic_residual"},
    "density": {"interaction_first": "density", "interaction": "density_residual"},
    "nonlinear": {
        "interaction_first": "nonlinear_residual",
        "interaction": "nonlinear_residual",
        "envelope": "messages",
    },
    "gaussian": {"radial_basis": "gaussian"},
    "chebyshev, agnesi": {"radial_basis": "chebyshev", "distance_transform": "agnesi"},
    "soft": {"distance_transform": "soft"},
    "late envelope": {"envelope": "messages", "interaction_first": "density"},
    "repulsion": {"pair_repulsion": "zbl"},
    "edge irreps": {"edge_irreps": "3x0e", "edge_irreps_first": True},
    "tanh": {"mlp_activation": "tanh", "read_layers": "last"},
    "no activation": {"mlp_activation": "none"},
    "biased": {"mlp_kind": "biased"},
    "rounding": {"coupling_rounding": [2, 0]},
    "rounding of all terms": {"coupling_rounding": [1, 2], "coupling_terms": "all", "correlation": 3, "max_ell": 2},
    "tuned": {"interaction": "nonlinear_residual", "envelope": "messages", "tuner": "lora"},
}
NUMBERS = [6, 8, 1, 1]


def positions(seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(4, 3)) * 0.9 + np.arange(4)[:, None] * 0.4


def model_of(options: dict[str, Any]) -> Mace:
    model = tiny_model(**options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() and bool((tensor == tensor.flatten()[0]).all()) and tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return model


def outputs(model: Mace, where: NDArray[np.float64], numbers: list[int] = NUMBERS) -> dict[str, torch.Tensor]:
    structure = Structure.from_ase(Atoms(numbers, where))
    return evaluate(model, graph_from_structure(structure, model.facts.elements, model.facts.cutoff), stress=False)


def energy(model: Mace, where: NDArray[np.float64], numbers: list[int] = NUMBERS) -> float:
    column = model.facts.targets.y_graph_scalars.index("energy")
    return outputs(model, where, numbers)["y_graph_scalars"][0, column].item()


@pytest.mark.parametrize("name", OPTIONS)
def test_forces_are_derivatives(name: str) -> None:
    model, start, step = model_of(OPTIONS[name]), positions(), 5e-4
    forces = outputs(model, start)["y_node_vector"].numpy()
    for atom, axis in ((0, 0), (1, 2), (3, 1)):
        values = []
        for count in (-2, -1, 1, 2):
            moved = start.copy()
            moved[atom, axis] += count * step
            values.append(energy(model, moved))
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert abs(slope + forces[atom, axis]) <= 1e-6 * max(1.0, np.abs(forces).max())


@pytest.mark.parametrize("name", [name for name in OPTIONS if "rounding" not in name])
def test_energies_are_invariant_and_forces_rotate(name: str) -> None:
    model, start = model_of(OPTIONS[name]), positions()
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]  # proper or not
    before, after = outputs(model, start), outputs(model, start @ rotation.T + 3.0)
    torch.testing.assert_close(after["y_graph_scalars"], before["y_graph_scalars"], rtol=1e-10, atol=1e-9)
    rotated = before["y_node_vector"].numpy() @ rotation.T
    np.testing.assert_allclose(after["y_node_vector"].numpy(), rotated, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in OPTIONS if "rounding" not in name])
def test_nothing_jumps_at_the_cutoff(name: str) -> None:
    model = model_of(OPTIONS[name])
    cutoff = model.facts.cutoff
    inside, outside = (energy(model, np.array([[0.0] * 3, [0.0, 0.0, cutoff + d]]), [6, 8]) for d in (-1e-4, 1e-4))
    alone = sum(energy(model, np.zeros((1, 3)), [number]) for number in (6, 8))
    assert inside == pytest.approx(outside, abs=1e-8)
    assert outside == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize("name", ["density", "repulsion", "gaussian", "soft", "tanh"])
def test_an_isolated_atom_has_its_self_energy(name: str) -> None:
    model = model_of(OPTIONS[name])
    expected = model.facts.reference_energies["energy"][model.facts.elements.index(8)] + model.facts.shift["energy"]
    assert energy(model, np.zeros((1, 3)), [8]) == pytest.approx(expected, abs=1e-10)


def test_repulsion_is_added_to_the_energy_alone() -> None:
    with_it, without = model_of({"pair_repulsion": "zbl"}), model_of({})
    near, far = (np.array([[0.0] * 3, [0.0, 0.0, d]]) for d in (0.4, 1.6))
    assert energy(with_it, near, [6, 8]) - energy(without, near, [6, 8]) > 50.0
    assert energy(with_it, far, [6, 8]) == pytest.approx(energy(without, far, [6, 8]), abs=1e-10)
    gap = with_it.facts.targets.y_graph_scalars.index("gap")
    found = [outputs(model, near, [6, 8])["y_graph_scalars"][0, gap].item() for model in (with_it, without)]
    assert found[0] == found[1]


def test_unknown_constants_are_named() -> None:
    with pytest.raises(ConfigError, match=r"radial_constants: unknown besel; known: agnesi, bessel, covalent_radii"):
        ModelConfig.from_dict({"radial_constants": {"besel": [1.0]}})
    with pytest.raises(ConfigError, match="coupling_rounding: 1 values given, expected one for each of the 2"):
        ModelConfig.from_dict({"coupling_rounding": [1]})
    with pytest.raises(ConfigError, match="interaction_first"):
        ModelConfig.from_dict({"interaction_first": "gnostic"})
