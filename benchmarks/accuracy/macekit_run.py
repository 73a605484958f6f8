"""macekit on a protocol, with `settings.yaml`, and the table of both packages.

    OMP_NUM_THREADS=1 python macekit_run.py ethanol DATA_FOLDER --seeds 1 2 3
    python macekit_run.py ethanol --table          # print the table of what the two results files hold

Tests the averaged weights of the epoch with the lowest validation loss, in float64.
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
from protocols import PROTOCOLS, Protocol, isolated_atoms, rmse, write_frames

import macekit

HERE = Path(__file__).resolve().parent


def changes(protocol: Protocol, data: Path, seed: int, epochs: int, directory: Path) -> dict[str, Any]:
    """What differs from `settings.yaml`; writes the frames."""
    files = write_frames(protocol, data, directory / "data")
    return {
        "model.hidden_irreps": protocol.hidden_irreps,
        "model.y_node_vector_loss_config.weight": protocol.forces_weight,
        "data.train": [str(files["train"])],
        "data.validation": [str(files["validation"])],
        "data.test": {name: str(files[name]) for name in protocol.tests},
        "data.reference_energies": isolated_atoms(protocol, data),
        "training.batch_size": protocol.batch_size,
        "training.max_epochs": epochs,
        "run.seed": seed,
        "run.directory": str(directory / f"seed_{seed}"),
    }


def train_and_test(protocol: Protocol, data: Path, seed: int, epochs: int, directory: Path) -> dict[str, Any]:
    """One run and its errors."""
    chosen = changes(protocol, data, seed, epochs, directory)
    files = {name: Path(file) for name, file in chosen["data.test"].items()}
    files["train"] = Path(chosen["data.train"][0])
    start = time.perf_counter()
    result = macekit.train(HERE / "settings.yaml", chosen)
    wall = time.perf_counter() - start
    model = macekit.load_model(directory / f"seed_{seed}" / "model", dtype="float64")
    energy = next(iter(result.facts.shift))
    change = result.facts.shift[energy] - constant_of_start(files["train"], isolated_atoms(protocol, data))
    found = {
        "epochs": epochs,
        "training_wall_s": round(wall, 1),
        "best_epoch": result.fit.best_epoch,
        "parameters": sum(parameter.numel() for parameter in result.model.parameters()),
        "scale": result.facts.scale[energy],
        "shift": result.facts.shift[energy],
        "constant_fitted_meV_per_atom": round(1e3 * change, 4),
    }
    for name in protocol.tests:
        found[f"test_{name}_best"] = errors(model, files[name])
        found[f"test_{name}_best_constant_of_start"] = errors(model, files[name], change)
    return found


def constant_of_start(file: Path, reference: dict[str, float]) -> float:
    """Mean of (E − ΣE0)/N over the training frames, eV: the constant per atom before training."""
    bound = [
        (atoms.info["REF_energy"] - sum(reference[symbol] for symbol in atoms.get_chemical_symbols())) / len(atoms)
        for atoms in read(file, ":")
    ]
    return float(np.mean(bound))


def errors(model: macekit.TrainedModel, file: Path, change: float = 0.0) -> dict[str, float]:
    """Errors on a file of frames.

    Args:
        model: The trained model.
        file: Test frames.
        change: Taken off every predicted energy per atom, eV.
    """
    frames = read(file, ":")
    found = model.predict(frames)
    energies = np.asarray(found["energy"]) - change * np.array([len(atoms) for atoms in frames])
    return rmse(energies, np.concatenate(found["forces"]), frames)


def table(protocol: str) -> str:
    """Both packages as rows of Markdown, mean and spread over seeds."""
    lines = [
        "| | seeds | energy RMSE (meV/atom) | about its mean | force RMSE (meV/Å) |",
        "|---|---|---|---|---|",
    ]
    keys = ("energy_rmse_meV_per_atom", "energy_rmse_about_mean_meV_per_atom", "force_rmse_meV_per_A")
    for test in PROTOCOLS[protocol].tests:
        rows = (
            ("mace-torch 0.3.16", "mace_torch", f"test_{test}_best"),
            ("macekit, constant per atom not fitted again", "macekit", f"test_{test}_best_constant_of_start"),
            ("macekit", "macekit", f"test_{test}_best"),
        )
        for name, package, which in rows:
            file = HERE / protocol / f"{package}.json"
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
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the files of the protocol")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, help="those of the protocol where not given")
    parser.add_argument("--directory", type=Path, default=Path("runs/accuracy"), help="where the runs go")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    protocol = PROTOCOLS[options.protocol]
    if not options.table:
        if options.data is None:
            parser.error("the folder with the files of the protocol is missing")
        output = HERE / options.protocol / "macekit.json"
        output.parent.mkdir(exist_ok=True)
        results = json.loads(output.read_text()) if output.exists() else {"seeds": {}}
        for seed in options.seeds:
            directory = (options.directory / options.protocol).resolve()
            epochs = options.epochs or protocol.epochs
            found = train_and_test(protocol, options.data.resolve(), seed, epochs, directory)
            results["seeds"][str(seed)] = found
            results["versions"] = {"macekit": macekit.__version__, "torch": torch.__version__}
            results["python"], results["threads"] = platform.python_version(), torch.get_num_threads()
            output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(options.protocol))


if __name__ == "__main__":
    main()
