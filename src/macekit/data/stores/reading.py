"""Structures from a store, read as they are needed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from macekit.config.data import DataConfig
from macekit.data.census import LabelCensus
from macekit.data.stores.manifest import merged_census, read_manifest
from macekit.data.stores.shards import Shard, damaged, digest_of
from macekit.data.stores.statistics import StoreStatistics
from macekit.data.structure import BoolArray, IntArray, Structure
from macekit.errors import ConfigError, DataError, did_you_mean

BLOCK: Final = 64
"""Structures that are read together."""
STORE_SAYS: Final = "store.json says"


class Store:
    """A complete store.

    Args:
        directory: Where it is.
        targets: Targets to read, all of which the store must have; None: all that it has.

    Raises:
        DataError: If it is incomplete or damaged, or lacks a target.
    """

    def __init__(self, directory: str | os.PathLike[str], targets: dict[str, str] | None = None) -> None:
        self.directory = Path(directory)
        manifest = read_manifest(self.directory)
        self.hash = str(manifest["hash"])
        self.data: dict[str, Any] = manifest["data"]
        self.census: LabelCensus = merged_census([manifest["census"]])
        self.levels = {head: StoreStatistics.from_dict(sums) for head, sums in manifest["levels"].items()}
        self.statistics = StoreStatistics()
        for sums in self.levels.values():
            self.statistics = self.statistics.plus(sums)
        self.warnings: list[str] = manifest["warnings"]
        known = {row.target: row.kind for row in self.census.rows}
        self.kinds = known if targets is None else self._checked(targets, known)
        self._digests = [str(entry["sha256"]) for entry in manifest["shards"]]
        self._shards = [Shard(self.directory / e["shard"], str(e["source"])) for e in manifest["shards"]]
        for shard, entry in zip(self._shards, manifest["shards"], strict=True):
            if len(shard) != entry["frames"]:
                raise damaged(shard.path, f"{len(shard)} structures, {STORE_SAYS} {entry['frames']}")
        self._starts = np.concatenate([[0], np.cumsum([len(shard) for shard in self._shards])])
        self._verified: set[int] = set()
        self._cache: OrderedDict[tuple[int, int], list[Structure]] = OrderedDict()
        self.shuffle_window: int | None = None
        """Structures that are mixed with each other when they are shuffled; None: all."""
        self.cached_blocks = 64
        """Blocks that are kept in memory."""

    def _checked(self, targets: dict[str, str], known: dict[str, str]) -> dict[str, str]:
        for target, kind in targets.items():
            if known.get(target) != kind:
                have = ", ".join(f"{name} ({found})" for name, found in known.items())
                raise DataError(
                    f"{self.directory}: the store has no target '{target}' ({kind}); it has {have}",
                    did_you_mean(target, known) or "prepare a store with this target",
                )
        return dict(targets)

    def __len__(self) -> int:
        """Number of structures."""
        return int(self._starts[-1])

    def num_edges(self) -> IntArray:
        """Directed edges of every structure, int64 [len]."""
        return np.concatenate([shard.rows("num_edges") for shard in self._shards])

    def is_isolated(self) -> BoolArray:
        """Which structures are isolated atoms, bool [len]."""
        return np.concatenate([shard.rows("is_isolated") for shard in self._shards])

    def structure(self, index: int) -> Structure:
        """One structure.

        Raises:
            DataError: If its shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"structure {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        block, place = divmod(index - int(self._starts[number]), BLOCK)
        key = (number, block)
        if key not in self._cache:
            self._cache[key] = self._block(number, block)
            while len(self._cache) > self.cached_blocks:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key][place]

    def _block(self, number: int, block: int) -> list[Structure]:
        shard = self._shards[number]
        if number not in self._verified:
            digest = digest_of(shard.path)
            if digest != self._digests[number]:
                raise damaged(shard.path, f"sha256 {digest[:12]}…, {STORE_SAYS} {self._digests[number][:12]}…")
            self._verified.add(number)
        stop = min((block + 1) * BLOCK, len(shard))
        return shard.structures(block * BLOCK, stop, self.kinds, self.statistics.bond_features)


class StoredStructures(Sequence[Structure]):
    """Some structures of a store, in the order of the store; each is read when it is asked for.

    Args:
        store: Where they are.
        members: Their positions in it, ascending; None: all.
    """

    def __init__(self, store: Store, members: IntArray | None = None) -> None:
        self.store = store
        self.members = np.arange(len(store)) if members is None else members

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> StoredStructures: ...
    def __getitem__(self, index: int | slice) -> Structure | StoredStructures:
        """A structure, or some of them, not read yet."""
        if isinstance(index, slice):
            return StoredStructures(self.store, self.members[index])
        return self.store.structure(int(self.members[index]))

    def num_edges(self) -> IntArray:
        """Directed edges of every structure, int64 [len]."""
        return self.store.num_edges()[self.members]


def open_store(directory: str | os.PathLike[str], config: DataConfig) -> Store:
    """A store for a run.

    Raises:
        DataError: If it cannot be used.
        ConfigError: If it was prepared with another cutoff or other features than the run says.
    """
    store = Store(directory, config.targets.kinds())
    plain = config.model_dump(mode="json")
    for key in ("cutoff", "node_features", "edge_features"):
        if store.data[key] != plain[key]:
            raise ConfigError(
                f"data.{key}: {plain[key]!r}, and the store {directory} was prepared with {store.data[key]!r}",
                f"use that, or prepare another store with data.{key}={plain[key]}",
            )
    return store
