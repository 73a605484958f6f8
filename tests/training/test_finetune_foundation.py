"""Fine-tuning starts exactly where a real model stands: MACE-MP-0 small, and a model of PhysicsML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read

from macekit.data import Structure
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.physicsml.convert import read_physicsml
from macekit.model.mace import Mace
from macekit.model.merging import merged
from macekit.model.tuners import is_tuner_parameter
from macekit.training.trainable import num_trainable, set_trainable, trainable_parameters
from models import perturb_tuner
from transfer_starts import predictions, start

pytestmark = pytest.mark.assets
TUNERS = ["ssf", "adapter", "lora", "heads", "full"]
ENERGY, FORCES = 1e-11, 1e-11
"""eV, eV/Å; between a model of 89 elements and one of silicon alone."""


@pytest.fixture(scope="module")
def silicon(assets: Path) -> list[Structure]:
    frames = read(assets / "data" / "silicon" / "Si.test.extxyz", ":")
    chosen = sorted(frames, key=len)[:2]
    return [
        replace(
            Structure.from_ase(a), targets={"energy": np.array(a.info["REF_energy"]), "forces": a.arrays["REF_forces"]}
        )
        for a in chosen
    ]


def assert_same(found: Mace, expected: Mace, structures: list[Structure]) -> None:
    ours, theirs = predictions(found, structures), predictions(expected, structures)
    assert (ours["y_graph_scalars"] - theirs["y_graph_scalars"]).abs().max() <= ENERGY
    assert (ours["y_node_vector"] - theirs["y_node_vector"]).abs().max() <= FORCES


@pytest.mark.parametrize("tuner", TUNERS)
def test_silicon_from_mace_mp_small(tuner: str, assets: Path, silicon: list[Structure]) -> None:
    found = start(assets / "models" / "mace_mp_small.model", silicon, {"tuner": tuner})
    assert found.model.facts.elements == [14]
    assert found.run.data.cutoff == 6.0
    assert_same(found.model, found.source.model, silicon)
    set_trainable(found.model, trainable_parameters(found.model, found.run.finetune.tuner))
    trained = {name for name, parameter in found.model.named_parameters() if parameter.requires_grad}
    expected = {
        name
        for name, _ in found.model.named_parameters()
        if tuner == "full" or name.startswith("heads.") or is_tuner_parameter(name)
    }
    assert trained == expected
    share = num_trainable(found.model) / sum(parameter.numel() for parameter in found.model.parameters())
    assert share < 0.1 or tuner in ("full", "adapter")
    if tuner in ("ssf", "lora"):
        tuned = perturb_tuner(found.model)
        ours, theirs = predictions(merged(tuned), silicon[:1]), predictions(tuned, silicon[:1])
        for name, value in theirs.items():
            assert (ours[name] - value).abs().max() <= 1e-10 * max(1.0, float(value.abs().max())), name


@pytest.mark.parametrize(
    "name",
    [
        "GO-MACE_tutorial_MACE_swa",
        "GST_ACEsuit-training_mace_swa",
        "MACE_SPICE",
        "aimsPAX_Si",
        "imagdau_solvent_PracI_200conf_swa",
    ],
)
def test_other_models_of_mace_torch(name: str, assets: Path) -> None:
    """Of 2022 to 2025, float32 and float64, with and without heads and vectors: some of their elements are kept."""
    path = assets / "models" / f"{name}.model"
    random = np.random.default_rng(0)
    elements = read_mace_torch(path)[0].facts.elements[:3]
    crystal = Structure(
        random.choice(elements, 6), random.normal(scale=1.8, size=(6, 3)), np.eye(3) * 8.0, np.ones(3, bool)
    )
    crystal = crystal.with_targets({"energy": np.array(-10.0), "forces": np.zeros((6, 3))})
    for tuner in ("ssf", "adapter", "lora"):
        found = start(path, [crystal], {"tuner": tuner})
        assert_same(found.model, found.source.model, [crystal])


def test_all_elements_and_a_new_one(assets: Path, silicon: list[Structure]) -> None:
    """Polonium is not among the 89."""
    symbols = {"elements": ["Si", "O", "Po"], "tuner": "ssf"}
    found = start(assets / "models" / "mace_mp_small.model", silicon, symbols)
    assert found.model.facts.elements == [8, 14, 84]
    assert "new element Po: starts with the weights of Te" in found.printed
    assert_same(found.model, found.source.model, silicon)


def test_a_model_of_physicsml(assets: Path) -> None:
    """Its forces and self energies too; and its message passing alone, for another target."""
    peptide = read(assets / "golden" / "alanine-dipeptide-truncated.pdb")
    peptide.set_pbc(False)
    directory = assets / "models" / "physicsml_mace"
    before = read_physicsml(directory)[0]
    (energy,) = before.facts.targets.y_graph_scalars
    structure = replace(Structure.from_ase(peptide), targets={energy: np.array(-1259.0), "u0": np.array(-1259.0)})
    targets = {"y_graph_scalars": [energy], "y_node_vector": before.facts.targets.y_node_vector}
    found = start(directory, [structure], {"tuner": "lora"}, data={"targets": targets})
    assert_same(found.model, before, [structure])
    other = start(
        directory,
        [structure],
        {"tuner": "lora", "elements": "all", "modules_to_match": {"mace": "mace"}, "reference_energies": "data"},
        model={"y_node_vector_loss_config": None},
        data={"targets": {"y_graph_scalars": ["u0"]}},
    )
    ours, theirs = other.model.backbone.state_dict(), before.backbone.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert "heads.graph_scalars" in other.printed.partition("fresh:")[2]
