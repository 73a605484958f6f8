"""Product weights move as far as MACE's redundant weights would move them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from macekit.config import DatasetFacts, ModelConfig, OptimizerConfig
from macekit.model.build import build_model
from macekit.training.coupling_steps import step_factors
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


def test_factors_are_those_of_the_numbers_of_trees_and_polynomials(model):
    factors = step_factors(model.backbone.layers[0].product)
    counts = [(1, 1), (1, 1), (4, 4), (6, 3), (23, 8), (51, 12)]  # by order, 0e and 1o each
    expected = np.concatenate([np.full(functions, np.sqrt(trees / functions)) for trees, functions in counts])
    np.testing.assert_allclose(factors.squeeze(1).numpy(), expected, rtol=1e-15)


def test_a_step_is_as_long_as_in_a_basis_of_so_many_trees():
    """Any P × F matrix with orthonormal columns stands for the trees: steps of P signs, seen by F polynomials."""
    generator = np.random.default_rng(0)
    for trees, functions in ((23, 8), (51, 12)):
        basis = np.linalg.qr(generator.normal(size=(trees, functions)))[0]
        gradients = generator.normal(size=(2000, functions))
        lengths = np.linalg.norm(np.sign(gradients @ basis.T) @ basis, axis=1) / np.sqrt(functions)
        assert lengths.mean() == pytest.approx(np.sqrt(trees / functions), rel=0.2)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RMSprop"])
def test_only_product_weights_take_longer_steps(model, name):
    found = stepped(model, name, **PLAIN)
    factors = step_factors(model.backbone.layers[0].product)
    stretched = copy.deepcopy(model).get_parameter(NAME).detach() / factors  # trained as they are, multiplied later
    parameter = torch.nn.Parameter(stretched.clone())
    plain = getattr(torch.optim, name)([parameter], lr=RATE, **PLAIN)
    for _ in range(STEPS):
        parameter.grad = factors * torch.sin(5.0 * factors * parameter.detach())
        plain.step()
    torch.testing.assert_close(found[NAME], factors * parameter.detach(), rtol=1e-10, atol=1e-12)
    others = [key for key in found if ".product.weights" not in key]
    for key in others:
        parameter = torch.nn.Parameter(model.get_parameter(key).detach().clone())
        plain = getattr(torch.optim, name)([parameter], lr=RATE, **PLAIN)
        for _ in range(STEPS):
            parameter.grad = torch.sin(5.0 * parameter.detach())
            plain.step()
        torch.testing.assert_close(found[key], parameter.detach(), rtol=1e-12, atol=1e-14, msg=key)


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
