"""Starting from a trained model: the same predictions before the first step, and messages where that cannot be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import structures as named
from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.errors import ConfigError, MacekitError, ModelFileError
from macekit.interop.native import save_native
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.tuners import is_tuner_parameter
from models import Combination, config_of, facts_of, perturb_tuner, tiny_model
from tolerances import Tolerance, assert_close
from transfer_starts import predictions, start

TUNERS = ["ssf", "adapter", "lora", "heads", "full"]


def labelled(structure: Structure, energy: float) -> Structure:
    return replace(structure, targets={"energy": np.array(energy), "forces": np.zeros((structure.num_atoms, 3))})


STRUCTURES = [
    labelled(named.water(), -2070.0),
    labelled(named.methane(), -1085.0),
    labelled(named.mixed_elements(), -5100.0),
]


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(model: Mace) -> Path:
        return save_native(model, tmp_path / "trained")

    return save


def assert_same_start(model: Mace, source: Mace) -> None:
    assert source.facts.targets.y_graph_scalars.index("energy") == 1
    expected, found = predictions(source, STRUCTURES), predictions(model, STRUCTURES)
    assert_close(found["y_graph_scalars"][:, 0], expected["y_graph_scalars"][:, 1], Tolerance.F64, "energy")
    assert_close(found["y_node_vector"], expected["y_node_vector"], Tolerance.F64, "forces")


@pytest.mark.parametrize("elements", ["data", "all", ["H", "C", "O", "Cu", "Si", "F"]])
@pytest.mark.parametrize("tuner", TUNERS)
def test_predictions_are_those_of_the_trained_model(tuner: str, elements: Any, saved: Any) -> None:
    """Also for one column of two, and with elements that the trained model does not know."""
    found = start(saved(tiny_model()), STRUCTURES, {"tuner": tuner, "elements": elements})
    assert found.model.config.tuner == (tuner if tuner in ("ssf", "adapter", "lora") else "none")
    assert_same_start(found.model.eval(), tiny_model())
    assert_same_start(found.model.train(), tiny_model())
    new = ["F", "Si"] if isinstance(elements, list) else []
    assert [line for line in found.printed.splitlines() if line.startswith("new element")] == [
        f"new element {symbol}: starts with the weights of {'O' if symbol == 'F' else 'C'}" for symbol in new
    ]


def test_in_single_precision(saved: Any) -> None:
    model = start(saved(tiny_model()), STRUCTURES, {"tuner": "lora"}, dtype="float32").model
    assert model.dtype == torch.float32
    found, expected = predictions(model, STRUCTURES), predictions(tiny_model(), STRUCTURES)
    assert_close(found["y_graph_scalars"][:, 0], expected["y_graph_scalars"][:, 1], Tolerance.F32, "energy")


@pytest.mark.parametrize("before", ["ssf", "lora"])
@pytest.mark.parametrize("tuner", TUNERS)
def test_a_tuner_of_the_trained_model_is_folded_or_kept(before: str, tuner: str, saved: Any) -> None:
    trained = perturb_tuner(tiny_model(Combination(before, "none")))
    found = start(saved(trained), STRUCTURES, {"tuner": tuner})
    assert_same_start(found.model, trained)
    assert found.model.config.scalar_bias == (before == "ssf" and tuner != "ssf")


def test_adapters_stay(saved: Any) -> None:
    trained = perturb_tuner(tiny_model(Combination("adapter", "none")))
    path = saved(trained)
    for tuner in ("adapter", "heads", "full"):
        found = start(path, STRUCTURES, {"tuner": tuner}).model
        assert found.config.tuner == "adapter"
        assert_same_start(found, trained)
    with pytest.raises(
        ConfigError, match=r"finetune.tuner: lora given, but the trained model has a tuner of kind adapter"
    ):
        start(path, STRUCTURES, {"tuner": "lora"})


def test_adapters_of_physicsml_are_refused(saved: Any) -> None:
    targets = {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}
    trained = tiny_model(Combination("adapter", "none"), compatibility="physicsml", facts={"targets": targets})
    with pytest.raises(
        ConfigError, match=r"finetune.from: the adapters of this PhysicsML model have batch normalisations"
    ):
        start(saved(trained), STRUCTURES, {"tuner": "adapter"})


def test_the_architecture_is_the_trained_models(saved: Any) -> None:
    trained = tiny_model(correlation=3, num_bessel=5, avg_num_neighbours=7.5, radial_mlp=[8, 8])
    found = start(saved(trained), STRUCTURES, {"tuner": "full"})
    assert found.run.model.num_bessel == 5
    assert found.run.data.cutoff == named.CUTOFF
    assert found.run.model.avg_num_neighbours == 7.5
    assert found.model.facts.scale["energy"] == 1.7
    assert found.model.facts.shift["energy"] == -0.3
    assert_same_start(found.model, trained)


def test_new_heads_are_fresh_and_others_stay(saved: Any) -> None:
    """A dipole, whose vectors the last layer of an energy model does not have, and charges."""
    facts = facts_of(targets={"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces"})
    trained = build_model("mace_model", config_of(), facts, seed=3, dtype=torch.float64)
    assert trained.backbone.degrees_of(1) == (0,)
    targets = {
        "y_graph_scalars": ["energy"],
        "y_node_vector": "forces",
        "y_graph_vector": "mu",
        "y_node_scalars": ["q"],
    }
    found = start(saved(trained), STRUCTURES, {"tuner": "ssf"}, data={"targets": targets})
    assert found.model.backbone.degrees_of(1) == (0, 1)
    assert_same_start(found.model, trained)
    assert "; fresh: backbone.layers" in found.printed
    assert "heads.graph_vector" in found.printed.partition("fresh:")[2]
    outputs = found.model(DatasetGraph(found.model.facts))
    assert outputs["y_graph_vector"].abs().sum() > 0


def DatasetGraph(facts: DatasetFacts) -> Any:  # noqa: N802
    from macekit.geometry.batch import GraphDataset

    return GraphDataset(STRUCTURES, facts).batch([0, 1, 2]).graph


def test_a_variance_is_new_and_its_mean_is_not(saved: Any) -> None:
    found = start(
        saved(tiny_model()),
        STRUCTURES,
        {"tuner": "full"},
        model={"name": "mean_var_mace_model", "y_graph_scalars_loss_config": None},
    )
    assert found.model.heads.graph_scalars_std is not None
    assert "heads.graph_scalars_std" in found.printed.partition("fresh:")[2]
    assert_same_start(found.model, tiny_model())
    again = start(
        saved(tiny_model(Combination("none", "gaussian"))), STRUCTURES, model={"y_graph_scalars_loss_config": None}
    )
    assert again.model.config.uncertainty == "gaussian"
    assert "fresh" not in again.printed


def test_reference_energies_are_kept(saved: Any) -> None:
    found = start(saved(tiny_model()), STRUCTURES, {"tuner": "full"})
    assert found.model.facts.reference_energies == {"energy": [-13.587, -1029.4868, -2041.8396, -3.4567]}
    assert "Reference energies of 'energy': kept" in found.printed


def test_reference_energies_are_refitted_to_the_errors(saved: Any) -> None:
    """Labels are the predictions with other E0: these are found, and nothing is left over."""
    trained = tiny_model()
    energies = predictions(trained, STRUCTURES)["y_graph_scalars"][:, 1].tolist()
    shifts = {1: 0.25, 6: -3.0, 8: 1.5, 29: 0.75}
    moved = [
        labelled(s, energy + sum(shifts[z] for z in s.atomic_numbers.tolist()))
        for s, energy in zip(STRUCTURES, energies, strict=True)
    ]
    alone = predictions(trained, [named.single_atom(1)])["y_graph_scalars"][0, 1].item()
    atom = labelled(named.single_atom(1), alone + shifts[1])
    found = start(saved(trained), [*moved, atom], {"tuner": "full", "reference_energies": "refit"})
    before, now = trained.facts.reference_energies["energy"], found.model.facts.reference_energies["energy"]
    assert np.array(now) - np.array(before) == pytest.approx(list(shifts.values()), abs=1e-8)
    errors = predictions(found.model, moved)["y_graph_scalars"][:, 0].numpy() - [
        float(s.targets["energy"]) for s in moved
    ]
    assert np.abs(errors).max() < 1e-8
    assert re.search(r"error, all, meV/atom.*[+-]0\.0 ± 0\.0", found.printed)


def test_reference_energies_of_the_data_section(saved: Any) -> None:
    given = {"H": -1.0, "C": -2.0, "O": -3.0, "Cu": -4.0}
    found = start(
        saved(tiny_model()),
        STRUCTURES,
        {"tuner": "full", "reference_energies": "data"},
        data={"reference_energies": given},
    )
    assert found.model.facts.reference_energies["energy"] == [-1.0, -2.0, -3.0, -4.0]


@pytest.mark.parametrize(("given", "expected"), [({"F": -99.0}, -99.0), ("fit", None)])
def test_the_energy_of_a_new_element(given: Any, expected: float | None, saved: Any) -> None:
    """Given, or what the errors leave to it; those of known elements are kept."""
    fluoride = labelled(replace(named.water(), atomic_numbers=np.array([9, 1, 1])), -130.0)
    found = start(saved(tiny_model()), [*STRUCTURES, fluoride], {"tuner": "heads"}, data={"reference_energies": given})
    energies = dict(zip(found.model.facts.elements, found.model.facts.reference_energies["energy"], strict=True))
    assert energies[8] == -2041.8396
    if expected is None:
        assert predictions(found.model, [fluoride])["y_graph_scalars"].item() == pytest.approx(-130.0)
    else:
        assert energies[9] == expected


def test_the_tuner_alone_is_new(saved: Any) -> None:
    facts = facts_of(targets={"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces"})
    trained = build_model("mace_model", config_of(), facts, seed=3, dtype=torch.float64)
    found = start(saved(trained), STRUCTURES, {"tuner": "adapter", "elements": "all"})
    state, before = found.model.state_dict(), trained.state_dict()
    for name, value in state.items():
        if name.startswith("heads.graph_scalars") and value.shape != before[name].shape:
            assert torch.equal(value[:, 0], before[name][:, 1])
        elif not is_tuner_parameter(name):
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("finetune", "model", "data", "message"),
    [
        (
            {"reference_energies": None},
            {},
            {},
            "finetune.reference_energies: required, because the head of energy is taken",
        ),
        ({}, {"num_bessel": 9}, {}, "model.num_bessel: 9 given, but the trained model has 4.*\nhint: leave it out"),
        ({}, {"hidden_irreps": "8x0e"}, {}, "model.hidden_irreps: '8x0e' given, but the trained model has"),
        ({}, {}, {"cutoff": 5.5}, "data.cutoff: 5.5 given, but the trained model has 3.2"),
        ({}, {"mlp_irreps": "8x0e"}, {}, r"linear_1.weight: \[4, 8\] in the new model and \[4, 4\] in the trained"),
        ({"tuner": "lora"}, {"name": "ssf_mace_model"}, {}, "finetune.tuner: lora given, but the model section"),
        ({"elements": ["H", "O"]}, {}, {}, "finetune.elements: C, Cu of the training data is not listed"),
        ({"elements": ["H", "Xx"]}, {}, {}, "finetune.elements: 'Xx' is no chemical symbol"),
        ({"head": "pbe"}, {}, {}, "finetune.head: no head 'pbe': the model has a single level of theory"),
        ({"energy_unit": "eV"}, {}, {}, "finetune.energy_unit: given, but .* is a model of macekit"),
        (
            {"tuner": "lorra"},
            {},
            {},
            "finetune.tuner: expected 'ssf', 'adapter', 'lora', 'heads' or 'full', got 'lorra'",
        ),
    ],
)
def test_messages(finetune: dict[str, Any], model: Any, data: Any, message: str, saved: Any) -> None:
    with pytest.raises(MacekitError) as caught:
        start(saved(tiny_model()), STRUCTURES, finetune, model=model, data=data)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


def test_what_is_equal_may_be_given(saved: Any) -> None:
    model = {"hidden_irreps": "4x1o+4x0e", "num_bessel": 4, "scaling_mean": "auto"}
    found = start(saved(tiny_model()), STRUCTURES, model=model, data={"cutoff": named.CUTOFF})
    assert_same_start(found.model, tiny_model())


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"finetune.from: .*nowhere: no such file or directory; expected a model dir"
    ):
        start(tmp_path / "nowhere", STRUCTURES)
    with pytest.raises(ModelFileError, match=r"no trained model in this directory; expected config.json"):
        start(tmp_path, STRUCTURES)
    (tmp_path / "x.model").write_bytes(b"nothing")
    with pytest.raises(
        ModelFileError, match=r"(?s)finetune.from: .*x.model: not a model .*hint: expected a .model file"
    ):
        start(tmp_path / "x.model", STRUCTURES)


def test_the_directory_of_a_run_will_do(tmp_path: Path) -> None:
    save_native(tiny_model(), tmp_path / "run" / "model")
    assert_same_start(start(tmp_path / "run", STRUCTURES).model, tiny_model())
