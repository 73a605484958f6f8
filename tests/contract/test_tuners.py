"""Tuners are exact identities when made, hold exactly the parameters they say, and can be trained."""

from __future__ import annotations

import torch

import structures as named
from contract.subject import Subject, assert_same_bits
from macekit.model.groups import decayed_parameters
from macekit.model.tuners import is_tuner_parameter
from models import Combination, perturb_tuner, tiny_model


def check_identity(tuned: Subject, base: Subject) -> None:
    """Bitwise the outputs of the base model of the same seed, in train and eval mode."""
    graph = base.graph(*named.batch_of_everything())
    expected = base(graph)
    for training in (False, True):
        tuned.model.train(training)
        assert_same_bits(tuned(graph), expected, f"tuner as made, {'train' if training else 'eval'} mode")
    tuned.model.eval()


def base_of(combination: Combination) -> Combination:
    return Combination("none", combination.uncertainty)


def test_identity_when_made(combination: Combination, dtype: torch.dtype) -> None:
    for forces in (True, False):
        tuned = Subject(tiny_model(combination, dtype, forces=forces))
        check_identity(tuned, Subject(tiny_model(base_of(combination), dtype, forces=forces)))


def test_tuner_parameters(combination: Combination) -> None:
    """The base model's parameters keep their names, shapes and values; what is new is the tuner's."""
    tuned, base = tiny_model(combination).state_dict(), tiny_model(base_of(combination)).state_dict()
    assert all(torch.equal(tuned[name], value) for name, value in base.items())
    new = tuned.keys() - base.keys()
    assert new == {name for name in tuned if is_tuner_parameter(name)}
    assert bool(new) == (combination.tuner != "none")


def test_tuner_parameter_names() -> None:
    expected = {
        "ssf": {f"backbone.tuners.{i}.{name}" for i in range(2) for name in ("gamma", "beta")},
        "adapter": {
            *(f"backbone.tuners.{i}.{name}" for i in range(2) for name in ("s_before", "s_after")),
            *(
                f"backbone.tuners.{i}.{branch}.{way}.weights.{l}"
                for i, branch, degrees in ((0, "before", (0,)), (1, "before", (0, 1)), (0, "after", (0, 1)))
                for way in ("down", "up")
                for l in degrees
            ),
            *(f"backbone.tuners.1.after.{way}.weights.{l}" for way in ("down", "up") for l in (0, 1)),
        },
    }
    for tuner, names in expected.items():
        model = tiny_model(Combination(tuner, "none"))
        assert {name for name, _ in model.named_parameters() if is_tuner_parameter(name)} == names
    model = tiny_model(Combination("lora", "none"))
    found = {name for name, _ in model.named_parameters() if is_tuner_parameter(name)}
    linears = {name.split(".lora.")[0] for name in found}
    assert linears == {
        f"backbone.layers.{i}.{part}"
        for i in range(2)
        for part in ("interaction.linear_up", "interaction.linear", "product.linear")
    }


def test_every_tuner_parameter_matters(combination: Combination) -> None:
    """Away from the identity every one has a derivative, of the energy and of the forces."""
    model = perturb_tuner(tiny_model(combination))
    subject = Subject(model)
    outputs = subject(subject.graph(named.mixed_elements(), named.water()), training=True)
    loss = sum(value.nan_to_num().square().sum() for value in outputs.values())
    loss.backward()
    for name, parameter in model.named_parameters():
        if is_tuner_parameter(name):
            assert parameter.grad is not None and torch.count_nonzero(parameter.grad), f"{name} has no derivative"
    model.zero_grad(set_to_none=True)


def test_training_can_start_from_the_identity(combination: Combination) -> None:
    """At the identity something of every tuner has a derivative: it is not stuck."""
    model = tiny_model(combination)
    subject = Subject(model)
    outputs = subject(subject.graph(named.mixed_elements()), training=True)
    (outputs["y_node_vector"].square().sum() + outputs["y_graph_scalars"].sum()).backward()
    moving = {n for n, p in model.named_parameters() if is_tuner_parameter(n) and p.grad is not None and p.grad.any()}
    for i in range(2):
        expected = {"ssf": f"tuners.{i}.gamma", "adapter": f"tuners.{i}.after.up", "lora": f"layers.{i}."}
        if combination.tuner != "none":
            assert any(expected[combination.tuner] in name for name in moving)


def test_decayed_parameters(combination: Combination) -> None:
    expected = {f"backbone.layers.{i}.product.weights" for i in range(2)}
    expected |= {f"backbone.layers.{i}.interaction.linear.weights.{l}" for i in range(2) for l in range(3)}
    expected |= {f"backbone.layers.{i}.product.linear.weights.{l}" for i in range(2) for l in range(2)}
    model = tiny_model(combination)
    assert decayed_parameters(model) == expected
    assert expected <= {name for name, _ in model.named_parameters()}
