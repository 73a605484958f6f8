"""Where a run and its model come from: versions, machine, data, errors."""

from __future__ import annotations

import platform
import socket
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import torch

import macekit
from macekit.config import TrainingRun
from macekit.training.distributed import World
from macekit.training.evaluation import Evaluation
from macekit.training.preparation import RunData
from macekit.training.progress import FitResult

_PACKAGES: Final = ("torch", "numpy", "ase", "vesin", "safetensors", "pydantic")


def run_provenance(run: TrainingRun, data: RunData, world: World) -> dict[str, Any]:
    """What `run.json` says: versions, machine, command, data, as plain values."""
    on_gpu = world.device.type == "cuda"
    return {
        "macekit": macekit.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(world.device) if on_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "command": list(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "precision": run.run.dtype,
        "seed": run.run.seed,
        "data": {
            "hash": data.fingerprint(),
            "training": len(data.train),
            "validation": len(data.valid),
            "test": {name: len(structures) for name, structures in data.tests.items()},
        },
    }


def model_provenance(fit: FitResult, evaluations: Mapping[str, Evaluation], data_hash: str) -> dict[str, Any]:
    """What a saved model says about its training, as plain values."""
    return {
        "macekit": macekit.__version__,
        "torch": torch.__version__,
        "data": data_hash,
        "epochs": fit.num_epochs,
        "best_epoch": fit.best_epoch,
        fit.monitor: fit.best_value,
        "errors": {
            name: {
                target: {"rmse": error.rmse, "mae": error.mae}
                for target, error in evaluation.errors.items()
                if error.count
            }
            for name, evaluation in evaluations.items()
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
