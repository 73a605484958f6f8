"""Print the numbers of `test_losses_of_others.py`: losses of mace-torch on made-up predictions.

Runs in an environment of its own, as `tests/interop/make_mace_torch_fixtures.py` does:

    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 peer/bin/python -W ignore tests/unit/training/make_loss_values.py
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from mace.modules import loss

torch.set_default_dtype(torch.float64)
ATOMS = [2, 3]


def made_up() -> dict[str, torch.Tensor]:
    """Labels and predictions of two structures; some forces are as large as thresholds."""
    row = torch.arange(5.0)[:, None]
    column = torch.arange(3.0)[None]
    forces = torch.sin(1.7 * row + 2.3 * column) * torch.tensor([1.0, 80.0, 130.0, 250.0, 900.0])[:, None]
    stress = torch.cos(torch.arange(18.0)).reshape(2, 3, 3)
    return {
        "energy": torch.tensor([-3.0, 2.5]),
        "forces": forces,
        "stress": stress,
        "energy_predicted": torch.tensor([-3.013, 2.9]),
        "forces_predicted": forces + 0.02 * torch.cos(row + 3.0 * column) + 0.004 * row,
        "stress_predicted": stress + 0.008 * torch.sin(torch.arange(18.0)).reshape(2, 3, 3),
    }


def main() -> None:
    values = made_up()
    ones = torch.ones(2)
    shared: dict[str, Any] = {"weight": ones, "energy_weight": ones, "forces_weight": ones, "stress_weight": ones}

    class Batch(SimpleNamespace):
        def __getitem__(self, name: str) -> torch.Tensor:
            return getattr(self, name)

    labels = {name: values[name] for name in ("energy", "forces", "stress")}
    batch = Batch(ptr=torch.tensor([0, 2, 5]), num_graphs=2, **shared, **labels)
    batch.batch = torch.tensor([0, 0, 1, 1, 1])
    predictions = {name: values[f"{name}_predicted"] for name in labels}
    losses = {
        "weighted": loss.WeightedEnergyForcesLoss(2.0, 3.0),
        "stress": loss.WeightedEnergyForcesStressLoss(2.0, 3.0, 5.0),
        "huber": loss.WeightedHuberEnergyForcesStressLoss(2.0, 3.0, 5.0, huber_delta=0.01),
        "universal": loss.UniversalLoss(2.0, 3.0, 5.0, huber_delta=0.01),
        "l1l2energyforces": loss.WeightedEnergyForcesL1L2Loss(2.0, 3.0),
    }
    for name, function in losses.items():
        print(f'    "{name}": {float(function(batch, predictions))!r},')


if __name__ == "__main__":
    main()
