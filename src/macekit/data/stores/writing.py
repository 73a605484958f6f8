"""Making a store: files are read once, in pieces, and every piece becomes a shard with its statistics and census."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import macekit
from macekit.config.data import DataConfig, SourceConfig
from macekit.data.labels import ChosenKey
from macekit.data.pieces import ReadPiece, pieces_of_file
from macekit.data.reader import Reader, sources_of, with_equal_bond_features
from macekit.data.stores.manifest import (
    PREPARATION,
    SCHEMA,
    STORE,
    content_hash,
    merged_census,
    read_json,
    write_bytes,
    write_json,
)
from macekit.data.stores.shards import digest_of, shard_bytes
from macekit.data.stores.statistics import StoreStatistics
from macekit.data.structure import Structure
from macekit.data.suspicions import suspicions
from macekit.errors import DataError

SHARD_FRAMES: Final = 4096
"""Frames of a shard."""
MOST_WARNINGS: Final = 40
"""Warnings that are kept."""
CountEdges = Callable[[Structure], int]
Report = Callable[[str], None]


class StoreWriter:
    """Prepares a store, or goes on where a preparation was stopped.

    Shards that are there and whole are kept; others are made. The same files, configuration and size of shards give
    the same store.

    Args:
        directory: Where the store is made.
        config: Files (`train`), targets, keys, units, cutoff and features.
        count_edges: Number of directed edges of a structure.
        optional: Targets that no frame needs to have.
        shard_frames: Frames per shard.
        report: Receives a line after every shard.

    Raises:
        DataError: If the directory holds another preparation, with the differences.
    """

    def __init__(
        self,
        directory: Path,
        config: DataConfig,
        count_edges: CountEdges,
        *,
        optional: Collection[str] = (),
        shard_frames: int = SHARD_FRAMES,
        report: Report = lambda line: None,
    ) -> None:
        self.directory, self.config, self.count_edges = directory, config, count_edges
        self.optional, self.shard_frames, self.report = optional, shard_frames, report
        self.sources = sources_of(config.train)
        self.kinds = config.targets.kinds()
        self._names: list[str] = []
        self._keys: dict[int, dict[str, str]] = {}
        self._begin()

    def _begin(self) -> None:
        """Note what is being prepared, and make sure that what is there is the same."""
        identity = self._identity()
        before = read_json(self.directory / PREPARATION)
        if before is None:
            if self.directory.is_dir() and any(self.directory.glob("shard-*")):
                raise DataError(f"{self.directory}: holds shards of an unknown preparation", "give an empty directory")
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(self.directory / PREPARATION, identity)
            return
        differing = [
            f"{key}: {before.get(key)!r} then, {identity[key]!r} now"
            for key in identity
            if before.get(key) != identity[key]
        ]
        if differing:
            raise DataError(
                f"{self.directory}: this store is being made from other data; {'; '.join(differing)}",
                "give another directory, or delete this one",
            )

    def _identity(self) -> dict[str, Any]:
        plain = self.config.model_dump(mode="json")
        kept = ("targets", "keys", "units", "cutoff", "node_features", "edge_features", "on_bad_frame")
        files = []
        for source in self.sources:
            path = Path(source.file)
            state = path.stat() if path.exists() else None
            files.append([path.name, source.weight, source.head, state and state.st_size, state and state.st_mtime_ns])
        return {"schema": SCHEMA, "files": files, "shard_frames": self.shard_frames, **{k: plain[k] for k in kept}}

    def run(self) -> list[str]:
        """Make the store; the warnings about its structures.

        Raises:
            DataError: For files, frames or labels that cannot be used, or a full disk. What is done stays.
        """
        entries: list[dict[str, Any]] = []
        for number, source in enumerate(self.sources):
            for entry in self._shards(number, source, len(entries)):
                entries.append(entry)
                shard = entry["shard"] or "no usable frames"
                done = sum(int(e["census"]["num_structures"]) for e in entries)
                self.report(f"{shard}: {done} structures so far" + ("" if entry["is_new"] else " (was there)"))
        census = merged_census(entries)
        for row in census.rows:
            if row.found == 0 and row.target not in self.optional:
                raise DataError(
                    f"{', '.join(self._names)}: no frame has a label for target '{row.target}'",
                    f"name its key: data.keys.{row.target}: ...; or remove the target",
                )
        if not census.num_structures:
            raise DataError(f"no usable frames in {', '.join(self._names)}", "see data.on_bad_frame")
        levels: dict[str, StoreStatistics] = {}
        for entry in entries:
            for head, sums in entry["levels"].items():
                levels[head] = levels.get(head, StoreStatistics()).plus(StoreStatistics.from_dict(sums))
        filled = [entry for entry in entries if entry["shard"]]
        warnings = list(dict.fromkeys(text for entry in entries for text in entry["warnings"]))
        manifest = {
            "schema": SCHEMA,
            "macekit": macekit.__version__,
            "hash": content_hash(filled),
            "data": self._identity(),
            "shards": [{key: entry[key] for key in ("shard", "sha256", "source", "frames")} for entry in filled],
            "census": {"census": census.to_dict(), "num_values": _summed_values(entries)},
            "levels": {head: statistics.to_dict() for head, statistics in levels.items()},
            "warnings": warnings[:MOST_WARNINGS],
        }
        write_json(self.directory / STORE, manifest)
        return warnings

    def _shards(self, file: int, source: SourceConfig, first: int) -> Iterator[dict[str, Any]]:
        """Entries of the shards of one file, made or found."""
        skip_bad = self.config.on_bad_frame == "skip"
        pieces = pieces_of_file(source.file, self.shard_frames, skip_bad=skip_bad, taken_names=self._names)
        index = 0
        name = Path(source.file).name
        for number, piece in enumerate(pieces, first):
            kept = self._kept(number, file)
            entry = {**kept, "is_new": False} if kept else self._made(number, file, source, piece, index)
            index, name = int(entry["next_frame"]), str(entry["source"])
            yield entry
        self._names.append(name)

    def _kept(self, number: int, file: int) -> dict[str, Any] | None:
        """The entry of a shard that is there and whole."""
        entry = read_json(self.directory / f"shard-{number:06d}.json")
        if entry is None or entry.get("file") != file:
            return None
        if entry["shard"]:
            path = self.directory / entry["shard"]
            if not path.is_file() or digest_of(path) != entry["sha256"]:
                self.report(f"{entry['shard']} is damaged or missing; it is made again")
                return None
        self._check_keys(file, entry["keys"], entry["source"])
        return entry

    def _made(self, number: int, file: int, source: SourceConfig, piece: ReadPiece, index: int) -> dict[str, Any]:
        """Read a piece, write its shard, then its entry, which makes it count."""
        found, index = piece(index)
        reader = Reader(self.config)
        reader.names = [*self._names, found.name]
        chosen = reader.take(found, source)
        keys = {target: key.key for target, key in chosen.items() if isinstance(key, ChosenKey)}
        self._check_keys(file, keys, found.name)
        structures = with_equal_bond_features(reader.structures)
        edges = [self.count_edges(structure) for structure in structures]
        shard = f"shard-{number:06d}.safetensors" if structures else None
        if shard:
            frames = [int(structure.source.rpartition(" ")[2]) for structure in structures]
            partial = self.directory / f"{shard}.partial"
            write_bytes(partial, shard_bytes(structures, frames, edges, self.kinds))
            partial.replace(self.directory / shard)
        entry = {
            "file": file,
            "source": found.name,
            "shard": shard,
            "sha256": digest_of(self.directory / shard) if shard else None,
            "frames": len(structures),
            "next_frame": index,
            "keys": keys,
            "census": reader.taker.census(structures).to_dict(),
            "num_values": {target: _num_values(structures, target) for target in self.kinds},
            "levels": self._levels(structures, edges),
            "warnings": [*reader.warnings, *suspicions(structures, reader.quantities, self.config)],
        }
        write_json(self.directory / f"shard-{number:06d}.json", entry)
        return {**entry, "is_new": True}

    def _levels(self, structures: Sequence[Structure], edges: Sequence[int]) -> dict[str, Any]:
        """Statistics of every level of theory, by its name."""
        found = {}
        for head in dict.fromkeys(structure.head for structure in structures):
            chosen = [place for place, structure in enumerate(structures) if structure.head == head]
            part = [structures[place] for place in chosen]
            found[head] = StoreStatistics.of(part, self.kinds, sum(edges[place] for place in chosen)).to_dict()
        return found

    def _check_keys(self, file: int, keys: dict[str, str], name: str) -> None:
        """All pieces of a file take a label from the same key."""
        known = self._keys.setdefault(file, {})
        for target, key in keys.items():
            if known.setdefault(target, key) != key:
                raise DataError(
                    f"{name}: target '{target}' is under '{known[target]}' in some frames and under '{key}' in others",
                    f"choose one: data.keys.{target}: {known[target]}",
                )


def _num_values(structures: Sequence[Structure], target: str) -> int:
    return sum(int(np.isfinite(s.targets[target]).sum()) for s in structures if target in s.targets)


def _summed_values(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    targets = dict.fromkeys(target for entry in entries for target in entry["num_values"])
    return {target: sum(entry["num_values"][target] for entry in entries) for target in targets}
