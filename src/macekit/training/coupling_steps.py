"""Steps of the product weights that are as long as in MACE's basis of coupling trees.

MACE has a weight for each of P coupling trees, which span F < P polynomials; macekit has a weight for each of F
orthonormal polynomials. The initial weights are distributed alike, and so are the steps of gradient descent. An
optimiser that normalises every gradient, as Adam does, moves each of the P weights by about the learning rate, and
with them every polynomial √(P/F) times as far as a weight of its own moves: 1.7 times for 0e out of degrees 0-3 at
order 3, 2.1 times for 1o. The same factor here makes runs with MACE's settings go as far in as many steps.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from macekit.kernels.structure import ContractionStructure
from macekit.model.product import ProductBasis

PLAIN: Final = ("SGD", "ASGD")
"""Optimisers whose steps are proportional to the gradient: their steps are the same in both bases."""


def step_factors(product: ProductBasis) -> Tensor:
    """√(P/F) of every function of a product basis, float64 [functions, 1]."""
    products = ContractionStructure.from_key(product.key).products
    factors = [torch.full((p.num_functions,), max(p.num_paths, 1), dtype=torch.float64) for p in products]
    counts = [torch.full_like(factor, max(len(factor), 1)) for factor in factors]
    return (torch.cat(factors) / torch.cat(counts)).sqrt()[:, None]


def lengthen_steps(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Have an optimiser make the steps of product weights longer by `step_factors`.

    Args:
        optimizer: Over parameters of the model; nothing is changed where it is one of `PLAIN`.
        model: A model, of whose product bases those that are trained count.
    """
    if type(optimizer).__name__ in PLAIN:
        return
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    products = [m for m in model.modules() if isinstance(m, ProductBasis) and id(m.weights) in trained]
    weights = [product.weights for product in products]
    factors = [step_factors(product).to(product.weights) for product in products]
    before: list[Tensor] = []

    def keep(*_: Any) -> None:
        before[:] = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def lengthen(*_: Any) -> None:
        for weight, start, factor in zip(weights, before, factors, strict=True):
            weight.copy_(torch.lerp(start, weight, factor))

    if products:
        optimizer.register_step_pre_hook(keep)
        optimizer.register_step_post_hook(lengthen)
