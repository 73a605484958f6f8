"""Small models of every kind, with nothing zero: four kinds of output, two columns, scales, shifts, E0."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import torch

from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.tuners import is_tuner_parameter
from structures import CUTOFF, ELEMENTS

TUNERS = ("none", "ssf", "adapter", "lora")
UNCERTAINTIES = ("none", "gaussian")


class Combination(NamedTuple):
    """One of the eight models that are one."""

    tuner: str
    uncertainty: str

    def __str__(self) -> str:
        return f"{self.tuner}-{self.uncertainty}"


COMBINATIONS = [Combination(*pair) for pair in product(TUNERS, UNCERTAINTIES)]

REFERENCE_ENERGIES = {"energy": [-13.587, -1029.4868, -2041.8396, -3.4567], "gap": [0.5, 1.25, -0.75, 2.0]}
SCALES = {"gap": 0.4, "energy": 1.7, "dipole": 0.6, "charges": 0.3, "shielding": 20.0, "velocities": 0.8}
SHIFTS = {"gap": 2.5, "energy": -0.3, "charges": 0.1, "shielding": 30.0}


def facts_of(*, forces: bool = True, **changes: Any) -> dict[str, Any]:
    """Facts with every kind of target; the energy is not the first column."""
    targets = {
        "y_graph_scalars": ["gap", "energy"],
        "y_graph_vector": "dipole",
        "y_node_scalars": ["charges", "shielding"],
        "y_node_vector": "forces" if forces else "velocities",
        "stress": "stress" if forces else None,
    }
    facts = {
        "elements": list(ELEMENTS),
        "cutoff": CUTOFF,
        "avg_num_neighbours": 4.0,
        "targets": targets,
        "reference_energies": REFERENCE_ENERGIES,
        "scale": SCALES,
        "shift": SHIFTS,
    }
    return facts | changes


def config_of(combination: Combination = COMBINATIONS[0], *, forces: bool = True, **changes: Any) -> dict[str, Any]:
    """A small configuration; third order where there is a variance, second order elsewhere."""
    config: dict[str, Any] = {
        "tuner": combination.tuner,
        "uncertainty": combination.uncertainty,
        "hidden_irreps": "4x0e + 4x1o",
        "mlp_irreps": "4x0e",
        "max_ell": 2,
        "correlation": 3 if combination.uncertainty == "gaussian" else 2,
        "num_bessel": 4,
        "radial_mlp": [8],
        "compute_forces": forces,
        "ratio_adapter_down": 3,
        "lora_rank": 2,
    }
    return config | changes


def tiny_model(
    combination: Combination = COMBINATIONS[0],
    dtype: torch.dtype = torch.float64,
    *,
    forces: bool = True,
    seed: int = 3,
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> Mace:
    """A model as it is made; `changes` are of the configuration, `facts` of the facts."""
    return build_model(
        "mace_model",
        config_of(combination, forces=forces, **changes),
        facts_of(forces=forces, **(facts or {})),
        seed=seed,
        dtype=dtype,
    ).eval()


def perturb_tuner(model: Mace, seed: int = 5) -> Mace:
    """The same model with its tuner far from the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_tuner_parameter(name):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_((0.4 * noise).to(parameter.dtype))
    return model
