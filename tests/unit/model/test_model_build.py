"""From choices and facts to a model: what is accepted, what is refused, what the parts are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import structures as named
from contract import checks
from contract.subject import Subject
from macekit.config import DatasetFacts, ModelConfig
from macekit.data import Structure
from macekit.errors import ConfigError, DataError
from macekit.model.basis import bessel_basis, polynomial_envelope
from macekit.model.build import build_model, scale_and_shift
from macekit.model.mlp import SILU_NORM
from models import COMBINATIONS, config_of, facts_of, tiny_model


@pytest.mark.parametrize(
    ("name", "tuner", "uncertainty"),
    [
        ("mace_model", "none", "none"),
        ("mean_var_mace_model", "none", "gaussian"),
        ("ssf_mace_model", "ssf", "none"),
        ("adapter_mace_model", "adapter", "none"),
    ],
)
def test_four_names(name: str, tuner: str, uncertainty: str) -> None:
    config = {k: v for k, v in config_of().items() if k not in ("tuner", "uncertainty")}
    model = build_model(name, config, facts_of())
    assert (model.config.name, model.config.tuner, model.config.uncertainty) == (name, tuner, uncertainty)
    assert ("y_graph_scalars::std" in model(Subject(model).graph(named.water()))) == (uncertainty == "gaussian")


def test_objects_and_mappings_are_the_same() -> None:
    config, facts = config_of(), facts_of()
    one = build_model("mace_model", config, facts)
    two = build_model("mace_model", ModelConfig.from_dict(config), DatasetFacts.from_dict(facts))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("name", "config", "facts", "match"),
    [
        ("mace_modle", {}, {}, "unknown model 'mace_modle'.*\nhint: did you mean 'mace_model'"),
        ("mace_model", {"name": "ssf_mace_model"}, {}, "name 'mace_model' but config.name is 'ssf_mace_model'"),
        ("mace_model", {"num_node_feats": 7}, {}, "num_node_feats: 7 given, but the data have 4"),
        ("mace_model", {"num_edge_feats": 2}, {}, "num_edge_feats: 2 given, but the data have 0"),
        ("mace_model", {"max_ell": 0}, {}, "max_ell: 0 given, but a vector output needs max_ell >= 1"),
        ("mace_model", {"hidden_irreps": "8x0e + 4x1o"}, {}, "all multiplicities must be equal"),
        ("mace_model", {"mlp_irreps": "8x1o"}, {}, "expected scalars only"),
        ("mace_model", {"hiden_irreps": "8x0e"}, {}, "did you mean 'hidden_irreps'"),
        ("mace_model", {}, {"elements": [8, 1]}, "elements: expected ascending, distinct"),
        ("mace_model", {}, {"reference_energies": {"energy": [1.0]}}, "energy has 1 values for 4 elements"),
        ("mace_model", {}, {"targets": {"y_graph_scalars": []}}, "compute_forces: true given, but .* names no energy"),
        (
            "mean_var_mace_model",
            {"compute_forces": False, "tuner": "none", "uncertainty": "gaussian"},
            {"targets": {"y_graph_scalars": [], "y_node_scalars": ["charges"]}},
            "gaussian needs data.targets.y_graph_scalars",
        ),
    ],
)
def test_refused(name: str, config: dict[str, Any], facts: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        build_model(name, config_of() | config, facts_of() | facts)


def test_scaling_of_the_configuration_is_the_energys() -> None:
    config = ModelConfig.from_dict(config_of() | {"scaling_mean": 0.7, "scaling_std": 2.5})
    facts = DatasetFacts.from_dict(facts_of())
    assert scale_and_shift(config, facts, "energy") == (2.5, 0.7)
    assert scale_and_shift(config, facts, "gap") == (0.4, 2.5)
    assert scale_and_shift(config, facts, "unknown") == (1.0, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_irreps": "4x0e"},
        {"hidden_irreps": "4x0e + 4x1o + 4x2e"},
        {"num_interactions": 1},
        {"num_interactions": 3, "hidden_irreps": "4x0e"},
        {"max_ell": 1, "hidden_irreps": "4x0e + 4x1o + 4x2e"},
        {"max_ell": 3, "correlation": 1},
        {"correlation": 4, "max_ell": 1},
        {"radial_mlp": []},
        {"avg_num_neighbours": None},
        {"num_bessel": 1, "hidden_irreps": "1x0e + 1x1o", "mlp_irreps": "1x0e"},
    ],
    ids=str,
)
@pytest.mark.parametrize("combination", [COMBINATIONS[1], COMBINATIONS[4], COMBINATIONS[6]], ids=str)
def test_architectures(changes: dict[str, Any], combination: Any) -> None:
    for forces in (True, False):
        subject = Subject(tiny_model(combination, forces=forces, **changes))
        graph = subject.graph(named.mixed_elements(), named.triclinic(), named.zero_atoms())
        checks.check_orthogonal(subject, graph, checks.orthogonal(5, improper=True), "improper rotation")
        checks.check_isolated_atoms(subject)


def test_scalars_without_directions() -> None:
    facts = {"targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}}
    subject = Subject(tiny_model(max_ell=0, facts=facts, hidden_irreps="4x0e"))
    forces = subject(subject.graph(named.water()))["y_node_vector"]
    assert torch.count_nonzero(forces)


def featured(**changes: Any) -> Structure:
    water = named.water()
    values = {"node_features": np.array([[1.0, 0.0, 0.3], [0.0, 1.0, -0.2], [0.0, 1.0, 0.4]])} | changes
    return Structure(water.atomic_numbers, water.positions, **values)


def test_additional_atom_features() -> None:
    subject = Subject(tiny_model(facts={"node_features": {"kind": ["a", "b"], "charge": None}}))
    one = subject(subject.graph(featured()))
    other = subject(
        subject.graph(featured(node_features=np.array([[1.0, 0.0, 0.3], [0.0, 1.0, -0.2], [0.0, 1.0, 0.9]])))
    )
    assert not torch.allclose(one["y_node_vector"], other["y_node_vector"])
    checks.check_batch_equals_singles(subject, [featured(), featured(node_features=np.ones((3, 3)))])
    empty = Structure(np.zeros(0, int), np.zeros((0, 3)), node_features=np.zeros((0, 3)))
    assert subject(subject.graph(empty))["y_graph_scalars"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("features", [np.zeros((3, 2)), np.zeros((0, 0))])
def test_wrong_number_of_atom_features(features: np.ndarray) -> None:
    """Fewer used to be taken for a model without any, and more ended in a matrix product."""
    subject = Subject(tiny_model(facts={"node_features": {"kind": ["a", "b"], "charge": None}}))
    with pytest.raises(DataError, match=r"model expects 3 additional atom features, the structures have [02]"):
        subject(subject.graph(featured(node_features=features)))


def test_additional_bond_features() -> None:
    """They matter, and vanish at the cutoff with the rest."""
    model = tiny_model(facts={"num_edge_features": 2})
    from macekit.geometry.neighbours import graph_from_structure

    def energy(distance: float, feature: float) -> torch.Tensor:
        pair = named.dimer(distance)
        bonded = Structure(
            pair.atomic_numbers, pair.positions, bonds=np.array([[0, 1]]), bond_features=np.array([[feature, 1.0]])
        )
        return model(graph_from_structure(bonded, named.ELEMENTS, named.CUTOFF, 2))["y_graph_scalars"]

    assert not torch.allclose(energy(1.0, 0.0), energy(1.0, 1.0))
    apart = torch.tensor([[0.5 - 0.75, -13.587 - 2041.8396]], dtype=torch.float64) + torch.tensor([[5.0, -0.6]])
    assert torch.allclose(energy(named.CUTOFF - 1e-3, 5.0), apart.double(), atol=1e-6)
    with pytest.raises(DataError, match="model expects 2 additional bond features, the structures have 0"):
        model(Subject(model).graph(named.water()))


def test_radial_basis() -> None:
    """Values, and two vanishing derivatives of the envelope at the cutoff."""
    r = torch.tensor([0.5, 1.7, 3.1], dtype=torch.float64)
    for n in (1, 4):
        expected = (2 / 3.2) ** 0.5 * torch.sin(n * torch.pi * r / 3.2) / r
        assert torch.allclose(bessel_basis(r, 3.2, 4)[:, n - 1], expected, rtol=1e-13)
    ends = torch.tensor([1e-12, 3.2, 3.3], dtype=torch.float64)
    assert torch.allclose(polynomial_envelope(ends, 3.2, 5), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    near = torch.tensor([3.2 - 1e-9], dtype=torch.float64).requires_grad_()
    value = polynomial_envelope(near, 3.2, 5).sum()
    for _ in range(2):
        (slope,) = torch.autograd.grad(value, near, create_graph=True)
        assert abs(slope.item()) < 1e-6
        value = slope.sum()


def test_norm_of_silu() -> None:
    """By quadrature: 1/√E[SiLU(z)²]."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5
    moment = torch.trapezoid(torch.nn.functional.silu(z) ** 2 * density, z)
    assert float(moment**-0.5) == pytest.approx(SILU_NORM, rel=1e-4)
