"""mace-torch 0.3.16 on a protocol: the yardstick.

Trains through mace-torch's own training script and tests in float64. One seed per call; every call adds its numbers to
`PROTOCOL/mace_torch.json`. Run it in a virtual environment of its own (see README.md), one thread:

    OMP_NUM_THREADS=1 python mace_torch_run.py ethanol DATA_FOLDER --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import atomic_numbers
from protocols import PROTOCOLS, Protocol, isolated_atoms, rmse, write_frames

CHOICES: dict[str, Any] = {
    "model": "ScaleShiftMACE",
    "interaction_first": "RealAgnosticInteractionBlock",
    "interaction": "RealAgnosticResidualInteractionBlock",
    "max_ell": 3,
    "correlation": 3,
    "r_max": 5.0,
    "num_interactions": 2,
    "num_radial_basis": 8,
    "num_cutoff_basis": 5,
    "radial_MLP": "[64, 64, 64]",
    "MLP_irreps": "16x0e",
    "gate": "silu",
    "scaling": "rms_forces_scaling",
    "loss": "weighted",
    "energy_weight": 1.0,
    "optimizer": "adam",
    "lr": 0.01,
    "weight_decay": 5e-7,
    "valid_batch_size": 10,
    "ema_decay": 0.99,
    "clip_grad": 10.0,
    "scheduler": "ReduceLROnPlateau",
    "lr_factor": 0.8,
    "scheduler_patience": 50,
    "default_dtype": "float32",
    "device": "cpu",
}
"""Options of mace-torch's training script; `--ema` and `--amsgrad` are given beside them."""


def choices(protocol: Protocol) -> dict[str, Any]:
    """All options, those of the protocol included."""
    return CHOICES | {
        "hidden_irreps": protocol.hidden_irreps,
        "batch_size": protocol.batch_size,
        "forces_weight": protocol.forces_weight,
    }


def train(protocol: Protocol, data: Path, work: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Train with mace-torch's script; the EMA weights of every epoch are kept, for the last and the best."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    files = write_frames(protocol, data, work)
    energies = {atomic_numbers[symbol]: value for symbol, value in isolated_atoms(protocol, data).items()}
    arguments = [f"--{key}={value}" for key, value in choices(protocol).items()]
    arguments += [f"--train_file={files['train']}", f"--valid_file={files['validation']}", f"--E0s={energies}"]
    arguments += [f"--name=seed_{seed}", f"--seed={seed}", f"--max_num_epochs={epochs}", f"--work_dir={work}"]
    arguments += ["--energy_key=REF_energy", "--forces_key=REF_forces", "--plot=False"]
    arguments += ["--ema", "--amsgrad", "--save_all_checkpoints"]
    start = time.perf_counter()
    run(build_default_arg_parser().parse_args(arguments))
    wall = time.perf_counter() - start
    lines = (work / "results" / f"seed_{seed}_run-{seed}_train.txt").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record["time"] for record in records if record["mode"] == "opt"]
    losses = {r["epoch"]: r["loss"] for r in records if r["mode"] == "eval" and r["epoch"] is not None}
    return {
        "epochs": epochs,
        "steps": len(steps),
        "median_step_ms": round(1e3 * statistics.median(steps), 2),
        "training_wall_s": round(wall, 1),
        "best_epoch": min(losses, key=lambda epoch: losses[epoch]),
        "validation_loss": {str(epoch): float(f"{losses[epoch]:.6g}") for epoch in sorted(losses)},
    }


def test(model: Any, file: Path, work: Path) -> dict[str, float]:
    """Errors on a test file, the model converted to float64 by mace-torch's calculator."""
    import torch
    from mace.calculators import MACECalculator

    path = work / "tested.model"
    torch.save(model, path)
    calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    energies, forces, frames = [], [], ase.io.read(file, ":")
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return rmse(np.array(energies), np.concatenate(forces), frames)


def main() -> None:
    """Train one seed, test the last and the best model, and add the numbers to the results file."""
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4.4 loads its constants from a pickle
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("data", type=Path, help="folder with the files of the protocol")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="those of the protocol where not given")
    parser.add_argument("--work", type=Path, default=Path("runs/mace_torch"), help="scratch folder")
    options = parser.parse_args()
    import torch

    protocol = PROTOCOLS[options.protocol]
    epochs = options.epochs or protocol.epochs
    work = (options.work / options.protocol / f"seed_{options.seed}").resolve()
    found = train(protocol, options.data, work, options.seed, epochs)
    stem = f"seed_{options.seed}_run-{options.seed}"
    model = torch.load(work / "checkpoints" / f"{stem}.model", weights_only=False)
    last = torch.load(work / "checkpoints" / f"{stem}_epoch-{epochs - 1}.pt", weights_only=False)["model"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items()), "not the last weights"
    facts = {
        "scale": float(model.scale_shift.scale),
        "shift": float(model.scale_shift.shift),
        "avg_num_neighbors": float(model.interactions[0].avg_num_neighbors),
        "E0_eV": isolated_atoms(protocol, options.data),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    best = torch.load(work / "checkpoints" / f"{stem}_epoch-{found['best_epoch']}.pt", weights_only=False)["model"]
    for name in protocol.tests:
        found[f"test_{name}_last"] = test(model, work / f"{name}.extxyz", work)
    model.load_state_dict(best)
    for name in protocol.tests:
        found[f"test_{name}_best"] = test(model, work / f"{name}.extxyz", work)

    output = here / options.protocol / "mace_torch.json"
    output.parent.mkdir(exist_ok=True)
    results = json.loads(output.read_text()) if output.exists() else {"seeds": {}}
    results["settings"] = choices(protocol) | {"ema": True, "amsgrad": True} | protocol._asdict()
    results["versions"] = {name: version(name) for name in ("mace-torch", "torch", "e3nn", "torch-ema", "numpy", "ase")}
    results["python"], results["threads"] = platform.python_version(), torch.get_num_threads()
    results["facts"] = facts
    results["seeds"][str(options.seed)] = found
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
