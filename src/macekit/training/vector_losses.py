"""Losses of vectors that look at a whole vector, as in mace-torch: Huber and squares by the size of a force, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

THRESHOLDS: Final = (100.0, 200.0, 300.0)
"""eV/Å; sizes of the label from which a force weighs less."""
FACTORS: Final = (1.0, 0.7, 0.4, 0.1)
"""Of δ or of the squared error, below the first threshold, between them, and above the last."""


class _Conditional(nn.Module):
    """A loss whose factor depends on the size of the labelled vector.

    Args:
        reduction: "none".
        thresholds: Sizes at which the factor changes, ascending.
        factors: One more than thresholds.
    """

    thresholds: Tensor
    factors: Tensor

    def __init__(
        self,
        reduction: str = "none",
        thresholds: Sequence[float] = THRESHOLDS,
        factors: Sequence[float] = FACTORS,
    ) -> None:
        super().__init__()
        if len(factors) != len(thresholds) + 1 or list(thresholds) != sorted(thresholds):
            raise ValueError(f"expected ascending thresholds and one factor more, got {thresholds} and {factors}")
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float64), persistent=False)

    def factor(self, label: Tensor) -> Tensor:
        """Factor of every row of the labels, [n, 1]."""
        sizes = torch.linalg.vector_norm(label, dim=1)
        return self.factors[torch.bucketize(sizes, self.thresholds, right=True)][:, None]


class ConditionalHuberLoss(_Conditional):
    """Huber's loss with δ times the factor: of the forces in mace-torch's `universal`.

    Args:
        reduction: "none".
        delta: δ for small forces, eV/Å.
        thresholds: Sizes of the label at which the factor of δ changes, eV/Å.
        factors: One more than thresholds.
    """

    def __init__(
        self,
        reduction: str = "none",
        delta: float = 0.01,
        thresholds: Sequence[float] = THRESHOLDS,
        factors: Sequence[float] = FACTORS,
    ) -> None:
        super().__init__(reduction, thresholds, factors)
        if not delta > 0:
            raise ValueError(f"delta: expected a number above 0, got {delta}")
        self.delta = delta

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Loss of every component, [n, 3]."""
        delta = self.delta * self.factor(label)
        error = (prediction - label).abs()
        return torch.where(error < delta, 0.5 * error.square(), delta * (error - 0.5 * delta))


class ConditionalMSELoss(_Conditional):
    """Squared errors times the factor."""

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Loss of every component, [n, 3]."""
        return (prediction - label).square() * self.factor(label)


class L2NormLoss(nn.Module):
    """Length of the error of every vector, not squared: of the forces in mace-torch's `l1l2energyforces`.

    Args:
        reduction: "none".
    """

    def __init__(self, reduction: str = "none") -> None:
        super().__init__()

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Loss of every vector, [n, 1]."""
        length: Tensor = torch.linalg.vector_norm(prediction - label, dim=1, keepdim=True)
        return length


VECTOR_LOSSES: Final[dict[str, type[nn.Module]]] = {
    "ConditionalHuberLoss": ConditionalHuberLoss,
    "ConditionalMSELoss": ConditionalMSELoss,
    "L2NormLoss": L2NormLoss,
}
"""By name; for vectors and the stress."""
