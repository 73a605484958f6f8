"""Distances and spherical harmonics of edges in C++; see `kernels.reference_harmonics`, which defines them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from macekit.kernels import _core, reference_harmonics
from macekit.kernels.cpu_arguments import LARGEST_DEGREE, how_to_run, plain
from macekit.o3.spherical_harmonics import raising_terms

MEASURE, PULL, PUSH = range(3)
WORK_PER_EDGE = 2000
"""Multiplications that take as long as an edge, for `how_to_run`; measured at max_ell 3."""


def edge_harmonics(vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Harmonics [E, (max_ell + 1)²] and distances, float64 [E]."""
    if max_ell > LARGEST_DEGREE:
        return reference_harmonics.edge_harmonics(vectors, shortest, max_ell, dtype)
    harmonics, lengths = _empty(vectors, max_ell, dtype)
    _run(MEASURE, vectors, shortest, max_ell, (0, lengths.data_ptr(), harmonics.data_ptr()), dtype)
    return harmonics, lengths


def edge_harmonics_backward(
    to_harmonics: Tensor, to_lengths: Tensor, vectors: Tensor, shortest: float, max_ell: int
) -> Tensor:
    """Gradients by the vectors out of those by harmonics and distances, float64 [E, 3]."""
    if max_ell > LARGEST_DEGREE:
        return reference_harmonics.edge_harmonics_backward(to_harmonics, to_lengths, vectors, shortest, max_ell)
    edges, dtype = vectors.shape[0], to_harmonics.dtype
    to_harmonics = plain("to_harmonics", to_harmonics, (edges, (max_ell + 1) ** 2), dtype)
    to_lengths = plain("to_lengths", to_lengths, (edges,), torch.float64)
    found = vectors.new_empty(vectors.shape)
    given = found.data_ptr(), to_lengths.data_ptr(), to_harmonics.data_ptr()
    _run(PULL, vectors, shortest, max_ell, given, dtype)
    return found


def edge_harmonics_tangent(
    tangent_vectors: Tensor, vectors: Tensor, shortest: float, max_ell: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Tangents of harmonics and distances out of those of the vectors."""
    if max_ell > LARGEST_DEGREE:
        return reference_harmonics.edge_harmonics_tangent(tangent_vectors, vectors, shortest, max_ell, dtype)
    tangent_vectors = plain("tangent_vectors", tangent_vectors, tuple(vectors.shape), torch.float64)
    harmonics, lengths = _empty(vectors, max_ell, dtype)
    given = tangent_vectors.data_ptr(), lengths.data_ptr(), harmonics.data_ptr()
    _run(PUSH, vectors, shortest, max_ell, given, dtype)
    return harmonics, lengths


def _empty(vectors: Tensor, max_ell: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    edges = vectors.shape[0]
    return torch.empty(edges, (max_ell + 1) ** 2, dtype=dtype), torch.empty(edges, dtype=torch.float64)


def _run(
    which: int, vectors: Tensor, shortest: float, max_ell: int, addresses: tuple[int, int, int], dtype: torch.dtype
) -> None:
    edges = vectors.shape[0]
    vectors = plain("vectors", vectors, (edges, 3), torch.float64)
    run = how_to_run(dtype, WORK_PER_EDGE * edges)
    _core.edge_harmonics(_recursion(max_ell), run, which, edges, vectors.data_ptr(), shortest, addresses)


@cache
def _recursion(max_ell: int) -> _core.HarmonicTable:
    """How every harmonic is made of those before it, as `o3.spherical_harmonics` does."""
    terms = raising_terms(max_ell)
    return _core.HarmonicTable(max_ell, [term[:3] for term in terms], [term.factor for term in terms])
