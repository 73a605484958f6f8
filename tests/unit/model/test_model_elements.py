"""Some of the elements of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import structures as named
from macekit.data import Structure
from macekit.errors import DataError
from macekit.geometry.neighbours import graph_for
from macekit.model.build import build_model
from macekit.model.selection import with_elements
from macekit.outputs.derivatives import evaluate
from small_facts import facts

SMALL: dict[str, Any] = {
    "hidden_irreps": "4x0e + 4x1o",
    "mlp_irreps": "3x0e",
    "max_ell": 2,
    "correlation": 2,
    "radial_mlp": [6],
    "compute_forces": True,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "radii": {"distance_transform": "agnesi", "pair_repulsion": "zbl", "interaction_first": "density_residual"},
    "own_radii": {
        "pair_repulsion": "zbl",
        "radial_constants": {"covalent_radii": [0.3, 0.7, 0.6, 1.2, 1.3]},
        "num_node_feats": 5,
    },
    "nonlinear": {"interaction_first": "nonlinear_residual", "interaction": "nonlinear_residual"},
    "adapter": {"tuner": "adapter", "name": "adapter_mace_model"},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_bits(option: str, dtype: torch.dtype) -> None:
    choices = SMALL | OPTIONS[option]
    heads = {"a": {}, "b": {"reference_energies": {"energy": [-1.0, -2.0, -3.0, -4.0, -5.0]}}}
    whole = build_model(choices.get("name", "mace_model"), choices, facts(heads=heads), seed=1, dtype=dtype).eval()
    part = with_elements(with_elements(whole, [1, 8, 6]), [8, 1])
    assert part.facts.elements == [1, 8]
    assert part.facts.at_head("b").reference_energies["energy"] == [-1.0, -3.0]
    assert part.config.node_normalisation == 5
    structure: Structure = named.water().with_head("b")
    expected, found = (evaluate(model, graph_for(structure, model.facts)) for model in (whole, part))
    for key, value in expected.items():
        assert torch.equal(found[key].nan_to_num(), value.nan_to_num()), key
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())
    assert with_elements(whole, whole.facts.elements) is whole


def test_additional_features_stay() -> None:
    whole = build_model("mace_model", SMALL, facts(node_features={"spin": ["up", "down"]}), seed=1, dtype=torch.float64)
    part = with_elements(whole, [1, 8])
    assert part.facts.num_node_features == 4
    assert torch.equal(part.backbone.embedding, whole.backbone.embedding[[0, 2, 5, 6]])


def test_elements_that_are_not_there() -> None:
    whole = build_model("mace_model", SMALL, facts())
    with pytest.raises(DataError, match="elements Fe: the model does not know them; it knows H, C, O, Al, Cu"):
        with_elements(whole, [1, 26])
    with pytest.raises(DataError, match="elements: none given; expected at least one"):
        with_elements(whole, [])
