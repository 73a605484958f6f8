"""Products of pairs of matrices, and their gradients, in pure torch: a part of `kernels.reference`.

The first of a pair is one matrix [A, B], the second one matrix [B, C] or several [S, B, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def chained(one: Tensor, two: Tensor) -> Tensor:
    """The product of a pair, [A, C] or [S, A, C]; differentiable to any order."""
    if two.dim() == 2:
        return one @ two
    return torch.bmm(one.expand(two.shape[0], -1, -1), two)  # where `@` would copy the matrices


def matrix_chains(ones: Sequence[Tensor], twos: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The product of every pair."""
    return tuple(chained(one, two) for one, two in zip(ones, twos, strict=True))


def matrix_chains_backward(
    ones: Sequence[Tensor], twos: Sequence[Tensor], grads: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients by the first matrices of all pairs, then by the second ones.

    Args:
        ones: The first matrices.
        twos: The second ones.
        grads: Gradients by the products.
        wanted: Which are asked for, in the order of the result; others are None.
    """
    count = len(ones)
    found: list[Tensor | None] = [None] * (2 * count)
    for n, (one, two, grad) in enumerate(zip(ones, twos, grads, strict=True)):
        if wanted[n]:
            each = grad @ two.mT
            found[n] = each if two.dim() == 2 else each.sum(0)
        if wanted[count + n]:
            found[count + n] = chained(one.T, grad)
    return found
