"""Distances and spherical harmonics of edges, of which training needs two products with their Jacobian and no more.

Forces are the gradients of harmonics and distances pulled back to the vectors; what training differentiates them by are
those gradients, which takes the tangents of harmonics and distances along a change of the vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from macekit.kernels import reference_harmonics, sweeps
from macekit.kernels.dispatch import backend_for


def measured(vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Harmonics of the directions and lengths.

    Args:
        vectors: Of edges, float64 [E, 3], Å.
        shortest: Edges shorter than this are treated as this long, Å.
        max_ell: Highest degree.
        dtype: Precision of the harmonics.

    Returns:
        [E, (max_ell + 1)²] and float64 [E], Å. Differentiable to any order, unless training is scheduled: then once by
        the vectors, and the result by what it was made of.
    """
    if not sweeps.is_scheduled():
        return reference_harmonics.edge_harmonics(vectors, shortest, max_ell, dtype)
    found: tuple[Tensor, Tensor] = _Measured.apply(vectors, shortest, max_ell, dtype)  # type: ignore[no-untyped-call]
    return found


class _Measured(torch.autograd.Function):
    """Harmonics and lengths of vectors."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(vectors)
        ctx.rest = shortest, max_ell
        return backend_for(vectors).edge_harmonics(vectors, shortest, max_ell, dtype)

    @staticmethod
    def backward(ctx: Any, to_harmonics: Tensor, to_lengths: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not sweeps.current().geometry:
            return None, None, None, None
        (vectors,) = ctx.saved_tensors
        to_vectors: Tensor = _Pulled.apply(to_harmonics, to_lengths, vectors, *ctx.rest)  # type: ignore[no-untyped-call]
        return to_vectors, None, None, None


class _Pulled(torch.autograd.Function):
    """The gradient by the vectors."""

    @staticmethod
    def forward(
        ctx: Any, to_harmonics: Tensor, to_lengths: Tensor, vectors: Tensor, shortest: float, max_ell: int
    ) -> Tensor:
        ctx.save_for_backward(vectors)
        ctx.rest = shortest, max_ell, to_harmonics.dtype
        return backend_for(vectors).edge_harmonics_backward(to_harmonics, to_lengths, vectors, shortest, max_ell)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tangent_vectors: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (vectors,) = ctx.saved_tensors
        moved = backend_for(vectors).edge_harmonics_tangent(tangent_vectors, vectors, *ctx.rest)
        return *moved, None, None, None
