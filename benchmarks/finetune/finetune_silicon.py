"""A foundation model fine-tuned to silicon in five ways, beside the same network from scratch.

    python benchmarks/finetune/finetune_silicon.py MODEL Si.training.extxyz Si.test.extxyz --epochs 40

MODEL is MACE-MP-0 small (a `.model` file of mace-torch). Of the training file 50 frames are used, evenly spread, a
tenth of them for validation; every way takes the same steps on the same frames, with every seed. Before training there
are two rows of the foundation model as it is: with its own E0, and with E0 refitted to the 50 frames. Prints a table in
Markdown and writes all numbers as JSON.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.io import read, write
from rich.console import Console

import macekit

RATES = {"scratch": 0.01, "heads": 0.05, "ssf": 0.02, "adapter": 0.02, "lora": 0.01, "full": 0.003}
"""Learning rate of every way, the better of two or three that were tried with one seed."""
LOSSES = {
    "y_graph_scalars_loss_config": {"name": "WeightedMSELoss", "weight": 10.0},
    "y_node_vector_loss_config": {"name": "MSELoss", "weight": 10.0},
}
FRAMES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "train", "test"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--ways", nargs="*", default=list(RATES), choices=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--output", type=Path, default=Path("finetune_results.json"))
    parser.add_argument("--rate", type=float, help="another learning rate")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.output.read_text())["ways"] if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        frames = read(options.train, ":")
        chosen = Path(folder) / "train.extxyz"
        write(chosen, [frames[(i * len(frames)) // FRAMES] for i in range(FRAMES)])
        results |= untrained(options, chosen)
        save(options.output, results)
        for seed, way in itertools.product(options.seeds, options.ways):
            found = measured(way, options, chosen, Path(folder) / f"{way}_{seed}", seed)
            results.setdefault(way, {})[str(seed)] = found
            print(way, seed, json.dumps(found), flush=True)
            save(options.output, results)
    print(table(results))


def save(output: Path, results: dict[str, Any]) -> None:
    """Write everything measured so far; what else the file says stays."""
    document = json.loads(output.read_text()) if output.exists() else {}
    document |= {"macekit": macekit.__version__, "torch": torch.__version__}
    document |= {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    output.write_text(json.dumps(document | {"ways": results}, indent=1) + "\n")


def untrained(options: argparse.Namespace, train: Path) -> dict[str, Any]:
    """Errors of the foundation model on the test set, with its E0 and with E0 refitted to the training frames."""
    from macekit.config import DataConfig, FinetuneConfig
    from macekit.data import read_structures
    from macekit.training.evaluation import evaluate_dataset
    from macekit.training.transfer.reference import errors_of, refitted
    from macekit.training.transfer.source import read_source

    finetune = FinetuneConfig.from_dict({"from": str(options.model), "reference_energies": "keep"})
    model = read_source(finetune).model
    targets = {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}
    data = DataConfig.from_dict({"train": [str(train)], "targets": targets})
    row = model.facts.elements.index(14)
    change = float(refitted(errors_of(model, read_structures(train, data).structures, "energy"), [row])[row])
    errors = evaluate_dataset(model, read_structures(options.test, data).structures)
    left = 1e3 * (errors.predicted["energy"] - errors.labelled["energy"])
    forces = {"forces_mae": errors.errors["forces"].mae, "forces_rmse": errors.errors["forces"].rmse}
    size = {"trained": 0, "parameters": sum(parameter.numel() for parameter in model.parameters())}
    found = {}
    for way, energies in (("zero-shot, E0 kept", left), ("zero-shot, E0 refitted", left + 1e3 * change)):
        energy = {"energy_mae": float(np.abs(energies).mean()), "energy_rmse": float(np.sqrt((energies**2).mean()))}
        found[way] = {"-": size | energy | forces}
    return found


def measured(way: str, options: argparse.Namespace, train: Path, directory: Path, seed: int) -> dict[str, Any]:
    """Train in one way; sizes, time, and errors on the test set in meV per atom and meV/Å."""
    from macekit.training.trainable import num_trainable, set_trainable, trainable_parameters

    values: dict[str, Any] = {
        "model": dict(LOSSES),
        "data": {
            "train": str(train),
            "validation": 0.1,
            "test": {"Si.test": str(options.test)},
            "targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces"},
        },
        "training": {
            "max_epochs": options.epochs,
            "batch_size": options.batch_size,
            "optimizer": {"name": "Adam", "config": {"lr": options.rate or RATES[way], "amsgrad": True}},
            "scheduler": {"name": "CosineAnnealingLR", "config": {"T_max": "num_steps"}, "interval": "step"},
            "gradient_clip": 10.0,
        },
        "run": {"directory": str(directory), "device": "cpu", "seed": seed},
    }
    if way == "scratch":
        values["model"] |= {
            "hidden_irreps": "128x0e",
            "num_bessel": 10,
            "interaction_first": "agnostic_residual",
            "compute_forces": True,
        }
        values["data"]["cutoff"] = 6.0
    else:
        values["finetune"] = {"from": str(options.model), "tuner": way, "reference_energies": "refit"}
    start = time.perf_counter()
    result = macekit.train(values, console=Console(file=io.StringIO()))
    seconds = time.perf_counter() - start
    model = result.model
    set_trainable(model, trainable_parameters(model, None if way == "scratch" else way))
    errors = result.evaluations["Si.test"].errors
    return {
        "trained": num_trainable(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 1),
        "seconds_per_epoch": sum(row["seconds"] for row in result.fit.history) / len(result.fit.history),
        "epochs": len(result.fit.history),
        "energy_mae": errors["energy"].mae,
        "energy_rmse": errors["energy"].rmse,
        "forces_mae": errors["forces"].mae,
        "forces_rmse": errors["forces"].rmse,
    }


def table(results: dict[str, Any]) -> str:
    """All ways as rows: the quickest run, and over seeds means and, where there are several, standard deviations."""
    lines = [
        "| way | seeds | trained parameters | share | time, s "
        "| energy MAE, meV/atom | forces MAE, meV/Å | RMSE, meV/Å |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    order = [way for way in results if way not in RATES] + [way for way in RATES if way in results]
    for way in order:
        seeds = list(results[way].values())
        trained, size = seeds[0]["trained"], seeds[0]["parameters"]
        cells = [
            spread([row[key] for row in seeds], digits)
            for key, digits in (("energy_mae", 1), ("forces_mae", 0), ("forces_rmse", 0))
        ]
        share = f"{100 * trained / size:.1f} %"
        count = "" if way not in RATES else str(len(seeds))
        quickest = "" if way not in RATES else f"{min(row['seconds'] for row in seeds):.0f}"
        lines.append(f"| {way} | {count} | {trained:,} | {share} | {quickest} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean, and with several values their standard deviation."""
    more = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{more}"


if __name__ == "__main__":
    main()
