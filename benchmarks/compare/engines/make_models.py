"""Write freshly initialised models with mace-torch, in its own virtual environment.

python make_models.py FOLDER '[{"name": ..., "hidden": ..., "elements": [...], "cutoff": ..., "neighbours": ...}]'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from e3nn import o3
from mace import modules


def make(hidden: str, elements: list[int], cutoff: float, neighbours: float) -> torch.nn.Module:
    """Two layers, max_ell 3, correlation 3, 8 Bessel functions; weights of seed 0, float64."""
    torch.manual_seed(0)
    return modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros((1, len(elements))),
        avg_num_neighbors=neighbours,
        atomic_numbers=elements,
        correlation=3,
        radial_type="bessel",
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def main() -> None:
    """Write those that are not there."""
    torch.set_default_dtype(torch.float64)
    folder = Path(sys.argv[1])
    for wanted in json.loads(sys.argv[2]):
        path = folder / f"{wanted.pop('name')}.model"
        if not path.exists():
            torch.save(make(**wanted), path)


if __name__ == "__main__":
    main()
