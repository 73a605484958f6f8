"""A foundation model fine-tuned to silicon in five ways, beside the same network from scratch.

    python benchmarks/finetune/finetune_silicon.py MODEL Si.training.extxyz Si.test.extxyz --epochs 40

MODEL is MACE-MP-0 small (a `.model` file of mace-torch). Of the training file 50 frames are used, evenly spread, a
tenth of them for validation; every way takes the same steps on the same frames. Prints a table in Markdown and writes
all numbers as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ase.io import read, write
from rich.console import Console

import macekit

RATES = {"scratch": 0.01, "heads": 0.01, "ssf": 0.01, "adapter": 0.005, "lora": 0.002, "full": 0.001}
"""Learning rate of every way; not searched for."""
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
    parser.add_argument("--ways", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--output", type=Path, default=Path("finetune_results.json"))
    parser.add_argument("--rate", type=float, help="another learning rate")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.output.read_text())["ways"] if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        frames = read(options.train, ":")
        chosen = Path(folder) / "train.extxyz"
        write(chosen, [frames[(i * len(frames)) // FRAMES] for i in range(FRAMES)])
        for way in options.ways:
            results[way] = measured(way, options, chosen, Path(folder) / way)
            print(way, json.dumps(results[way]), flush=True)
            machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
            document = {"macekit": macekit.__version__, "torch": torch.__version__, **machine, "ways": results}
            options.output.write_text(json.dumps(document, indent=1) + "\n")
    print(table(results))


def measured(way: str, options: argparse.Namespace, train: Path, directory: Path) -> dict[str, Any]:
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
        "run": {"directory": str(directory), "device": "cpu", "seed": 1},
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
    """All ways as rows."""
    lines = [
        "| way | trained parameters | share | time, s | energy MAE, meV/atom | forces MAE, meV/Å | RMSE, meV/Å |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way, row in results.items():
        share = 100 * row["trained"] / row["parameters"]
        lines.append(
            f"| {way} | {row['trained']:,} | {share:.1f} % | {row['seconds']:.0f} | {row['energy_mae']:.2f} | "
            f"{row['forces_mae']:.1f} | {row['forces_rmse']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
