"""What a store says about itself: `store.json`, one entry per shard, and the label census of all of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from macekit.data.census import LabelCensus, TargetCensus
from macekit.errors import DataError

SCHEMA: Final = 1
"""Version of the layout of a store."""
_KEYS: Final = ("hash", "data", "shards", "census", "levels", "warnings")
STORE, PREPARATION = "store.json", "preparation.json"
"""Written when a store is complete; when its preparation begins."""


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a store, complete or not."""
    return any((Path(path) / name).is_file() for name in (STORE, PREPARATION))


def write_json(path: Path, values: Any) -> None:
    """Write JSON to disk, all or nothing."""
    partial = path.with_name(path.name + ".partial")
    write_bytes(partial, (json.dumps(values) + "\n").encode())
    partial.replace(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and have it on disk.

    Raises:
        DataError: If it cannot be written, as on a full disk.
    """
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot be written ({error.strerror})",
            "make room, then run the same `macekit prepare` again: it goes on where it stopped",
        ) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file; None where there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a complete store.

    Raises:
        DataError: If it is not complete, not a store, or of another layout.
    """
    values = read_json(directory / STORE)
    if values is None:
        unfinished = (directory / PREPARATION).is_file() and not (directory / STORE).exists()
        problem = "the preparation of this store was not finished" if unfinished else "not a store of structures"
        raise DataError(
            f"{directory}: {problem}", f"run `macekit prepare DATA {directory}`, again where it was stopped"
        )
    if values.get("schema") != SCHEMA:
        raise DataError(
            f"{directory}: store of layout {values.get('schema')}, and this version of macekit reads {SCHEMA}",
            "prepare it again, or use the version that wrote it",
        )
    if missing := [key for key in _KEYS if key not in values]:
        raise DataError(f"{directory / STORE}: damaged, {', '.join(missing)} missing", "prepare the store again")
    return values


def content_hash(shards: Sequence[dict[str, Any]]) -> str:
    """Hash of everything in a store."""
    return hashlib.sha256("".join(str(shard["sha256"]) for shard in shards).encode()).hexdigest()[:16]


def merged_census(entries: Sequence[dict[str, Any]]) -> LabelCensus:
    """The census over shards, from `LabelCensus.to_dict()` of each with the numbers of label components."""
    names = ("num_structures", "num_atoms", "frames_read", "frames_empty", "frames_bad")
    sums: dict[str, Any] = {name: sum(int(entry["census"][name]) for entry in entries) for name in names}
    for name in ("config_types", "files"):
        sums[name] = _summed([entry["census"][name] for entry in entries])
    elements = _summed([{int(z): n for z, n in entry["census"]["elements"].items()} for entry in entries])
    targets = dict.fromkeys(target for entry in entries for target in entry["census"]["targets"])
    rows = tuple(
        _merged_row([(e["census"]["targets"][t], e["num_values"].get(t, 0)) for e in entries]) for t in targets
    )
    not_learned: dict[str, list[str]] = {}
    for entry in entries:
        for name, keys in entry["census"].get("not_learned", {}).items():
            not_learned[name] = list(dict.fromkeys([*not_learned.get(name, []), *keys]))
    return LabelCensus(rows=rows, elements=dict(sorted(elements.items())), not_learned=not_learned, **sums)


def _summed(counts: Sequence[dict[Any, int]]) -> dict[Any, int]:
    total: Counter[Any] = Counter()
    for found in counts:
        total.update(found)
    return dict(total)


def _merged_row(rows: Sequence[tuple[dict[str, Any], int]]) -> TargetCensus:
    filled = [(row, count) for row, count in rows if count]
    number = sum(count for _, count in filled)
    units = dict.fromkeys(row["conversion"] for row, _ in rows if row["conversion"])
    return TargetCensus(
        target=rows[0][0]["target"],
        kind=rows[0][0]["kind"],
        keys=_summed([row["keys"] for row, _ in rows]),
        found=sum(row["found"] for row, _ in rows),
        missing=sum(row["missing"] for row, _ in rows),
        minimum=min((row["minimum"] for row, _ in filled), default=None),
        maximum=max((row["maximum"] for row, _ in filled), default=None),
        mean=sum(row["mean"] * count for row, count in filled) / number if number else None,
        conversion=", ".join(units),
    )
