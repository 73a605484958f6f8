"""Weights of a file's symmetric contraction as weights of ours, for all orders and degrees of a layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from macekit.errors import ModelFileError
from macekit.interop.mace_torch.projection import NOTHING, CancellingTerms, block_diagonal, project_paths
from macekit.interop.mace_torch.tree import Array
from macekit.kernels.structure import ContractionStructure
from macekit.o3 import SymmetricProduct

Stored = Callable[[SymmetricProduct], tuple[Array, Array, str] | None]
"""For an order and degree: weights [S, paths, K] and coupling tensor [2L+1, D, ..., D, paths] with their place."""


def contraction_weights(
    key: str, stored: Stored, num_features: int, channels: int, num_components: int
) -> dict[str, Array]:
    """Weights of a product basis by our names, without its linear map.

    Args:
        key: Of the structure of the contraction.
        stored: What the file has; None where it has nothing of an order and degree.
        num_features: S, elements and further node features.
        channels: K.
        num_components: D.

    Raises:
        ModelFileError: If a coupling is not in the span of the basis.
        CancellingTerms: If its rounding has terms that this structure is without.
    """
    parts, bases, extra = [], [], []
    structure = ContractionStructure.from_key(key)
    for symmetric in structure.products:  # by order, then degree
        found = stored(symmetric)
        if found is None:
            parts.append(np.zeros((num_features, symmetric.num_functions, channels)))
            bases.append(np.zeros((len(symmetric.outputs), 0)))
            continue
        weight, tensor, where = found
        try:
            projection = project_paths(tensor, symmetric, num_components, where)
        except CancellingTerms:
            if not structure.has_cancelling:
                raise
            raise ModelFileError(
                f"{where}: its coupling of order {symmetric.order} to degree {symmetric.degree} has monomials that "
                "no chain of 3j symbols has"
            ) from None
        parts.append(np.einsum("pf,zpk->zfk", projection.members, weight))
        rounded = np.abs(projection.rounding).max(axis=0, initial=0.0) > NOTHING * np.abs(tensor).max()
        bases.append(projection.rounding[:, rounded])
        extra.append(weight[:, rounded])
    weights = {"product.weights": np.concatenate(parts, axis=1)}
    if any(basis.shape[1] for basis in bases):
        weights["product.rounding_basis"] = block_diagonal(bases)
        weights["product.rounding_weights"] = np.concatenate(extra, axis=1)
    return weights
