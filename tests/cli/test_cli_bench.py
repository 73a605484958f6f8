"""`macekit bench`: what it measures and prints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from macekit.errors import UsageError
from macekit.interfaces import timing
from macekit.interfaces.trained import TrainedModel, load_model

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

Invoke = Callable[..., Any]


def test_table_of_made_up_structures(invoke: Invoke, model_directory: Path) -> None:
    before = torch.get_num_threads()
    result = invoke("bench", model_directory, "--seconds", 0, "--threads", 1, "--threads", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("kernels: ")
    assert [line.split()[-4] for line in lines[2:-1]] == ["1", "1", "2", "2"]
    assert torch.get_num_threads() == before


def test_json_of_own_structures_and_training(invoke: Invoke, model_directory: Path, data_file: Path) -> None:
    result = invoke("bench", model_directory, data_file, "--seconds", 0, "--train", "--json", "--dtype", "float64")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [item["work"] for item in found] == ["energy + forces"] * 10 + ["training step"]
    assert found[0] | {"seconds": 0, "median": 0, "nanoseconds_per_day": 0, "threads": 0} == {
        "work": "energy + forces", "structure": "H2O", "atoms": 3, "edges": 6, "dtype": "float64",
        "seconds": 0, "median": 0, "nanoseconds_per_day": 0, "threads": 0,
    }  # fmt: skip
    assert (found[-1]["atoms"], found[-1]["edges"], found[-1]["nanoseconds_per_day"]) == (30, 60, None)
    assert all(len(item["seconds"]) >= 3 and item["median"] > 0 for item in found)
    assert found[0]["nanoseconds_per_day"] == pytest.approx(86400e-6 / found[0]["median"])


def test_packed_atoms_have_the_neighbours_of_the_training_data(model_directory: Path) -> None:
    model = load_model(model_directory)
    atoms = timing.packed(model, 216)
    assert len(atoms) == 216
    assert set(atoms.get_chemical_symbols()) == {"H", "O"}
    found = len(neighbor_list("i", atoms, model.cutoff)) / 216
    assert found == pytest.approx(model.facts.avg_num_neighbours, rel=0.6, abs=6)


def test_nothing_is_changed(model_directory: Path, waters: list[Atoms]) -> None:
    model, atoms = load_model(model_directory), waters[0]
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    positions = atoms.positions.copy()
    timing.time_calls(model, atoms, 0.0, "float64")
    timing.time_training(model, waters, 0.0, "float64")
    assert all(torch.equal(value, weights[name]) for name, value in model.module.state_dict().items())
    np.testing.assert_array_equal(atoms.positions, positions)


def test_models_without_what_is_timed(waters: list[Atoms], model_directory: Path) -> None:
    model = load_model(model_directory)
    facts = model.facts.model_copy(update={"targets": model.facts.targets.model_copy(update={"y_graph_scalars": []})})
    model.module.facts = facts
    charges = TrainedModel(model.module)
    with pytest.raises(UsageError, match=r"nothing to time: the model predicts .*, and no energy"):
        timing.time_calls(charges, waters[0], 0.0, "float64")
    with pytest.raises(UsageError, match="training steps are timed for models with an energy and its forces"):
        timing.time_training(charges, waters, 0.0, "float64")
