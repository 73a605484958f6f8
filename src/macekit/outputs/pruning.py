"""What a folded model can do without: numbers that training has driven to nothing, and degrees that depend on them.

Weight decay halves a weight that no gradient holds again and again. MACE-MP-0 small, for one, mixes the messages of
l = 1, 2, 3 of its second layer with weights of 1e-119, so that its atomic basis is made of scalars.
"""

from __future__ import annotations

import numpy as np
import torch

from macekit.kernels.engine import engine_paths
from macekit.kernels.folded import FloatArray, FoldedLayer, FoldedModel, Map
from macekit.kernels.structure import ConvolutionStructure

NEGLIGIBLE = {torch.float32: 2.0**-126, torch.float64: 1e-100}
"""Numbers below are left out: what float32 keeps as denormal numbers or not at all, and what no float64 result sees."""
LARGEST = 1e20
"""A model with a larger number keeps its small ones, which it could multiply."""


def pruned(model: FoldedModel, dtype: torch.dtype) -> FoldedModel:
    """The same model without negligible numbers, and with the degrees that its layers need.

    Args:
        model: Folded model.
        dtype: Precision of the engine.
    """
    if max(_largest(layer) for layer in model.layers) > LARGEST:
        return model
    least = NEGLIGIBLE[dtype]
    layers = [_with_degrees(_without_small(layer, least)) for layer in model.layers]
    moments = model.moments
    if moments is not None:
        highest = ConvolutionStructure.from_key(layers[0].convolution).max_ell
        matrices = [_flushed(matrix, least) for matrix in moments.matrices[: highest + 1]]
        moments = moments._replace(table=_flushed(moments.table, least), matrices=matrices)
    return model._replace(layers=layers, moments=moments)


def _largest(layer: FoldedLayer) -> float:
    arrays = [layer.table, layer.constant, layer.coefficients, *layer.mixing.values()]
    return max(float(np.abs(array).max(initial=0.0)) for array in [*arrays, *(each.matrices for each in layer.sources)])


def _flushed(array: FloatArray, least: float) -> FloatArray:
    return np.where(np.abs(array) < least, 0.0, array)


def _without_small(layer: FoldedLayer, least: float) -> FoldedLayer:
    """Small numbers as zeros, and no terms that are zero for all elements and channels."""
    coefficients = _flushed(layer.coefficients, least)
    mixing = {l: _flushed(matrix, least) for l, matrix in layer.mixing.items()}
    dead = {component for l, matrix in mixing.items() if not matrix.any() for component in range(l * l, (l + 1) ** 2)}
    kept = [
        n for n, (_, *factors) in enumerate(layer.monomials) if coefficients[:, n].any() and dead.isdisjoint(factors)
    ]
    return layer._replace(
        table=_flushed(layer.table, least),
        constant=_flushed(layer.constant, least),
        sources=[Map(s.layer, s.degree, _flushed(s.matrices, least)) for s in layer.sources],
        mixing=mixing,
        monomials=[layer.monomials[n] for n in kept],
        coefficients=coefficients[:, kept],
    )


def _with_degrees(layer: FoldedLayer) -> FoldedLayer:
    """Harmonics and messages up to the highest degree that a term reads, and all that it takes to make these."""
    structure = ConvolutionStructure.from_key(layer.convolution)
    used = {int(np.sqrt(component)) for _, *factors in layer.monomials for component in factors}
    needed = [0, *structure.degrees_in, *layer.degrees_out]
    for path in structure.paths:
        rows = slice(path.index_in_degree * layer.width, (path.index_in_degree + 1) * layer.width)
        if path.l_out in used and layer.mixing[path.l_out][:, rows].any():
            needed += [path.l_sh, path.l_out]
    smaller = ConvolutionStructure.from_key(
        ConvolutionStructure.key(structure.degrees_in, max(needed), structure.is_rounded)
    )
    if smaller.max_ell == structure.max_ell:
        return layer
    paths = {(path.l_in, path.l_sh, path.l_out) for path in smaller.paths}
    is_kept = [(path.l_in, path.l_sh, path.l_out) in paths for path in engine_paths(structure)]
    mixing = {}
    for l in smaller.degrees_out():
        chosen = [(path.l_in, path.l_sh, path.l_out) in paths for path in structure.paths_to(l)]
        mixing[l] = layer.mixing[l][:, np.repeat(chosen, layer.width)]
    return layer._replace(
        convolution=ConvolutionStructure.key(structure.degrees_in, smaller.max_ell, structure.is_rounded),
        table=layer.table[:, :, :, is_kept],
        mixing=mixing,
    )


__all__ = ["pruned"]
