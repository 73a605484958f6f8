"""Wall time of training with both packages, taking turns, on a protocol.

    python wall_time.py 3bpa DATA_FOLDER --mace-torch MACE_ENV/bin/python      # an epoch on 1 thread, and on 2

Both packages run the training of `mace_torch_run.py` and `macekit_run.py` as it is, each in a process of its own that
is let go for some steps at a time, so that other work on the machine hits both. An interval lasts from one step to
another and holds all that the package does between them: loading batches, the step, averages, metrics, and validation
where an epoch ends. Writes `PROTOCOL/wall_time.json`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from protocols import PROTOCOLS, Protocol

HERE = Path(__file__).resolve().parent
PACKAGES = ("mace_torch", "macekit")
WARM_UP = 2
"""Steps that are not counted: compiling, caches, memory."""


class Gate:
    """Holds a training process before each step unless it was let go for this one.

    Args:
        answers: Where the time of every interval is written, a line of JSON each.
    """

    def __init__(self, answers: Any) -> None:
        self.answers, self.left = answers, WARM_UP
        self.start = 0.0, 0.0

    def __call__(self) -> None:
        """Called at the beginning of every step."""
        if self.left == 0:
            seconds, cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
            self.answers.write(json.dumps({"seconds": seconds, "cpu": cpu}) + "\n")
            self.answers.flush()
            self.left = int(sys.stdin.readline() or sys.exit())
            self.start = time.perf_counter(), time.process_time()
        self.left -= 1


def work(package: str, protocol: Protocol, data: Path, folder: Path) -> None:
    """Train with one package, step by step as the gate allows; never ends by itself."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print is not an answer
    gate = Gate(answers)
    epochs = 10**6
    if package == "mace_torch":
        os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        import mace_torch_run

        train = importlib.import_module("mace.tools.train")  # in mace.tools, `train` is a function of it
        take_step = train.take_step
        train.take_step = lambda *given, **named: (gate(), take_step(*given, **named))[1]
        mace_torch_run.train(protocol, data, folder, 1, epochs)
    else:
        import macekit_run

        import macekit
        from macekit.training.steps import Stepper

        gradient = Stepper.gradient
        Stepper.gradient = lambda *given, **named: (gate(), gradient(*given, **named))[1]  # type: ignore[method-assign]
        macekit.train(HERE / "settings.yaml", macekit_run.changes(protocol, data, 1, epochs, folder))


def measure(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Both packages in turn on so many threads."""
    pythons = {"mace_torch": options.mace_torch, "macekit": sys.executable}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    found: dict[str, Any] = {package: {"seconds": [], "cpu": []} for package in PACKAGES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes = {package: started(package, pythons[package], options, folder, environment) for package in PACKAGES}
        try:
            for package, process in processes.items():
                answer(package, process, folder)  # ready, and warm
            for _ in range(-(-options.steps // options.turn)):
                for package, process in processes.items():
                    print(options.turn, file=process.stdin, flush=True)
                    for key, value in answer(package, process, folder).items():
                        found[package][key].append(value / options.turn)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    return summary(found)


def started(
    package: str, python: str, options: argparse.Namespace, folder: Path, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """The training of a package, waiting before its first counted step."""
    command = [python, str(HERE / "wall_time.py"), options.protocol, str(options.data.resolve())]
    command += ["--worker", package, "--folder", str(folder / package)]
    with (folder / f"{package}.log").open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )


def answer(package: str, process: subprocess.Popen[str], folder: Path) -> dict[str, float]:
    """The time of an interval."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        sys.exit(f"{package} ended:\n" + (folder / f"{package}.log").read_text()[-3000:])
    found: dict[str, float] = json.loads(line)
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds per step, and how many times faster macekit is."""
    result: dict[str, Any] = {}
    for package, times in found.items():
        wall = times["seconds"]
        values = {"mean_ms": statistics.mean(wall), "median_ms": statistics.median(wall), "best_ms": min(wall)}
        values["cpu_mean_ms"] = statistics.mean(times["cpu"])
        result[package] = {name: round(1e3 * value, 2) for name, value in values.items()}
        result[package]["turns_ms"] = [round(1e3 * value, 2) for value in wall]
    for name, kind in (("wall", "seconds"), ("cpu", "cpu")):
        slow, fast = found["mace_torch"][kind], found["macekit"][kind]
        result[f"ratio_{name}_total"] = round(sum(slow) / sum(fast), 2)
        result[f"ratio_{name}_median"] = round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 2)
    return result


def main() -> None:
    """Measure on every number of threads, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("data", type=Path, help="folder with the files of the protocol")
    parser.add_argument("--mace-torch", default=sys.executable, help="Python with mace-torch 0.3.16")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, help="counted steps of each package; one epoch where not given")
    parser.add_argument("--turn", type=int, default=5, help="steps per turn")
    parser.add_argument("--worker", choices=PACKAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    protocol = PROTOCOLS[options.protocol]
    if options.worker:
        work(options.worker, protocol, options.data, options.folder)
        return
    options.steps = options.steps or -(-protocol.num_train // protocol.batch_size)
    output = HERE / options.protocol / "wall_time.json"
    results = json.loads(output.read_text()) if output.exists() else {}
    for threads in options.threads:
        load = os.getloadavg()[0]
        measured = {"steps": options.steps, "steps_per_turn": options.turn, "load_before": load}
        results[str(threads)] = measured | measure(options, threads)
        found = results[str(threads)]
        steps = " against ".join(f"{found[package]['mean_ms']} ms" for package in PACKAGES)
        print(
            f"{threads} threads: {steps} a step; {found['ratio_wall_total']} times faster, in processor time ", end=""
        )
        print(f"{found['ratio_cpu_total']} times; load of the machine before {load:.1f}")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
