"""macekit on ethanol, with the settings of `macekit.yaml`, and the table of both packages.

    OMP_NUM_THREADS=1 python run_macekit.py DATA_FOLDER --seeds 1 2 3 --epochs 100
    python run_macekit.py --table          # print the table of what the two results files hold

Trains on frames 0-179 of `train.xyz` with frames 180-199 for validation, and tests on `test_MD.xyz` with the averaged
weights of the epoch with the lowest validation loss, in float64.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.io import read

import macekit

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "macekit_results.json"
PEER_RESULTS = HERE / "mace_torch_results.json"


def train_and_test(data: Path, seed: int, epochs: int, directory: Path) -> dict[str, Any]:
    """One run and its errors."""
    files = {
        "data.train": [f"{data / 'train.xyz'}@:180"],
        "data.validation": [f"{data / 'train.xyz'}@180:200"],
        "data.test": {"MD": [str(data / "test_MD.xyz")]},
    }
    run = {"run.seed": seed, "run.directory": str(directory / f"seed_{seed}"), "training.max_epochs": epochs}
    start = time.perf_counter()
    result = macekit.train(HERE / "macekit.yaml", files | run)
    wall = time.perf_counter() - start
    model = macekit.load_model(directory / f"seed_{seed}" / "model", dtype="float64")
    change = result.facts.shift["energy"] - constant_of_start(data / "train.xyz", result.facts)
    return {
        "epochs": epochs,
        "training_wall_s": round(wall, 1),
        "best_epoch": result.fit.best_epoch,
        "parameters": sum(parameter.numel() for parameter in result.model.parameters()),
        "scale": result.facts.scale["energy"],
        "shift": result.facts.shift["energy"],
        "constant_fitted_meV_per_atom": round(1e3 * change, 4),
        "test_MD_best": errors(model, data / "test_MD.xyz"),
        "test_MD_best_constant_of_start": errors(model, data / "test_MD.xyz", change),
    }


def constant_of_start(file: Path, facts: macekit.DatasetFacts) -> float:
    """Mean of (E − ΣE0)/N over the training frames, eV: the constant per atom before training."""
    reference = dict(zip(facts.elements, facts.reference_energies["energy"], strict=True))
    frames = read(file, ":180")
    return float(
        np.mean([(a.get_potential_energy() - sum(reference[z] for z in a.numbers.tolist())) / len(a) for a in frames])
    )


def errors(model: macekit.TrainedModel, file: Path, change: float = 0.0) -> dict[str, float]:
    """RMSE as for the other package: energies per atom, all components of all forces.

    Args:
        model: The trained model.
        file: Test frames.
        change: Taken off every predicted energy per atom, eV.
    """
    frames = read(file, ":")
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    sizes = np.array([len(atoms) for atoms in frames])
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    found = model.predict(frames)
    per_atom = (np.asarray(found["energy"]) - energies) / sizes - change
    return {
        "frames": len(frames),
        "energy_rmse_meV_per_atom": round(1e3 * float(np.sqrt(np.mean(per_atom**2))), 4),
        "force_rmse_meV_per_A": round(
            1e3 * float(np.sqrt(np.mean((np.concatenate(found["forces"]) - forces) ** 2))), 3
        ),
        "energy_mean_error_meV_per_atom": round(1e3 * float(per_atom.mean()), 4),
        "energy_rmse_about_mean_meV_per_atom": round(1e3 * float(per_atom.std()), 4),
    }


def table(results: Path) -> str:
    """Both packages as rows of Markdown, mean and spread over seeds."""
    lines = [
        "| | seeds | energy RMSE (meV/atom) | about its mean | force RMSE (meV/Å) |",
        "|---|---|---|---|---|",
    ]
    keys = ("energy_rmse_meV_per_atom", "energy_rmse_about_mean_meV_per_atom", "force_rmse_meV_per_A")
    rows = (
        ("mace-torch 0.3.16", PEER_RESULTS, "test_MD_best"),
        ("macekit, constant per atom not fitted again", results, "test_MD_best_constant_of_start"),
        ("macekit", results, "test_MD_best"),
    )
    for name, file, which in rows:
        seeds = json.loads(file.read_text())["seeds"] if file.exists() else {}
        tests = [seed[which] for seed in seeds.values()]
        cells = [spread([test[key] for test in tests if key in test]) for key in keys]
        lines.append(f"| {name} | {len(tests)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean, and with several values their standard deviation."""
    if not values:
        return ""
    more = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{more}"


def main() -> None:
    """Train the seeds, add their numbers to the results file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with train.xyz and test_MD.xyz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--directory", type=Path, default=Path("runs/ethanol"), help="where the runs go")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.table:
        if options.data is None:
            parser.error("the folder with train.xyz and test_MD.xyz is missing")
        results = json.loads(options.results.read_text()) if options.results.exists() else {"seeds": {}}
        for seed in options.seeds:
            found = train_and_test(options.data.resolve(), seed, options.epochs, options.directory)
            results["seeds"][str(seed)] = found
            results["versions"] = {"macekit": macekit.__version__, "torch": torch.__version__}
            results["python"], results["threads"] = platform.python_version(), torch.get_num_threads()
            options.results.write_text(json.dumps(results, indent=2) + "\n")
    print(table(options.results))


if __name__ == "__main__":
    main()
