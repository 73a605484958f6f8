"""Numbers and degrees that a folded model can do without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from macekit.geometry.graph import Graph
from macekit.model.layer import Layer
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from models import tiny_model
from structures import ELEMENTS, batch_of_everything

pytest.importorskip("macekit.kernels._core", reason="the C++ extension is not built")
from macekit.geometry.graph import collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.kernels.structure import ConvolutionStructure
from macekit.outputs.compiled import CompiledModel
from macekit.outputs.folding import fold
from structures import CUTOFF

ENERGY = {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "stress": "stress"}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return collate([graph_from_structure(structure, ELEMENTS, CUTOFF) for structure in batch_of_everything()])


def decayed(degrees: dict[int, list[int]], factor: float = 1e-119, **changes: object) -> Mace:
    """A model whose layers mix messages of some degrees with next to nothing, as weight decay leaves them."""
    model = tiny_model(facts={"targets": ENERGY}, max_ell=3, correlation=3, **changes).requires_grad_(False)
    for t, layer in enumerate(model.backbone.layers):
        assert isinstance(layer, Layer)
        for l in degrees.get(t, []):
            layer.interaction.linear.weights[str(l)].mul_(factor)
    return model


def max_ells(model: Mace, dtype: torch.dtype = torch.float64) -> list[int]:
    folded = fold(model, range(len(ELEMENTS)), dtype)
    return [ConvolutionStructure.from_key(layer.convolution).max_ell for layer in folded.layers]


SCALARS = {"hidden_irreps": "4x0e"}
CASES: list[tuple[Callable[[], Mace], list[int]]] = [
    (lambda: decayed({}), [3, 3]),
    (lambda: decayed({1: [3]}), [3, 3]),  # l = 2 is still made with l = 3 harmonics of the vectors
    (lambda: decayed({1: [2, 3]}), [3, 2]),  # l = 1 with those of l = 2
    (lambda: decayed({1: [1, 2, 3]}), [3, 1]),
    (lambda: decayed({1: [1, 2, 3]}, **SCALARS), [3, 0]),
    (lambda: decayed({0: [2, 3], 1: [3]}, **SCALARS), [1, 2]),
    (lambda: decayed({1: [1, 2, 3]}, factor=1e-20, **SCALARS), [3, 3]),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_degrees_that_are_left(number: int, graph: Graph) -> None:
    make, expected_degrees = CASES[number]
    model = make()
    assert max_ells(model) == expected_degrees
    expected = evaluate(model, graph, forces=True, stress=True)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        found = CompiledModel(model, dtype).evaluate(graph, forces=True, stress=True)
        forces = expected["y_node_vector"]
        assert float((found["y_node_vector"] - forces).abs().max() / forces.abs().max()) <= tolerance


def test_small_numbers_that_a_large_one_multiplies_are_kept() -> None:
    model = decayed({1: [1, 2, 3]}, **SCALARS)
    model.backbone.layers[1].product.weights.mul_(1e30)
    assert max_ells(model) == [3, 3]


def test_float32_keeps_no_denormal_numbers() -> None:
    folded = fold(decayed({1: [1, 2, 3]}, factor=1e-39, **SCALARS), range(len(ELEMENTS)), torch.float32)
    for layer in folded.layers:
        for array in (layer.coefficients, layer.table, *layer.mixing.values()):
            small = abs(array[array != 0.0])
            assert small.size == 0 or small.min() >= 2.0**-126
