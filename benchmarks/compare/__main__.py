"""macekit beside mace-torch and symmetrix-xl: the same weights, the same structures, in one run.

    python -m benchmarks.compare [--quick] [--foundation mace_mp_small.model] [--readme README.md]

Makes a virtual environment for the peers on first use (some minutes and gigabytes), writes models with mace-torch and
converts them, runs every case with all engines in turn, and writes JSON and a table. `--peers PYTHON` takes an
existing environment with mace-torch 0.3.16 and symmetrix-xl 0.1.1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.compare.cases import CASES, CUTOFFS, ELEMENTS, FOUNDATION, HIDDEN, QUICK, SCALING, Case, model_name
from benchmarks.compare.environments import VARIABLES, peers_python
from benchmarks.compare.measurement import measure, ratio, say
from benchmarks.compare.report import bars, insert, machine, save, table
from benchmarks.compare.structures import named

HERE = Path(__file__).parent


def make_models(cases: list[Case], folder: Path, peers: Path, foundation: Path | None) -> None:
    """Model files of the cases, and their conversions by `macekit convert`."""
    from ase.neighborlist import neighbor_list

    folder.mkdir(parents=True, exist_ok=True)
    wanted = []
    for case in cases:
        name = model_name(case)
        if case.model == FOUNDATION:
            assert foundation is not None
            shutil.copyfile(foundation, folder / f"{name}.model")
        elif all(name != other["name"] for other in wanted):
            atoms, cutoff = named(case.structures)[0], CUTOFFS[case.system]
            neighbours = len(neighbor_list("i", atoms, cutoff)) / len(atoms) if len(atoms) < 10_000 else 55.0
            wanted.append({"name": name, "hidden": HIDDEN[case.model], "elements": list(ELEMENTS[case.system])})
            wanted[-1] |= {"cutoff": cutoff, "neighbours": neighbours}
    command = [str(peers), str(HERE / "engines" / "make_models.py"), str(folder), json.dumps(wanted)]
    subprocess.run(["env", *(f"{k}={v}" for k, v in VARIABLES.items()), *command], check=True, capture_output=True)
    for file in sorted(folder.glob("*.model")):
        if not file.with_suffix("").exists():
            convert = [sys.executable, "-m", "macekit", "convert", str(file), str(file.with_suffix(""))]
            subprocess.run(convert, check=True, capture_output=True)


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """The cases that the options select."""
    cases = list(QUICK if options.quick else SCALING if options.scaling else CASES)
    if options.foundation is None:
        cases = [case for case in cases if case.model != FOUNDATION]
    return [case for case in cases if all(word in case.name for word in options.only)]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases; results are saved after each."""
    cases = chosen_cases(options)
    peers = options.peers or peers_python(options.work)
    pythons = {"mace_torch": peers, "symmetrix": peers, "macekit": Path(sys.executable)}
    if options.scaling:
        pythons = {"macekit": Path(sys.executable)}
    elif options.engines:
        pythons = {engine: python for engine, python in pythons.items() if engine in options.engines}
    models = options.work / "models"
    make_models(cases, models, peers, options.foundation)
    results: dict[str, Any] = {"machine": machine(), "tuned_malloc": not options.default_malloc, "cases": {}}
    if options.add and options.output.exists():
        results["cases"] = json.loads(options.output.read_text())["cases"]
    for case in cases:
        say(case.name)
        found = measure(case, pythons, models, options.repetitions, tuned_malloc=not options.default_malloc)
        results["cases"][case.name] = found
        for engine, values in found.items():
            what = values.get("error") or (
                f"{1e3 * values['median']:.3f} ms (best {1e3 * values['best']:.3f}), "
                f"{values['us_per_atom']:.0f} µs/atom, {values['memory_MB']:.0f} MB"
            )
            times = ratio(found, engine) if engine != "macekit" else None
            say(f"  {engine:11s} {what}" + (f", macekit {times:.1f} times faster" if times else ""))
        save(options.output, results)
    return results


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model on ethanol")
    parser.add_argument("--scaling", action="store_true", help="macekit alone on 192 and 100,000 atoms")
    parser.add_argument("--only", nargs="*", default=[], help="words that a case's name must hold")
    parser.add_argument("--engines", nargs="*", help="mace_torch, symmetrix, macekit; all where not given")
    parser.add_argument("--repetitions", type=int, default=7, help="turns of every engine")
    parser.add_argument("--foundation", type=Path, help="file of MACE-MP-0 small, for its cases")
    parser.add_argument("--peers", type=Path, help="interpreter of an environment with both peers")
    parser.add_argument("--default-malloc", action="store_true", help="leave the allocator's settings alone")
    parser.add_argument("--work", type=Path, default=Path("runs/compare"), help="environments and models")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--add", action="store_true", help="keep what the output file has of other cases")
    parser.add_argument("--readme", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    results = run(options)
    cases = list(dict.fromkeys([*QUICK, *CASES, *SCALING]))
    text = table(cases, results)
    print(text)
    for line in bars(chosen_cases(options), results):
        say(line)
    if options.readme:
        insert(options.readme, text)


if __name__ == "__main__":
    main()
