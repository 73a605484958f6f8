"""mace-torch 0.3.16 on ethanol: the yardstick of `benchmarks/ethanol`.

Trains on the first 200 frames of `train.xyz` (180 for training, the last 20 for validation) through
mace-torch's own training script, and tests on `test_MD.xyz` in float64. One seed per call; every call adds
its numbers to the results file. Run it in a virtual environment of its own (see README.md), one thread:

    OMP_NUM_THREADS=1 python mace_torch.py DATA_FOLDER --seed 1 --epochs 100
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
from ase import Atoms
from ase.data import atomic_numbers

NUM_FRAMES = 200
NUM_VALIDATION = 20
CHOICES: dict[str, Any] = {
    "model": "ScaleShiftMACE",
    "interaction_first": "RealAgnosticInteractionBlock",
    "interaction": "RealAgnosticResidualInteractionBlock",
    "hidden_irreps": "32x0e + 32x1o",
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
    "forces_weight": 100.0,
    "optimizer": "adam",
    "lr": 0.01,
    "weight_decay": 5e-7,
    "batch_size": 10,
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


def write_split(data: Path, work: Path) -> tuple[Path, Path]:
    """Write the training and validation frames, labels under names that ASE leaves alone."""
    frames = ase.io.read(data / "train.xyz", index=f":{NUM_FRAMES}")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info = {"REF_energy": energy}
        atoms.arrays["REF_forces"] = forces
        atoms.set_cell(None)
    train, validation = work / "train.extxyz", work / "validation.extxyz"
    ase.io.write(train, frames[: NUM_FRAMES - NUM_VALIDATION])
    ase.io.write(validation, frames[NUM_FRAMES - NUM_VALIDATION :])
    return train, validation


def isolated_atoms(data: Path) -> dict[str, float]:
    """Energy of each isolated atom that occurs in ethanol, eV."""
    frames: list[Atoms] = ase.io.read(data / "isolated_atoms.xyz", index=":")
    energies = {atoms.get_chemical_formula(): float(atoms.get_potential_energy()) for atoms in frames}
    return {symbol: energies[symbol] for symbol in ("H", "C", "O")}


def train(data: Path, work: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Train with mace-torch's script; the EMA weights of every epoch are kept, for the last and the best."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    work.mkdir(parents=True, exist_ok=True)
    training, validation = write_split(data, work)
    energies = {atomic_numbers[symbol]: value for symbol, value in isolated_atoms(data).items()}
    arguments = [f"--{key}={value}" for key, value in CHOICES.items()]
    arguments += [f"--train_file={training}", f"--valid_file={validation}", f"--E0s={energies}"]
    arguments += [
        f"--name=ethanol_{seed}",
        f"--seed={seed}",
        f"--max_num_epochs={epochs}",
        f"--work_dir={work}",
    ]
    arguments += ["--energy_key=REF_energy", "--forces_key=REF_forces", "--plot=False"]
    arguments += ["--ema", "--amsgrad", "--save_all_checkpoints"]
    start = time.perf_counter()
    run(build_default_arg_parser().parse_args(arguments))
    wall = time.perf_counter() - start
    lines = (work / "results" / f"ethanol_{seed}_run-{seed}_train.txt").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record["time"] for record in records if record["mode"] == "opt"]
    losses = {r["epoch"]: r["loss"] for r in records if r["mode"] == "eval" and r["epoch"] is not None}
    return {
        "epochs": epochs,
        "steps": len(steps),
        "median_step_ms": round(1e3 * statistics.median(steps), 2),
        "training_wall_s": round(wall, 1),
        "best_epoch": min(losses, key=lambda epoch: losses[epoch]),
        "validation_loss": {str(epoch): float(f"{losses[epoch]:.6g}") for epoch in sorted(losses) if epoch % 10 == 9},
    }


def test(model: Any, data: Path, work: Path) -> dict[str, float]:
    """RMSE on `test_MD.xyz`, the model converted to float64 by mace-torch's calculator."""
    import torch
    from mace.calculators import MACECalculator

    path = work / "tested.model"
    torch.save(model, path)
    calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    energy_errors, force_errors = [], []
    for atoms in ase.io.read(data / "test_MD.xyz", index=":"):
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.set_cell(None)
        atoms.calc = calculator
        energy_errors.append((atoms.get_potential_energy() - energy) / len(atoms))
        force_errors.append(atoms.get_forces() - forces)
    return {
        "frames": len(energy_errors),
        "energy_rmse_meV_per_atom": round(1e3 * float(np.sqrt(np.mean(np.square(energy_errors)))), 4),
        "force_rmse_meV_per_A": round(1e3 * float(np.sqrt(np.mean(np.square(force_errors)))), 3),
        "energy_mean_error_meV_per_atom": round(1e3 * float(np.mean(energy_errors)), 4),
        "energy_rmse_about_mean_meV_per_atom": round(1e3 * float(np.std(energy_errors)), 4),
    }


def main() -> None:
    """Train one seed, test the last and the best model, and add the numbers to the results file."""
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4.4 loads its constants from a pickle
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.xyz, test_MD.xyz and isolated_atoms.xyz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/mace_torch_ethanol"), help="scratch folder")
    parser.add_argument("--results", type=Path, default=here / "mace_torch_results.json")
    options = parser.parse_args()
    import torch

    work = options.work / f"seed_{options.seed}"
    found = train(options.data, work, options.seed, options.epochs)
    stem = f"ethanol_{options.seed}_run-{options.seed}"
    model = torch.load(work / "checkpoints" / f"{stem}.model", weights_only=False)
    last = torch.load(work / "checkpoints" / f"{stem}_epoch-{options.epochs - 1}.pt", weights_only=False)["model"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items()), "not the last weights"
    facts = {
        "scale": float(model.scale_shift.scale),
        "shift": float(model.scale_shift.shift),
        "avg_num_neighbors": float(model.interactions[0].avg_num_neighbors),
        "E0_eV": isolated_atoms(options.data),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "hidden_irreps_by_layer": [str(product.linear.irreps_out) for product in model.products],
    }
    found["test_MD_last"] = test(model, options.data, work)
    best = torch.load(work / "checkpoints" / f"{stem}_epoch-{found['best_epoch']}.pt", weights_only=False)["model"]
    model.load_state_dict(best)
    same = found["best_epoch"] == options.epochs - 1
    found["test_MD_best"] = found["test_MD_last"] if same else test(model, options.data, work)

    results = json.loads(options.results.read_text()) if options.results.exists() else {"seeds": {}}
    results["settings"] = CHOICES | {
        "ema": True,
        "amsgrad": True,
        "train_indices": [0, NUM_FRAMES - NUM_VALIDATION - 1],
        "validation_indices": [NUM_FRAMES - NUM_VALIDATION, NUM_FRAMES - 1],
        "indices_are": "first and last frame of train.xyz, from 0, both included",
        "steps_per_epoch": (NUM_FRAMES - NUM_VALIDATION) // CHOICES["batch_size"],
        "versions": {name: version(name) for name in ("mace-torch", "torch", "e3nn", "torch-ema", "numpy", "ase")},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    results["facts"] = facts
    results["seeds"][str(options.seed)] = found
    options.results.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
