"""Some elements of a model in the inference engine: the engine of the whole model, and the operators.

An engine holds the elements that it has seen. Where these are the same for both models, so is the arithmetic, and the
numbers agree to the last bit. An engine that has seen more may sum the first layer in another way (by moments, for up
to six elements), or have finer radial tables (of the sharpest pair of elements): then they agree to rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from macekit.data import Structure
from macekit.geometry.graph import Graph
from macekit.geometry.neighbours import graph_for
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.kernels.structure import ContractionStructure
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.selection import with_elements
from macekit.outputs.derivatives import evaluate

pytest.importorskip("macekit.kernels._core", reason="the C++ extension is not built")
from macekit.outputs.compiled import CompiledModel

ELEMENTS = [1, 3, 6, 7, 8, 9, 14, 15, 16, 17, 26, 29]
CHOSEN = [1, 6, 8]
OPERATORS = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest difference between engine and operators, relative to the largest number."""
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "moments pay": {"hidden_irreps": "32x0e + 32x1o", "radial_mlp": [8, 8], "max_ell": 3},
    "pairs of elements": {"distance_transform": "agnesi", "pair_repulsion": "zbl"},
    "densities": {"interaction_first": "density", "interaction": "density_residual"},
    "rounding": {"coupling_rounding": [2, 3], "coupling_terms": "all", "correlation": 3},
}


def many_elements(dtype: torch.dtype, **options: Any) -> Mace:
    """A model with fresh weights, also of the rounding of couplings."""
    facts = {
        "elements": ELEMENTS,
        "cutoff": 4.0,
        "avg_num_neighbours": 20.0,
        "targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "stress": "stress"},
        "reference_energies": {"energy": np.linspace(-13.6, -900.0, len(ELEMENTS)).tolist()},
    }
    choices = {"hidden_irreps": "8x0e + 8x1o", "max_ell": 2, "correlation": 2, "compute_forces": True, **options}
    model = build_model("mace_model", choices, facts, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    for layer in model.backbone.layers:
        if layer.product.num_rounding:
            terms = ContractionStructure.from_key(layer.product.key).num_terms
            layer.product.rounding_basis.normal_(generator=generator).div_(terms)
            layer.product.rounding_weights.normal_(generator=generator)
    return model.eval()


def crystal(numbers: list[int], length: float = 6.0, count: int = 30) -> Structure:
    positions = np.random.default_rng(5).uniform(size=(count, 3)) * length
    cell = np.eye(3) * length + [[0.0, 0.3, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]
    return Structure.from_ase(Atoms(np.resize(numbers, count), positions, cell=cell, pbc=True))


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    names = ("y_graph_scalars", "y_graph_scalars::nodes", "y_node_vector", "stress")
    return max(float((found[n] - expected[n]).abs().max() / expected[n].abs().max()) for n in names)


def assert_same(whole: Mace, part: Mace, structure: Structure, dtype: torch.dtype) -> Graph:
    """The engines to the last bit, and the engine and the operators to rounding; returns the graph of the part."""
    of_whole, of_part = graph_for(structure, whole.facts), graph_for(structure, part.facts)
    assert not torch.equal(of_whole.species, of_part.species)
    expected = CompiledModel(whole).evaluate(of_whole, forces=True, stress=True)
    found = CompiledModel(part).evaluate(of_part, forces=True, stress=True)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert largest_difference(found, evaluate(part, of_part, forces=True, stress=True)) <= OPERATORS[dtype]
    return of_part


@pytest.mark.parametrize("dtype", OPERATORS, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_some_of_many_elements(name: str, dtype: torch.dtype) -> None:
    whole, structure = many_elements(dtype, **OPTIONS[name]), crystal(CHOSEN)
    part = with_elements(whole, CHOSEN)
    graph = assert_same(whole, part, structure, dtype)
    engine = CompiledModel(whole)
    engine.evaluate(graph_for(crystal(ELEMENTS), whole.facts), forces=True, stress=True)
    expected = engine.evaluate(graph_for(structure, whole.facts), forces=True, stress=True)
    found = CompiledModel(part).evaluate(graph, forces=True, stress=True)
    assert largest_difference(found, expected) <= OPERATORS[dtype]


@pytest.mark.assets
@pytest.mark.parametrize("dtype", OPERATORS, ids=str)
@pytest.mark.parametrize("name", ["mace_mp_small.model", "MACE_SPICE.model"])
def test_some_elements_of_a_converted_model(name: str, dtype: torch.dtype, assets: Path) -> None:
    path = assets / "models" / name
    whole, part = (read_mace_torch(path, elements=elements, dtype=dtype)[0].eval() for elements in (None, CHOSEN))
    again, structure = with_elements(whole, CHOSEN), crystal(CHOSEN, length=8.0, count=16)
    graph = assert_same(whole, part, structure, dtype)
    one, other = (CompiledModel(model).evaluate(graph, forces=True, stress=True) for model in (part, again))
    assert all(torch.equal(one[key], other[key]) for key in one)
