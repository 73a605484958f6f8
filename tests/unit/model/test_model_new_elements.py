"""The same model for fewer and for more elements."""

from __future__ import annotations

import pytest
import torch

import structures as named
from contract.subject import Subject
from macekit.model.elements import element_parameters, for_elements, nearest_relative
from macekit.model.mace import Mace
from models import Combination, tiny_model
from tolerances import Tolerance, assert_close

INTERACTIONS = ("agnostic", "agnostic_residual", "nonlinear_residual")


def assert_predicts_the_same(found: Mace, expected: Mace) -> None:
    """On water, which both know; the indices of the elements differ."""
    values = Subject(expected)(Subject(expected).graph(named.water()))
    for name, value in Subject(found)(Subject(found).graph(named.water())).items():
        assert_close(value, values[name], Tolerance.EXACT, name)


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("elements", [[1, 8], [8, 1, 6, 29], [1, 8, 14, 29], [1, 3, 6, 8, 9, 29, 79]])
def test_known_elements_are_as_before(elements: list[int], interaction: str) -> None:
    model = tiny_model(Combination("ssf", "none"), interaction=interaction)
    changed, relatives = for_elements(model, elements)
    assert changed.facts.elements == sorted(elements)
    assert relatives.keys() == set(elements) - {1, 6, 8, 29}
    assert_predicts_the_same(changed, model)
    if len(elements) != 4:
        assert element_parameters(changed) == {
            name for name, value in changed.state_dict().items() if value.shape != model.state_dict()[name].shape
        }


def test_radii_of_imported_models_follow() -> None:
    radii = {"covalent_radii": [0.3, 0.7, 0.6, 1.3]}
    model = tiny_model(distance_transform="agnesi", pair_repulsion="zbl", radial_constants=radii)
    changed, _ = for_elements(model, [1, 8, 14])
    assert changed.config.radial_constants["covalent_radii"] == [0.3, 0.6, 1.11]
    assert_predicts_the_same(changed, model)


def test_additional_features_keep_their_rows() -> None:
    facts = {"node_features": {"site": ["a", "b", "c"]}}
    model = tiny_model(facts=facts)
    changed, _ = for_elements(model, [1, 8, 14])
    assert torch.equal(changed.backbone.embedding, model.backbone.embedding[[0, 2, 1, 4, 5, 6]])


def test_a_new_element_starts_as_its_relative() -> None:
    model = tiny_model()
    changed, relatives = for_elements(model, [1, 8, 16])
    assert relatives == {16: 8}
    for name in element_parameters(changed):
        value = changed.state_dict()[name]
        assert torch.equal(value[2], value[1]), name
        assert torch.equal(value[1], model.state_dict()[name][2]), name
    assert changed.facts.reference_energies["energy"] == [-13.587, -2041.8396, 0.0]


def test_the_same_elements_are_the_same_model() -> None:
    model = tiny_model()
    assert for_elements(model, [29, 1, 8, 6]).model is model


@pytest.mark.parametrize(
    ("number", "relative"),
    [(9, 8), (32, 14), (22, 64), (16, 8), (3, 11), (37, 11), (2, 18), (58, 64), (82, 14), (79, 26)],
)
def test_relatives(number: int, relative: int) -> None:
    assert nearest_relative(number, [1, 6, 8, 11, 14, 18, 26, 64]) == relative
