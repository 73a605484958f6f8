"""Documented names of parts of a model."""

from __future__ import annotations

import re

import pytest

from macekit.errors import ConfigError
from macekit.model.module_names import known_modules, members
from models import Combination, tiny_model


def names(tuner: str = "none") -> list[str]:
    return [name for name, _ in tiny_model(Combination(tuner, "gaussian")).named_parameters()]


@pytest.mark.parametrize("tuner", ["none", "ssf", "adapter"])
def test_parts_of_the_backbone_are_a_partition(tuner: str) -> None:
    """Every parameter of message passing is in exactly one documented part."""
    parts = [name for name in known_modules(names(tuner)) if name.startswith("mace.")]
    found = [name for part in parts for name in members(part, names(tuner), "test").values()]
    assert len(found) == len(set(found))
    assert set(found) == set(members("mace", names(tuner), "test").values())


def test_names_of_all_variants_mean_the_same() -> None:
    for other in ("ssf_mace", "adapter_mace", "backbone"):
        assert members(other, names(), "test") == members("mace", names(), "test")


def test_a_layer_and_all_layers() -> None:
    first, both = (members(f"mace.messages{layer}", names(), "test") for layer in (".0", ""))
    assert first == {"weights": "backbone.layers.0.product.weights"}
    assert both == {f"{i}.weights": f"backbone.layers.{i}.product.weights" for i in range(2)}


def test_heads_and_beginnings() -> None:
    assert set(members("graph_scalars_head", names(), "test").values()) == {
        name for name in names() if name.startswith("heads.graph_scalars.")
    }
    assert set(members("graph_scalars_head_std", names(), "test").values()) == {
        name for name in names() if name.startswith("heads.graph_scalars_std.")
    }
    assert members("backbone.layers.0.interaction.linear", names(), "test").keys() == {
        "weights.0",
        "weights.1",
        "weights.2",
    }
    assert members("backbone.embedding", names(), "test") == {"": "backbone.embedding"}


def test_modules_without_parameters_are_nothing() -> None:
    assert members("mace.radial_embedding", names(), "test") == {}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("mace.interaction", "the model has no module 'mace.interaction'.*\nhint: did you mean 'mace.interactions'?"),
        ("graph_scalar_head", "no module 'graph_scalar_head'.*\nhint: did you mean 'graph_scalars_head'?"),
        ("mace.messages.7", "no module 'mace.messages.7'; it has: mace, mace.node_embedding"),
        ("mace.ssf", "no module 'mace.ssf'"),
        ("backbone.layer", "no module 'backbone.layer'"),
    ],
)
def test_unknown_modules(module: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        members(module, names(), "freeze_modules")
    assert re.search(message, str(caught.value), re.DOTALL)
