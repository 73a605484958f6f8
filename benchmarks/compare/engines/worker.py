"""A process that runs one engine: reads requests and writes answers as lines of JSON.

    python worker.py ENGINE

It runs in the engine's own virtual environment, so it needs nothing but ASE, NumPy and the engine.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

STEP = 0.002
"""Standard deviation of a displacement between two calls, Å: about a femtosecond of dynamics at 300 K."""


def structures_of(plain: list[dict[str, Any]]) -> list[Atoms]:
    """Structures as they came in a request."""
    return [Atoms(s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"]) for s in plain]


def peak_memory() -> float:
    """Of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Worker:
    """State between requests: an engine, its calculator or training step, structures."""

    def __init__(self, engine: str) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        self.engine = importlib.import_module(f"{engine}_engine")
        self.structures: list[Atoms] = []
        self.start = np.zeros((0, 3))
        self.step: Any = None
        self.rng = np.random.default_rng(0)
        self.baseline = peak_memory()

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load a model and structures for evaluation or training."""
        start = time.perf_counter()
        self.structures = structures_of(request["structures"])
        self.start = self.structures[0].positions.copy()
        self.rng = np.random.default_rng(0)
        if request["work"] == "train":
            self.step = self.engine.training_step(request["model"], request["dtype"], self.structures)
        else:
            calculator = self.engine.calculator(request["model"], request["dtype"])
            for atoms in self.structures:
                atoms.calc = calculator
        return {"seconds": time.perf_counter() - start, "engine": self.engine.version()}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Repeat the work and time every repetition; memory is what it added at its peak."""
        seconds, cpu = [], []
        for _ in range(request["count"]):
            if self.step is None:
                for atoms in self.structures:
                    atoms.positions += self.rng.normal(0.0, STEP, atoms.positions.shape)
            start, cpu_start = time.perf_counter(), time.process_time()
            self.work()
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        return {"seconds": seconds, "cpu": cpu, "memory": peak_memory() - self.baseline, "memory_total": peak_memory()}

    def work(self) -> None:
        """One training step, or energy and forces of every structure."""
        if self.step is not None:
            self.step()
            return
        for atoms in self.structures:
            atoms.get_potential_energy()
            atoms.get_forces()

    def at_start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Energy and forces of the first structure where it was when it came."""
        atoms = self.structures[0]
        atoms.positions = self.start
        return {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()}


def main() -> None:
    """Answer until there are no more requests."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the engines print is not an answer
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["do"])(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
