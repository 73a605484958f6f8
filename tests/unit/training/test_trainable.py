"""Fine-tuning trains exactly what it says."""

from __future__ import annotations

import pytest
import torch

import structures as named
from contract.subject import Subject
from macekit.config import OptimizerConfig
from macekit.errors import ConfigError
from macekit.model.elements import element_parameters
from macekit.model.groups import decayed_parameters
from macekit.model.mace import Mace
from macekit.training.optimizers import build_optimizer
from macekit.training.trainable import (
    mask_gradients,
    num_trainable,
    set_trainable,
    trainable_parameters,
    trainable_report,
)
from models import Combination, tiny_model

SSF = {f"backbone.tuners.{i}.{name}" for i in range(2) for name in ("gamma", "beta")}
ADAPTERS = {f"backbone.tuners.{i}.{name}" for i in range(2) for name in ("s_before", "s_after")} | {
    f"backbone.tuners.{i}.{branch}.{way}.weights.{l}"
    for i, branch, degrees in ((0, "before", (0,)), (1, "before", (0, 1)), (0, "after", (0, 1)), (1, "after", (0, 1)))
    for way in ("down", "up")
    for l in degrees
}
LORA = {
    f"backbone.layers.{i}.{part}.lora.{way}_{l}"
    for i, part, degrees in (
        (0, "interaction.linear_up", (0,)), (1, "interaction.linear_up", (0, 1)),
        (0, "interaction.linear", (0, 1, 2)), (1, "interaction.linear", (0, 1, 2)),
        (0, "product.linear", (0, 1)), (1, "product.linear", (0, 1)),
    )
    for way in ("down", "up")
    for l in degrees
}  # fmt: skip
HEADS = {
    *(f"heads.{head}.readouts.readouts.{part}.weight" for head in ("graph_scalars", "node_scalars")
      for part in ("0", "1.linear_1", "1.linear_2")),
    *(f"heads.graph_vector.readouts.{part}.weight" for part in ("linear.0", "gated.vectors", "gated.gates",
      "gated.linear")),
}  # fmt: skip


def model_of(choice: str) -> Mace:
    return tiny_model(Combination(choice if choice in ("ssf", "adapter", "lora") else "none", "none"))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("ssf", SSF | HEADS), ("adapter", ADAPTERS | HEADS), ("lora", LORA | HEADS), ("heads", HEADS)],
)
def test_the_set_is_exactly_this(choice: str, expected: set[str]) -> None:
    model = model_of(choice)
    found = trainable_parameters(model, choice)
    assert found == expected
    set_trainable(model, found)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == expected
    assert num_trainable(model) == sum(p.numel() for name, p in model.named_parameters() if name in expected)


@pytest.mark.parametrize("choice", ["full", None])
def test_everything(choice: str | None) -> None:
    model = model_of("ssf")
    assert trainable_parameters(model, choice) == {name for name, _ in model.named_parameters()}


def test_frozen_modules_are_left_out() -> None:
    model = model_of("ssf")
    assert trainable_parameters(model, "ssf", ["graph_scalars_head", "mace.ssf.0"]) == {
        name for name in SSF | HEADS if "graph_scalars" not in name and "tuners.0" not in name
    }
    with pytest.raises(ConfigError, match="freeze_modules: mace, heads: nothing is left to train"):
        trainable_parameters(model, "ssf", ["mace", "heads"])
    with pytest.raises(ConfigError, match="freeze_modules: the model has no module 'egnn'"):
        trainable_parameters(model, None, ["egnn"])


def test_only_rows_of_new_elements_move() -> None:
    model = model_of("heads")
    set_trainable(model, trainable_parameters(model, "heads"), new_rows=[1])
    partial = set(element_parameters(model))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == partial | HEADS
    assert not decayed_parameters(model) & partial
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(OptimizerConfig(name="AdamW", config={"lr": 0.1, "weight_decay": 0.5}), model)
    subject = Subject(model)
    outputs = subject(subject.graph(named.mixed_elements(), named.methane()), training=True)
    sum(outputs[name].square().sum() for name in ("y_graph_scalars", "y_node_vector", "y_graph_vector")).backward()
    mask_gradients(model.parameters())
    optimizer.step()
    others = [0, 2, 3]
    for name in partial:
        after = model.state_dict()[name]
        assert torch.equal(after[others], before[name][others]), name
        assert not torch.equal(after[1], before[name][1]), name
    assert num_trainable(model) == sum(before[name][1].numel() for name in partial) + sum(
        before[name].numel() for name in HEADS
    )
    assert "rows of new elements" in trainable_report(model)


def test_the_report_counts() -> None:
    model = model_of("ssf")
    set_trainable(model, trainable_parameters(model, "ssf", ["graph_vector_head", "node_scalars_head"]))
    total = sum(parameter.numel() for parameter in model.parameters())
    share = f"{5600 / total:.2g}"
    assert trainable_report(model) == (
        f"trained: 56 of {total:,} parameters ({share} %): tuner 24, heads.graph_scalars 32"
    )
