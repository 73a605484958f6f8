"""A converted model whose couplings have terms that cancel: other elements, a further head, LoRA, training, export."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from numpy.typing import NDArray

from macekit.data import Structure
from macekit.geometry.neighbours import graph_for
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.native import load_native, save_native
from macekit.interop.physicsml.export import write_physicsml
from macekit.kernels.structure import ContractionStructure
from macekit.model.build import build_model
from macekit.model.elements import for_elements
from macekit.model.mace import Mace
from macekit.model.merging import merged
from macekit.outputs.derivatives import evaluate
from macekit.training.transfer.matching import matched

FIXTURES = Path(__file__).parent / "fixtures"
ROUNDING = 1e-13
"""Relative to the largest force."""
PARTS = ("product.rounding_basis", "product.rounding_weights")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Mace:
    folder = tmp_path_factory.mktemp("model")
    with tarfile.open(FIXTURES / "unusual.tar.xz") as archive:
        archive.extract("float32_tensors.model", folder, filter="data")
    model = read_mace_torch(folder / "float32_tensors.model")[0]
    assert model.config.coupling_terms == "all"
    assert all(key.endswith("|cancelling") for key in (layer.product.key for layer in model.backbone.layers))
    return model.eval()


def forces_of(model: Mace, numbers: tuple[int, ...] = (6, 8, 1, 1, 6, 1, 8, 1)) -> NDArray[np.float64]:
    """Of a few atoms that are close to one another, in units of the largest."""
    positions = np.random.default_rng(2).normal(size=(len(numbers), 3)) * 0.6
    structure = Structure.from_ase(Atoms(numbers, positions))
    forces = evaluate(model, graph_for(structure, model.facts), stress=False)["y_node_vector"].numpy()
    return np.asarray(forces / np.abs(forces).max())


def assert_same(model: Mace, source: Mace) -> None:
    np.testing.assert_allclose(forces_of(model.eval()), forces_of(source), rtol=0.0, atol=ROUNDING)


def test_the_terms_matter(source: Mace, tmp_path: Path) -> None:
    """Without them the energy changes by more than the other tests allow."""
    model = load_native(save_native(source, tmp_path / "model"))
    assert np.array_equal(forces_of(model), forces_of(source))
    for layer in model.backbone.layers:
        cancelling = ~ContractionStructure.from_key(layer.product.key).basis().any(axis=1)
        layer.product.rounding_basis[torch.as_tensor(cancelling)] = 0.0
    assert np.abs(forces_of(model) - forces_of(source)).max() > 100 * ROUNDING


def test_schema_version_2_knows_nothing_of_them(source: Mace) -> None:
    fields = source.config.model_dump()
    del fields["coupling_terms"]
    assert type(source.config).from_dict(fields).coupling_terms == "symmetric"


def test_a_further_element_and_back(source: Mace) -> None:
    wider = for_elements(source, [1, 6, 7, 8]).model
    assert np.array_equal(forces_of(wider), forces_of(source))
    two = (6, 8, 8, 6, 8)
    assert np.array_equal(forces_of(for_elements(wider, [6, 8]).model, two), forces_of(source, two))


def test_a_model_with_a_dipole_beside_the_energy(source: Mace) -> None:
    """Its last layer has vectors too, so that the terms have other positions."""
    targets = source.facts.targets.model_copy(update={"y_graph_vector": "dipole"})
    facts = source.facts.model_copy(update={"targets": targets})
    new = build_model(source.config.name, source.config, facts, dtype=torch.float64)
    assert new.backbone.degrees_of(1) == (0, 1)
    new.load_state_dict(matched(new, source, None).state)
    assert_same(new, source)


def test_low_rank_updates(source: Mace) -> None:
    config = source.config.model_copy(update={"tuner": "lora"})
    tuned = build_model(config.name, config, source.facts, dtype=torch.float64)
    tuned.load_state_dict(matched(tuned, source, None).state)
    assert_same(tuned, source)
    assert_same(merged(tuned), source)


def test_training_leaves_them(source: Mace) -> None:
    names = {name for name in source.state_dict() if name.endswith(PARTS)}
    assert len(names) == 4
    assert not names & {name for name, _ in source.named_parameters()}


def test_the_export_says_that_it_leaves_them_out(source: Mace, tmp_path: Path) -> None:
    config = source.config.model_copy(update={"radial_mlp": [64, 64, 64]})
    model = build_model(config.name, config, source.facts, dtype=torch.float64)
    notes = write_physicsml(model, tmp_path / "out")
    assert any("the couplings are exact, not those of the float32 file" in note for note in notes)
