"""Product weights are stepped as MACE steps its redundant weights."""

from __future__ import annotations

import copy

import pytest
import torch

from macekit.config import DatasetFacts, ModelConfig, OptimizerConfig
from macekit.model.build import build_model
from macekit.training.coupling_steps import tree_matrix_of
from macekit.training.optimizers import build_optimizer

NAME = "backbone.layers.0.product.weights"
RATE, STEPS = 0.003, 7
PLAIN = {"weight_decay": 0.0, "eps": 1e-16}


@pytest.fixture
def model():
    config = ModelConfig(hidden_irreps="4x0e + 4x1o", mlp_irreps="4x0e", radial_mlp=[8])
    return build_model("mace_model", config, DatasetFacts(elements=[1, 8]), dtype=torch.float64)


def stepped(model, name: str, **options) -> dict[str, torch.Tensor]:
    """All parameters after some steps with gradients that depend on the weights."""
    subject = copy.deepcopy(model)
    optimizer = build_optimizer(OptimizerConfig(name=name, config={"lr": RATE, **options}), subject)
    for _ in range(STEPS):
        for parameter in subject.parameters():
            parameter.grad = torch.sin(5.0 * parameter.detach())
        optimizer.step()
    return {key: parameter.detach() for key, parameter in subject.named_parameters()}


def test_trees_are_as_many_as_in_mace_and_span_what_we_have(model):
    matrix = tree_matrix_of(model.backbone.layers[0].product)
    assert matrix.shape == (1 + 1 + 4 + 6 + 23 + 51, 1 + 1 + 4 + 3 + 8 + 12)  # by order, 0e and 1o each
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(29, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RMSprop"])
def test_product_weights_are_stepped_as_weights_of_trees(model, name):
    found = stepped(model, name, **PLAIN)
    matrix = tree_matrix_of(model.backbone.layers[0].product)
    for key in found:
        start = model.get_parameter(key).detach()
        basis = matrix if key == NAME else None
        if ".product.weights" in key and basis is None:
            continue
        parameter = torch.nn.Parameter(start.clone() if basis is None else basis @ start)
        plain = getattr(torch.optim, name)([parameter], lr=RATE, **PLAIN)
        for _ in range(STEPS):
            weights = parameter.detach() if basis is None else basis.T @ parameter.detach()
            gradient = torch.sin(5.0 * weights)
            parameter.grad = gradient if basis is None else basis @ gradient
            plain.step()
        expected = parameter.detach() if basis is None else basis.T @ parameter.detach()
        torch.testing.assert_close(found[key], expected, rtol=1e-9, atol=1e-11, msg=key)


def test_rows_without_a_gradient_stay_bit_by_bit(model):
    optimizer = build_optimizer(OptimizerConfig(config={"lr": RATE, "weight_decay": 0.0}), model)
    weights = model.get_parameter(NAME)
    before = weights.detach().clone()
    for _ in range(3):
        weights.grad = torch.ones_like(weights)
        weights.grad[0] = 0.0
        optimizer.step()
    assert torch.equal(weights[0], before[0])
    assert not torch.equal(weights[1], before[1])


def test_gradient_descent_is_the_same_in_both_bases(model):
    found = stepped(model, "SGD")
    weight = model.get_parameter(NAME).detach().clone()
    for _ in range(STEPS):
        weight -= RATE * torch.sin(5.0 * weight)
    torch.testing.assert_close(found[NAME], weight, rtol=1e-12, atol=1e-14)


def test_frozen_product_weights_stay(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))
    before = model.get_parameter(NAME).detach().clone()
    optimizer = build_optimizer(OptimizerConfig(), model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(model.get_parameter(NAME), before)
