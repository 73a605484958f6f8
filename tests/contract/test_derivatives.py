"""Forces and stress against differences of energies; derivatives by the weights against differences of both."""

from __future__ import annotations

import pytest
import torch

import structures as named
from contract import derivative_checks as checks
from contract.subject import Subject


@pytest.mark.parametrize("name", [*named.MOLECULES, "triclinic", "slab", "wire", "primitive_copper"])
def test_forces(double: Subject, name: str) -> None:
    checks.check_forces(double, (named.MOLECULES | named.PERIODIC)[name]())


@pytest.mark.parametrize("name", list(named.PERIODIC))
def test_stress(double: Subject, name: str) -> None:
    checks.check_stress(double, named.PERIODIC[name]())


def test_conservative(double: Subject) -> None:
    checks.check_conservative(double, named.mixed_elements())


def test_weights(double: Subject) -> None:
    checks.check_weight_derivatives(double, [named.water(), named.triclinic(), named.slab()])


def test_stress_where_there_is_none(subject: Subject) -> None:
    stress = subject(subject.graph(named.water(), named.middle_wire(), named.triclinic()))["stress"]
    assert bool(stress[:2].isnan().all())
    assert bool(stress[2].isfinite().all())


def test_derivatives_only_where_asked_for(subject: Subject) -> None:
    graph = subject.graph(named.triclinic())
    everything = subject(graph)
    assert "y_node_vector" not in subject(graph, forces=False)
    assert "stress" not in subject(graph, stress=False)
    assert torch.equal(subject(graph, stress=False)["y_node_vector"], everything["y_node_vector"])
    assert torch.equal(subject(graph, forces=False)["stress"], everything["stress"])
