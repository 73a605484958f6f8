"""A small saved model, and labelled structures to use it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from macekit.cli import app
from macekit.config import DatasetFacts
from macekit.interfaces.trained import TrainedModel
from macekit.model.build import build_model

Invoke = Callable[..., Any]


@pytest.fixture
def invoke() -> Invoke:
    """Run the command line in this process."""

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def waters() -> list[Atoms]:
    """Ten rattled molecules with made-up labels."""
    random = np.random.default_rng(0)
    frames = []
    for number in range(10):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=number)
        atoms.info["REF_energy"] = -76.0 + float(random.normal(scale=0.1))
        atoms.info["REF_dipole"] = random.normal(size=3)
        atoms.arrays["REF_forces"] = random.normal(size=(3, 3))
        atoms.arrays["REF_charges"] = random.normal(size=3)
        frames.append(atoms)
    return frames


@pytest.fixture
def data_file(waters: list[Atoms], tmp_path: Path) -> Path:
    path = tmp_path / "waters.extxyz"
    write(path, waters)
    return path


def _model(name: str, directory: Path) -> Path:
    facts = {
        "elements": [1, 8],
        "cutoff": 3.0,
        "targets": {
            "y_graph_scalars": ["energy"],
            "y_graph_vector": "dipole",
            "y_node_scalars": ["charges"],
            "y_node_vector": "forces",
        },
        "reference_energies": {"energy": [-1.0, -74.0]},
    }
    config = {
        "hidden_irreps": "4x0e + 4x1o",
        "max_ell": 1,
        "correlation": 2,
        "mlp_irreps": "4x0e",
        "num_bessel": 4,
        "radial_mlp": [8],
        "compute_forces": True,
    }
    TrainedModel(build_model(name, config, DatasetFacts.from_dict(facts), seed=1)).save(directory)
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _model("mace_model", tmp_path_factory.mktemp("mace") / "model")


@pytest.fixture(scope="session")
def gaussian_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _model("mean_var_mace_model", tmp_path_factory.mktemp("gaussian") / "model")


@pytest.fixture
def run_file(data_file: Path) -> Path:
    path = data_file.parent / "run.yaml"
    path.write_text(
        "model:\n"
        "  hidden_irreps: 4x0e + 4x1o\n"
        "  max_ell: 1\n"
        "  correlation: 2\n"
        "  mlp_irreps: 4x0e\n"
        "  radial_mlp: [8]\n"
        "  compute_forces: true\n"
        "  y_graph_scalars_loss_config: {name: MSELoss}\n"
        "  y_node_vector_loss_config: {name: MSELoss, weight: 10}\n"
        "data:\n"
        "  train: waters.extxyz\n"
        "  validation: 0.2\n"
        "  cutoff: 3.0\n"
        "  targets: {y_graph_scalars: energy, y_node_vector: forces}\n"
        "  reference_energies: {H: -1.0, O: -74.0}\n"
        "training: {max_epochs: 2, batch_size: 4}\n"
        "run: {device: cpu}\n"
    )
    return path
