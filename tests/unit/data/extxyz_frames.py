"""Small extended XYZ texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from macekit.config import DataConfig

WATER = [("O", 0.0, 0.0, 0.12), ("H", 0.0, 0.76, -0.47), ("H", 0.0, -0.76, -0.47)]


def water(info: str = "energy=-14.2", forces: bool = True, shift: float = 0.0, name: str = "forces") -> str:
    """One water molecule; `shift` moves one hydrogen."""
    columns = f":{name}:R:3" if forces else ""
    lines = ["3", f'Properties=species:S:1:pos:R:3{columns} {info} pbc="F F F"']
    for index, (symbol, x, y, z) in enumerate(WATER):
        row = f"{symbol} {x:.6f} {y + (shift if index == 1 else 0.0):.6f} {z:.6f}"
        lines.append(row + (f" 0.1 {0.2 * index:.3f} -0.3" if forces else ""))
    return "\n".join(lines) + "\n"


def write(path: Path, *texts: str) -> Path:
    """Write frames to a file."""
    path.write_bytes("".join(texts).encode())
    return path


def config(file: Path | Sequence[Path], **fields: Any) -> DataConfig:
    """Configuration for energies and forces."""
    files = [str(file)] if isinstance(file, Path) else [str(f) for f in file]
    targets = fields.pop("targets", {"y_graph_scalars": ["energy"], "y_node_vector": "forces"})
    return DataConfig(train=files, targets=targets, **fields)
