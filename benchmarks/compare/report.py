"""Results as JSON and as a table."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from benchmarks.compare.cases import Case
from benchmarks.compare.measurement import ratio

BEGIN, END = "<!-- benchmarks.compare: begin -->", "<!-- benchmarks.compare: end -->"


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        processor = found[1]
    load = os.getloadavg()
    return {"processor": processor, "cores": os.cpu_count(), "load": load, "python": platform.python_version()}


def save(path: Path, results: dict[str, Any]) -> None:
    """Write the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def table(cases: list[Case], results: dict[str, Any]) -> str:
    """A row per case: milliseconds of every engine, and how many times faster macekit is."""
    lines = [
        "| work | mace-torch | symmetrix-xl | macekit | × mace-torch | × symmetrix-xl |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in cases:
        found = results["cases"].get(case.name)
        if found is None:
            continue
        times = [_milliseconds(found.get(engine, {})) for engine in ("mace_torch", "symmetrix", "macekit")]
        ratios = [_ratio(ratio(found, engine)) for engine in ("mace_torch", "symmetrix")]
        lines.append(f"| {case.title()} | {' | '.join(times)} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def bars(cases: list[Case], results: dict[str, Any]) -> list[str]:
    """A line per bar that a case has: reached or not."""
    lines = []
    for case in cases:
        found = results["cases"].get(case.name, {})
        for engine, bar in (("mace_torch", case.bar_mace_torch), ("symmetrix", case.bar_symmetrix)):
            if bar is not None:
                reached = ratio(found, engine)
                state = "not measured" if reached is None else "reached" if reached >= bar else "missed"
                lines.append(f"{state:12s} {case.name}: {_ratio(reached)} of {bar:g}× {engine}")
    return lines


def insert(page: Path, text: str) -> None:
    """Put the table between the marks of a page.

    Raises:
        ValueError: If the page has no marks.
    """
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page}: expected the lines '{BEGIN}' and '{END}'")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _milliseconds(found: dict[str, Any]) -> str:
    if "median" not in found:
        return "–"
    value = 1e3 * found["median"]
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"
