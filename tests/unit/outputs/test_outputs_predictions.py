"""Derivatives and predictions by the targets' own names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import structures as named
from contract.subject import Subject
from macekit.errors import ConfigError, DataError, UsageError
from macekit.outputs.derivatives import evaluate
from macekit.outputs.predictions import predict, target_kinds
from models import Combination, facts_of, tiny_model


@pytest.mark.parametrize(("batch_edges", "batch_structures"), [(50_000, 256), (1, 256), (50_000, 1), (60, 3)])
def test_predictions_by_name(batch_edges: int, batch_structures: int) -> None:
    model = tiny_model(Combination("none", "gaussian"))
    structures = named.batch_of_everything()
    found = predict(model, structures, batch_edges=batch_edges, batch_structures=batch_structures)
    count = len(structures)
    assert found.keys() == {
        *("gap", "energy", "gap::std", "energy::std", "dipole", "charges", "shielding", "forces", "stress"),
    }
    assert found.keys() == target_kinds(model).keys()
    for name, shape in {
        "gap": (count,),
        "energy::std": (count,),
        "dipole": (count, 3),
        "stress": (count, 3, 3),
    }.items():
        assert found[name].shape == shape and found[name].dtype == np.float64
    for name, tail in {"charges": (), "shielding": (), "forces": (3,)}.items():
        assert isinstance(found[name], list)
        assert [value.shape for value in found[name]] == [(s.num_atoms, *tail) for s in structures]
    subject = Subject(model)
    for k, structure in enumerate(structures):
        alone = subject(subject.graph(structure))
        np.testing.assert_allclose(found["gap"][k], alone["y_graph_scalars"][0, 0], rtol=1e-12)
        np.testing.assert_allclose(found["energy"][k], alone["y_graph_scalars"][0, 1], rtol=1e-12)
        np.testing.assert_allclose(found["energy::std"][k], alone["y_graph_scalars::std"][0, 1], rtol=1e-12)
        np.testing.assert_allclose(found["shielding"][k], alone["y_node_scalars"][:, 1], rtol=1e-10)
        np.testing.assert_allclose(found["forces"][k], alone["y_node_vector"], atol=1e-10)
        np.testing.assert_allclose(found["stress"][k], alone["stress"][0], atol=1e-12)


def test_no_structures() -> None:
    found = predict(tiny_model(), [])
    assert found["energy"].shape == (0,)
    assert found["dipole"].shape == (0, 3)
    assert found["stress"].shape == (0, 3, 3)
    assert found["forces"] == []


def test_unknown_element_is_named() -> None:
    with pytest.raises(DataError, match="model knows H, C, O, Cu; structure has Au"):
        predict(tiny_model(), [named.structure([79], [[0, 0, 0]])])


def test_derivatives_in_inference_mode_are_not_zero() -> None:
    """A caller's inference mode switches gradients off; forces and stress must not silently be zero."""
    subject = Subject(tiny_model())
    expected = subject(subject.graph(named.triclinic()))
    with torch.inference_mode():
        found = subject(subject.graph(named.triclinic()))  # the graph itself is made of inference tensors
    assert torch.count_nonzero(found["y_node_vector"])
    for name in ("y_node_vector", "stress"):
        assert torch.equal(found[name], expected[name])


def test_derivatives_without_an_energy() -> None:
    targets = {"y_graph_scalars": [], "y_node_scalars": ["charges"]}
    model = tiny_model(forces=False, facts={"targets": targets})
    graph = Subject(model).graph(named.water())
    assert evaluate(model, graph).keys() == {"y_node_scalars"}
    for asked in ({"forces": True}, {"stress": True}):
        with pytest.raises(UsageError, match="derivatives of the energy; this model has no graph scalar, only charges"):
            evaluate(model, graph, **asked)


def test_stress_target_without_an_energy_is_refused() -> None:
    targets = {"y_graph_scalars": [], "y_node_scalars": ["charges"], "stress": "stress"}
    with pytest.raises(ConfigError, match=r"stress: 'stress' given, but data.targets.y_graph_scalars names no energy"):
        tiny_model(forces=False, facts={"targets": targets})


def test_forces_of_the_energy_whatever_its_column() -> None:
    for names in (["energy", "gap"], ["gap", "energy"]):
        model = tiny_model(facts={"targets": facts_of()["targets"] | {"y_graph_scalars": names}})
        graph = Subject(model).graph(named.mixed_elements())
        positions = graph.positions.clone().requires_grad_()
        energy = model(graph._replace(positions=positions))["y_graph_scalars"][:, names.index("energy")]
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        assert torch.equal(evaluate(model, graph, stress=False)["y_node_vector"], -gradient)


def test_forces_on_request_from_a_model_without_them() -> None:
    model = tiny_model(forces=False)
    graph = Subject(model).graph(named.triclinic())
    direct, derived = evaluate(model, graph), evaluate(model, graph, forces=True, stress=True)
    assert not torch.allclose(direct["y_node_vector"], derived["y_node_vector"])
    assert "stress" not in direct and "stress" in derived
