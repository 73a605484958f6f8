from __future__ import annotations

import pytest
import torch

from macekit.config import DatasetFacts, ModelConfig, OptimizerConfig, SchedulerConfig
from macekit.errors import ConfigError
from macekit.model.build import build_model
from macekit.model.groups import decayed_parameters, intent_of
from macekit.training.optimizers import (
    OPTIMIZERS,
    SCHEDULERS,
    build_optimizer,
    build_scheduler,
    parameter_groups,
)

NEEDED = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 2]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": "num_epochs"},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01, "cycle_momentum": False},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "OneCycleLR": {"max_lr": 0.01, "total_steps": "num_steps"},
}


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(hidden_irreps="4x0e + 4x1o", max_ell=1, correlation=2, mlp_irreps="4x0e", radial_mlp=[8])
    return build_model("mace_model", config, DatasetFacts(elements=[1, 8]))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimiser_steps_and_takes_no_decay_outside_its_group(name, model):
    optimizer = build_optimizer(OptimizerConfig(name=name, config={"lr": 0.001}), model)
    assert len(optimizer.param_groups) == 2
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert not optimizer.param_groups[1].get("weight_decay")


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_is_built_from_plain_numbers(name, model):
    optimizer = build_optimizer(OptimizerConfig(), model)
    config = SchedulerConfig(name=name, config=NEEDED.get(name, {}))
    before = config.model_dump()
    scheduler = build_scheduler(config, optimizer, num_epochs=5, num_steps=20)
    assert config.model_dump() == before
    if name == "CosineAnnealingLR":
        assert scheduler.T_max == 5
    if name == "OneCycleLR":
        assert scheduler.total_steps == 20


def test_groups_are_a_partition_of_what_is_trainable(model):
    decayed = decayed_parameters(model)
    names = dict(model.named_parameters())
    frozen = sorted(decayed)[0]
    names[frozen].requires_grad_(False)
    try:
        with_decay, without = parameter_groups(model, 0.1)
    finally:
        names[frozen].requires_grad_(True)
    assert {id(p) for p in with_decay["params"]} == {id(names[name]) for name in decayed - {frozen}}
    assert {id(p) for p in without["params"]} == {id(p) for name, p in names.items() if name not in decayed}


def test_every_parameter_of_every_variant_is_in_one_group():
    expected = {"embeddings", "interactions", "products", "readouts"}
    for name in ("mace_model", "mean_var_mace_model", "ssf_mace_model", "adapter_mace_model"):
        config = ModelConfig(name=name, hidden_irreps="4x0e + 4x1o", max_ell=1, correlation=2, radial_mlp=[8])
        groups = {
            intent_of(key) for key, _ in build_model(name, config, DatasetFacts(elements=[1, 8])).named_parameters()
        }
        assert groups == (expected | {"tuners"} if name.startswith(("ssf", "adapter")) else expected)
    with pytest.raises(AssertionError, match="the parameter nonsense is in no group"):
        intent_of("nonsense")


def test_groups_by_intent_have_arguments_of_their_own(model):
    groups = {"readouts": {"lr": 0.002, "weight_decay": 0.3}, "products": {"lr": 0.005}}
    optimizer = build_optimizer(OptimizerConfig(config={"lr": 0.01, "weight_decay": 0.1}, groups=groups), model)
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = (group["lr"], group["weight_decay"])
    decayed = decayed_parameters(model)
    for name, parameter in model.named_parameters():
        decay = 0.1 if name in decayed else 0.0
        expected = {"readouts": (0.002, 0.3), "products": (0.005, decay)}.get(intent_of(name), (0.01, decay))
        if name.endswith(".product.weights"):  # stepped as weights of coupling trees
            assert id(parameter) not in found
            continue
        assert found.pop(id(parameter)) == expected, name
    assert list(found.values()) == [(0.005, 0.1)] * 2  # of both layers


def test_fused_or_multi_tensor_forms_are_used(model):
    assert build_optimizer(OptimizerConfig(), model).defaults["fused"]
    assert build_optimizer(OptimizerConfig(name="NAdam", config={}), model).defaults["foreach"]
    plain = build_optimizer(OptimizerConfig(config={"lr": 0.1, "foreach": False}), model)
    assert not plain.defaults["fused"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "adam"}, "unknown optimiser 'adam'.*\nhint: did you mean 'Adam'"),
        ({"name": "AdmW"}, "unknown optimiser 'AdmW'.*\nhint: did you mean 'AdamW'"),
        ({"name": "LBFGS"}, "LBFGS cannot train here: it needs a closure"),
        ({"config": {"learning_rate": 1}}, "config.learning_rate: unknown argument of Adam"),
        ({"groups": {"readouts": {"rate": 1}}}, "groups.readouts.rate: unknown argument of Adam"),
        ({"groups": {"tuners": {"lr": 1}}}, "groups.tuners: nothing to train is in it; there are embeddings, interac"),
        ({"config": {"lr": -1.0}}, "Adam refuses .*Invalid learning rate"),
    ],
)
def test_optimiser_messages(config, message, model):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        build_optimizer(OptimizerConfig(**config), model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "CosineLR"}, "unknown scheduler 'CosineLR'; known: StepLR"),
        ({"name": "LambdaLR"}, "LambdaLR needs functions or other schedulers"),
        ({"config": {"patiance": 1}}, "patiance: unknown argument .*\nhint: did you mean 'patience'"),
        ({"interval": "step"}, "ReduceLROnPlateau watches a metric of an epoch; use interval: epoch"),
        ({"name": "StepLR", "config": {}}, "StepLR refuses {}: .*step_size"),
        ({"config": {"factor": 2.0}}, "ReduceLROnPlateau refuses .*Factor should be"),
    ],
)
def test_scheduler_messages(config, message, model):
    optimizer = build_optimizer(OptimizerConfig(), model)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        build_scheduler(SchedulerConfig(**config), optimizer, num_epochs=5, num_steps=20)


def test_a_frozen_model_is_refused(model):
    frozen = [parameter.requires_grad_(False) for parameter in model.parameters()]
    try:
        with pytest.raises(ConfigError, match="every parameter of the model is frozen"):
            build_optimizer(OptimizerConfig(), model)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
