"""Whether a backend reproduces the reference on a small built-in problem; it takes a few milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from macekit.kernels import reference
from macekit.kernels.radial_layers import RadialLayers
from macekit.kernels.reference_matrices import MatrixBlock, MatrixPlan
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure
from macekit.kernels.table_edges import TableEdges

if TYPE_CHECKING:
    from macekit.kernels.backend import Backend

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest difference, relative to the largest number of the result."""
CONVOLUTION = ConvolutionStructure.key((0, 1), 1)
CONTRACTION = ContractionStructure.key(1, (0, 1), 2)
ATOMS, EDGES, CHANNELS, SPECIES, ROWS = 3, 7, 19, 2, 15
"""Edges in no order; channels that fill whole registers and leave a remainder."""
REGISTERS = 16
"""Channels that fill whole registers."""


def largest_difference(backend: Backend) -> str | None:
    """None where a backend reproduces the reference, otherwise what differs and by how much."""
    for dtype, tolerance in TOLERANCES.items():
        for name, arguments in (*_calls(dtype), ("readout_sweeps", (dtype,))):
            expected = _results(reference, name, arguments)
            try:
                found = _results(backend, name, arguments)
            except Exception as failure:  # whatever it is, the backend is not used
                return f"{name} in {dtype} raises {type(failure).__name__}: {failure}"
            for number, (one, other) in enumerate(zip(found, expected, strict=True)):
                worst = float((one - other).abs().max() / other.abs().max())
                if not worst <= tolerance:
                    return f"result {number} of {name} in {dtype} differs by {worst:.1e}, allowed {tolerance:.0e}"
    return None


def _results(backend: Backend, name: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    if name == "readout_sweeps":
        return _of_readouts(backend, *arguments)
    return _as_tuple(getattr(backend, name)(*arguments))


def _calls(dtype: torch.dtype) -> list[tuple[str, tuple[Any, ...]]]:
    """Every function with its arguments."""
    convolution, contraction = ConvolutionStructure.from_key(CONVOLUTION), ContractionStructure.from_key(CONTRACTION)
    h = _waves(dtype, ATOMS, convolution.dim_in, CHANNELS)
    y = _waves(dtype, EDGES, (convolution.max_ell + 1) ** 2)
    radial = _waves(dtype, EDGES, len(convolution.paths), CHANNELS)
    sender, receiver = torch.arange(EDGES) % ATOMS, (torch.arange(EDGES) * 2 + 1) % ATOMS
    of_edges = (h, y, radial, sender, receiver, CONVOLUTION)
    grad = _waves(dtype, ATOMS, convolution.dim_out, CHANNELS)
    lengths, table = _waves(torch.float64, EDGES) + 1.0, _waves(dtype, ROWS, len(convolution.paths), CHANNELS)
    of_table = TableEdges(h, y, lengths, table, sender, receiver, 0.25, 0.125, CONVOLUTION)
    along = h.cos(), y.cos(), lengths.cos()
    a = _waves(dtype, ATOMS, contraction.dim_in, CHANNELS)
    coefficients = _waves(dtype, SPECIES, contraction.num_terms, CHANNELS)
    of_atoms = (a, coefficients, torch.arange(ATOMS) % SPECIES, CONTRACTION)
    grad_atoms = _waves(dtype, ATOMS, contraction.dim_out, CHANNELS)
    x, matrix = _waves(dtype, ATOMS, 4, REGISTERS), _waves(dtype, SPECIES, REGISTERS, 2 * REGISTERS)
    width = 2 * REGISTERS
    blocks = (MatrixBlock(0, 1, 1, ATOMS, REGISTERS, REGISTERS, 0, width, 3, 0.5),)
    plan = MatrixPlan(blocks, ATOMS, (4, REGISTERS), (3, width), (tuple(matrix.shape),))
    product = _waves(dtype, ATOMS, 3, width)
    one = _waves(dtype, 5, REGISTERS)
    of_knots = RadialLayers(
        _waves(dtype, ROWS, 3),
        _waves(dtype, ROWS, 1),
        (_waves(dtype, 3, REGISTERS), _waves(dtype, REGISTERS, REGISTERS), _waves(dtype, REGISTERS, 2 * REGISTERS)),
        (0.5, 0.25, 0.25),
    )
    kept = reference.radial_table(of_knots)[1]
    vectors = _waves(torch.float64, EDGES, 3)
    of_vectors, harmonics = (vectors, 1e-8, 3), _waves(dtype, EDGES, 16)
    return [
        ("edge_convolution", of_edges),
        ("edge_convolution_backward", (grad, *of_edges)),
        ("edge_convolution_backward2", (h.cos(), y.cos(), radial.cos(), grad, *of_edges)),
        ("table_convolution", (of_table,)),
        ("table_convolution_backward", (grad, of_table, True, True)),
        ("table_convolution_backward2", (along, None, grad, of_table, True)),
        ("table_convolution_tangent", (along, of_table)),
        ("table_convolution_weights", (grad, grad.cos(), along, of_table)),
        ("symmetric_contraction", of_atoms),
        ("symmetric_contraction_backward", (grad_atoms, *of_atoms)),
        ("symmetric_contraction_backward2", (a.cos(), coefficients.cos(), grad_atoms, *of_atoms)),
        ("matrix_products", (x, [matrix], plan, False)),
        ("matrix_products", (product, [matrix], plan, True)),
        ("matrix_gradients", ([(x, product), (x.cos(), product.cos())], plan)),
        ("matrix_chains", ([one], [matrix])),
        ("matrix_chains_backward", ([one], [matrix], [_waves(dtype, SPECIES, 5, width)], [True, True])),
        ("radial_table", (of_knots,)),
        ("radial_table_backward", (_waves(dtype, ROWS + 2, 2 * REGISTERS), of_knots, kept)),
        ("edge_harmonics", (*of_vectors, dtype)),
        ("edge_harmonics_backward", (harmonics, lengths, *of_vectors)),
        ("edge_harmonics_tangent", (vectors.cos(), *of_vectors, dtype)),
    ]


def _of_readouts(backend: Backend, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What the four sweeps through the read-outs give."""
    features = [_waves(dtype, ATOMS, 4, CHANNELS), _waves(dtype, ATOMS, 1, CHANNELS)]
    weights = [_waves(dtype, CHANNELS, 2), _waves(dtype, CHANNELS, REGISTERS), _waves(dtype, REGISTERS, 2)]
    grad, part = _waves(dtype, ATOMS, 2), backend.readout_sweeps(1.5)
    values, by_features = part.values(features, weights), part.geometry(grad)
    tangent = part.tangents(tuple(x.cos() for x in features))
    by_both = part.weights(grad.cos(), [True] * len(weights))
    return _as_tuple((values, by_features, tangent, by_both))


def _waves(dtype: torch.dtype, *shape: int) -> Tensor:
    """Numbers without a pattern that a mistake could share, and without the global random state."""
    count = int(torch.tensor(shape).prod())
    return (torch.arange(count, dtype=torch.float64) ** 1.5).sin().to(dtype).view(shape)


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    """All tensors of a result, in order."""
    return (result,) if isinstance(result, Tensor) else tuple(tensor for part in result for tensor in _as_tuple(part))
