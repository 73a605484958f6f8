"""One case, all engines in turn."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.cases import Case, model_name
from benchmarks.compare.engine_process import EngineError, EngineProcess
from benchmarks.compare.structures import named

TURN = 0.5
"""Seconds of work per turn, at least one call."""


def measure(
    case: Case, pythons: dict[str, Path], models: Path, repetitions: int, *, tuned_malloc: bool
) -> dict[str, Any]:
    """Time the engines on a case; they take turns, so that other work on the machine hits all.

    Args:
        case: Model, structures, work.
        pythons: Interpreter of every engine.
        models: Folder with `.model` files and their conversions.
        repetitions: Turns of every engine.
        tuned_malloc: Whether processes keep freed memory.

    Returns:
        By engine: seconds per call (median, best, all), CPU seconds, memory, and for evaluations the relative
        difference of the forces from those of the first engine; or what it said instead.
    """
    structures = named(case.structures)
    plain = [
        {"numbers": s.numbers.tolist(), "positions": s.positions.tolist()}
        | {"cell": s.cell.tolist(), "pbc": s.pbc.tolist()}
        for s in structures
    ]
    atoms = sum(len(s) for s in structures)
    processes: dict[str, EngineProcess] = {}
    found: dict[str, Any] = {}
    for engine, python in pythons.items():
        if case.work == "train" and engine == "symmetrix":
            continue
        process = EngineProcess(engine, python, case.threads, tuned_malloc, models / f"{engine}.log")
        try:
            model = str((models / f"{model_name(case)}.model").resolve())
            loaded = process.ask("load", model=model, dtype=case.dtype, work=case.work, structures=plain)
            first = process.ask("run", count=2)["seconds"]
        except EngineError as error:
            found[engine] = {"error": str(error)}
            process.close()
            continue
        found[engine] = {"version": loaded["engine"], "load": loaded["seconds"], "seconds": [], "cpu": []}
        found[engine]["count"] = max(1, min(200, int(TURN / first[-1])))
        processes[engine] = process
    for _ in range(repetitions):
        for engine, process in processes.items():
            turn = process.ask("run", count=found[engine]["count"])
            found[engine]["seconds"].append(statistics.median(turn["seconds"]))
            found[engine]["cpu"].append(statistics.median(turn["cpu"]))
            found[engine]["memory_MB"], found[engine]["memory_total_MB"] = turn["memory"], turn["memory_total"]
    for engine in processes:
        found[engine]["median"] = statistics.median(found[engine]["seconds"])
        found[engine]["best"] = min(found[engine]["seconds"])
        found[engine]["us_per_atom"] = 1e6 * found[engine]["median"] / atoms
    if case.work == "evaluate":
        _compare_forces(found, processes)
    for process in processes.values():
        process.close()
    return found


def _compare_forces(found: dict[str, Any], processes: dict[str, EngineProcess]) -> None:
    """Largest difference of a force component, relative to the largest component, where all are in one place."""
    reference: dict[str, Any] | None = None
    for engine, process in processes.items():
        result = process.ask("at_start")
        reference = reference or result
        forces, expected = np.array(result["forces"]), np.array(reference["forces"])
        found[engine]["force_difference"] = float(np.abs(forces - expected).max() / np.abs(expected).max())
        found[engine]["energy_difference_per_atom"] = abs(result["energy"] - reference["energy"]) / len(forces)


def ratio(found: dict[str, Any], engine: str) -> float | None:
    """How many times faster macekit is than another engine: the median over turns of the ratio within a turn."""
    one, other = found.get("macekit", {}), found.get(engine, {})
    if "seconds" not in one or "seconds" not in other:
        return None
    return statistics.median(b / a for a, b in zip(one["seconds"], other["seconds"], strict=True))


def say(text: str) -> None:
    """To the terminal, not to the results."""
    print(text, file=sys.stderr, flush=True)
