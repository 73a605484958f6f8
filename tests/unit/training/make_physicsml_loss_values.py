"""Print the numbers of PhysicsML in `test_losses_of_others.py`, in an environment with PhysicsML 0.6."""

from __future__ import annotations

import torch
from physicsml.lightning.losses.construct_loss import construct_loss

NAN = float("nan")
PREDICTION = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], dtype=torch.float64)
LABEL = torch.tensor([[0.25, NAN], [NAN, 1.0], [-1.5, 0.5]], dtype=torch.float64)
ATOMS = torch.tensor([0, 2, 5, 9])
CONFIGS = {
    "masked": {"name": "MaskedMSELoss", "weight": 2.0},
    "multi_task": {
        "name": "MultiTaskLoss",
        "config": {"losses_configs": [{"name": "MSELoss", "weight": 2.0}, {"name": "L1Loss", "weight": 3.0}]},
    },
    "huber": {"name": "HuberLoss", "weight": 2.0, "config": {"delta": 0.5}},
    "weighted_one_structure": {"name": "WeightedMSELoss", "weight": 2.0},
}


def main() -> None:
    for name, config in CONFIGS.items():
        prediction, label, ptr = PREDICTION, LABEL, ATOMS
        if name == "huber":
            label = LABEL.nan_to_num(0.125)
        if name == "weighted_one_structure":  # with more structures than one it broadcasts them against each other
            prediction, label, ptr = PREDICTION[2:], LABEL[2:], torch.tensor([0, 4])
        batch = {"y_graph_scalars": label, "ptr": ptr}
        value = construct_loss(config, "y_graph_scalars")({"y_graph_scalars": prediction}, batch)
        print(f'    "{name}": {float(value)!r},')


if __name__ == "__main__":
    main()
