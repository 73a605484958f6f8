"""mace-torch: its own ASE calculator, and a training step as its training script takes it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of

import numpy as np
import torch
from ase import Atoms
from mace import data
from mace.calculators import MACECalculator
from mace.modules import WeightedEnergyForcesLoss
from mace.tools import AtomicNumberTable, torch_geometric, torch_tools
from torch_ema import ExponentialMovingAverage


def version() -> str:
    """Name and version."""
    return f"mace-torch {version_of('mace-torch')}"


def calculator(model: str, dtype: str) -> MACECalculator:
    """The calculator of a `.model` file."""
    return MACECalculator(model_paths=model, device="cpu", default_dtype=dtype)


def training_step(model: str, dtype: str, structures: list[Atoms]) -> Callable[[], None]:
    """Loss on energy and forces, clipped gradient, AMSGrad, moving average, on one batch."""
    torch_tools.set_default_dtype(dtype)
    module = torch.load(model, weights_only=False).to(getattr(torch, dtype))
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    table = AtomicNumberTable([int(z) for z in module.atomic_numbers])
    rng, configurations = np.random.default_rng(0), []
    for atoms in structures:
        configurations.append(
            data.Configuration(
                atomic_numbers=atoms.numbers,
                positions=atoms.positions,
                properties={"energy": 0.0, "forces": rng.normal(0.0, 1.0, (len(atoms), 3))},
                property_weights={"energy": 1.0, "forces": 1.0},
                cell=np.array(atoms.cell),
                pbc=tuple(atoms.pbc),
            )
        )
    graphs = [data.AtomicData.from_config(c, z_table=table, cutoff=float(module.r_max)) for c in configurations]
    loader = torch_geometric.dataloader.DataLoader(dataset=graphs, batch_size=len(graphs))
    loss_of = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, amsgrad=True, weight_decay=5e-7)
    average = ExponentialMovingAverage(module.parameters(), decay=0.99)

    def step() -> None:
        for batch in loader:  # collates, as macekit's step does
            optimizer.zero_grad(set_to_none=True)
            output = module(batch.to_dict(), training=True, compute_force=True)
            loss_of(pred=output, ref=batch).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm=10.0)
            optimizer.step()
            average.update()

    return step
