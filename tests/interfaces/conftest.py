"""Small models with every kind of output, untrained: smooth functions with exact derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from macekit.interfaces.trained import TrainedModel
from macekit.model.build import build_model
from small_facts import facts


def make_trained(name: str = "mace_model", dtype: torch.dtype = torch.float64, **changes: Any) -> TrainedModel:
    config = {
        "hidden_irreps": "4x0e + 4x1o",
        "max_ell": 2,
        "correlation": 2,
        "mlp_irreps": "4x0e",
        "num_bessel": 4,
        "radial_mlp": [8],
        "compute_forces": True,
    }
    return TrainedModel(build_model(name, config, facts(**changes), seed=3, dtype=dtype))


@pytest.fixture
def make() -> Callable[..., TrainedModel]:
    return make_trained


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    """float64, energy with forces and stress, dipole, charges."""
    return make_trained()


@pytest.fixture(scope="session")
def gaussian() -> TrainedModel:
    """The same with a variance of the energy."""
    return make_trained("mean_var_mace_model")


def structures() -> dict[str, Atoms]:
    """One structure of every periodicity."""
    copper = bulk("Cu", cubic=True) * (1, 1, 1)
    copper.symbols[0] = "Al"
    triclinic = Atoms("AlCuO", [[0, 0, 0], [1.9, 0.2, 0.1], [0.3, 2.1, 1.6]], pbc=True)
    triclinic.set_cell([[3.6, 0.2, 0.0], [0.9, 3.9, 0.1], [-0.6, 0.7, 4.2]])
    slab = fcc111("Al", (1, 1, 3), vacuum=5.0)
    slab.pbc = (True, True, False)
    wire = Atoms("CuAl", [[0, 0, 0], [1.4, 1.5, 0.2]], cell=[2.9, 11.0, 12.0], pbc=(True, False, False))
    found = {
        "bulk": copper,
        "triclinic": triclinic,
        "slab": slab,
        "wire": wire,
        "molecule": molecule("CH3CH2OH"),
    }
    for number, atoms in enumerate(found.values()):
        atoms.rattle(0.08, seed=number)
    return found


@pytest.fixture(params=list(structures()))
def atoms(request: pytest.FixtureRequest) -> Atoms:
    return structures()[request.param]


@pytest.fixture
def ethanol() -> Atoms:
    return structures()["molecule"]


@pytest.fixture
def metal() -> Atoms:
    return structures()["bulk"]
