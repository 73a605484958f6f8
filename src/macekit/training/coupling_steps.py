"""Steps of the product weights in MACE's basis of coupling trees.

MACE has a weight for each of P coupling trees, which span F < P polynomials; macekit has a weight for each of F
orthonormal polynomials: w = Mᵀ v, with a matrix M [P, F] of orthonormal columns. Initial weights and gradient descent
are the same in both. An optimiser that normalises every gradient, as Adam does, is not: with a weight for each tree it
goes further, and learns faster. So it is given v = M w and the gradient M g, and its step Δv is made as Δw = Mᵀ Δv.
Only w is a parameter of the model; the optimiser's averages are those of the trees.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from macekit.kernels.dispatch import backend_for
from macekit.kernels.structure import ContractionStructure
from macekit.model.product import ProductBasis
from macekit.o3 import tree_matrix

PLAIN: Final = ("SGD", "ASGD")
"""Optimisers whose steps are proportional to the gradient: their steps are the same in both bases."""
LARGEST_ORDER: Final = 3
"""Of higher orders there are so many trees that each function is stepped by itself."""


class Trees(NamedTuple):
    """Weights of a product basis as the optimiser sees them."""

    weights: nn.Parameter
    """w of the model, [S, F, K]."""
    of_trees: nn.Parameter
    """v, [S, P, K]; holds nothing between steps."""
    matrix: Tensor
    """M, [P, F]."""


def tree_matrix_of(product: ProductBasis) -> Tensor:
    """M for all orders and degrees of a product basis, float64 [P, F]."""
    structure = ContractionStructure.from_key(product.key)
    blocks = [
        torch.as_tensor(tree_matrix(structure.max_ell, p.degree, p.order))
        if p.order <= LARGEST_ORDER
        else torch.eye(p.num_functions, dtype=torch.float64)
        for p in structure.products
    ]
    whole: Tensor = torch.block_diag(*blocks)
    return whole


def with_trees(groups: list[dict[str, Any]], model: nn.Module, optimizer: str) -> list[Trees]:
    """Put weights of coupling trees in the place of product weights.

    Args:
        groups: Groups of parameters of the model; changed.
        model: A model, of whose product bases those that are in the groups count.
        optimizer: Name of the optimiser; nothing is changed for one of `PLAIN`.

    Returns:
        What was replaced, for `step_in_trees`.
    """
    products = {id(m.weights): m for m in model.modules() if isinstance(m, ProductBasis)}
    found: list[Trees] = []
    for group in groups if optimizer not in PLAIN else ():
        for place, parameter in enumerate(group["params"]):
            if id(parameter) in products:
                matrix = tree_matrix_of(products[id(parameter)]).to(parameter)
                found.append(Trees(parameter, nn.Parameter(matrix @ parameter.detach()), matrix))
                group["params"][place] = found[-1].of_trees
    return found


def _products(matrices: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
    """Matrices times weights, [P, F] times [S, F, K] each or the transpose."""
    return backend_for(weights[0]).matrix_chains(matrices, weights) if weights else ()


def step_in_trees(optimizer: torch.optim.Optimizer, replaced: list[Trees]) -> None:
    """Have an optimiser take the gradients of product weights, and give back its steps."""
    before: list[Tensor] = []

    @torch.no_grad()
    def give(*_: Any) -> None:
        before[:] = _products([each.matrix for each in replaced], [each.weights for each in replaced])
        for each, start in zip(replaced, before, strict=True):
            each.of_trees.copy_(start)
        given = [each for each in replaced if each.weights.grad is not None]
        gradients = [each.weights.grad for each in given if each.weights.grad is not None]
        for each, of_trees in zip(given, _products([each.matrix for each in given], gradients), strict=True):
            each.of_trees.grad = of_trees

    @torch.no_grad()
    def take(*_: Any) -> None:
        moved = [each.of_trees - start for each, start in zip(replaced, before, strict=True)]
        for each, change in zip(replaced, _products(back, moved), strict=True):
            each.weights.add_(change)
            each.of_trees.grad = None

    back = [each.matrix.T.contiguous() for each in replaced]
    if replaced:
        optimizer.register_step_pre_hook(give)
        optimizer.register_step_post_hook(take)
