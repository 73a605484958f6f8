"""Which structures make up which batch: seeded, resumable, balanced over processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from macekit.data.structure import IntArray
from macekit.errors import ResumeError, UsageError

BLOCK: Final = 64
"""Consecutive structures that stay in one window."""


def balanced_parts(batch: Sequence[int], num_edges: IntArray, count: int) -> list[list[int]]:
    """Structures dealt out into `count` parts with about the same number of edges, in the order of the batch.

    Largest structures first, each to the part with the fewest edges so far.

    Args:
        batch: Indices of the structures.
        num_edges: Edges of every structure there is.
        count: Number of parts; some are empty where it is larger than the batch.
    """
    if count == 1:
        return [list(batch)]
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    places = sorted(range(len(batch)), key=lambda place: (-int(num_edges[batch[place]]), place))
    for place in places:
        least = min(range(count), key=lambda r: (loads[r], len(parts[r]), r))
        parts[least].append(place)
        loads[least] += int(num_edges[batch[place]]) + 1
    return [[batch[place] for place in sorted(part)] for part in parts]


class EpochSampler:
    """Batches of indices for one process; every structure exactly once per epoch over all processes.

    The global batches of an epoch depend on the seed, the epoch and the data only, never on the number of
    processes. Each global batch is dealt out so that all processes have about the same number of edges; all
    have the same number of batches, and a process's share of a batch smaller than the number of processes may
    be empty. Nothing is dropped.

    Iterating goes through the current epoch from the current position; at its end the epoch advances. A batch
    counts as done as soon as it is handed out, so `state_dict()` taken after a step resumes with the next
    one.

    Args:
        num_edges: Edges of every structure, [len(data set)].
        batch_size: Structures per batch over all processes. Larger than the data set: one batch.
        batch_edges: Edges per batch over all processes instead; a structure with more is a batch of its own.
        seed: Seed of the order.
        rank: This process, from 0.
        world_size: Number of processes.
        shuffle: Whether the order changes from epoch to epoch; otherwise it is that of the data set.
        window: Structures that are shuffled among each other, where reading in any order is slow: blocks of
            consecutive structures come in random order, and as many as fit are mixed. None: all.

    Raises:
        UsageError: Neither or both of `batch_size` and `batch_edges`, no structures, or an impossible rank.
    """

    def __init__(
        self,
        num_edges: ArrayLike,
        *,
        batch_size: int | None = None,
        batch_edges: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        window: int | None = None,
    ) -> None:
        self.num_edges = np.array(num_edges, dtype=np.int64)
        if self.num_edges.ndim != 1 or not len(self.num_edges):
            raise UsageError(
                f"sampler: expected the edges of at least one structure, got shape {list(self.num_edges.shape)}"
            )
        if (batch_size is None) == (batch_edges is None):
            raise UsageError(
                f"sampler: give batch_size or batch_edges, one of them; got {batch_size} and {batch_edges}"
            )
        limit = batch_size if batch_size is not None else batch_edges
        if limit is not None and limit < 1:
            raise UsageError(f"sampler: expected a positive batch size, got {limit}")
        if not 0 <= rank < world_size:
            raise UsageError(f"sampler: rank {rank} of {world_size} processes; expected 0 to {world_size - 1}")
        self.batch_size = batch_size
        self.batch_edges = batch_edges
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.window = window
        self.epoch = 0
        self.position = 0
        self._plan: tuple[int, IntArray, IntArray] | None = None

    def order(self, epoch: int) -> list[int]:
        """Order of all structures in an epoch."""
        return [int(index) for index in self._order(epoch)]

    def _order(self, epoch: int) -> IntArray:
        size = len(self.num_edges)
        if not self.shuffle:
            return np.arange(size)
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        if self.window is None or self.window >= size:
            return generator.permutation(size)
        blocks = generator.permutation(-(-size // BLOCK))
        together = max(self.window // BLOCK, 1)
        parts = []
        for first in range(0, len(blocks), together):
            starts = blocks[first : first + together] * BLOCK
            members = (starts[:, None] + np.arange(BLOCK)).ravel()
            parts.append(generator.permutation(members[members < size]))
        return np.concatenate(parts)

    def _planned(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Order of an epoch, and where its batches begin and the last one ends."""
        if self._plan is None or self._plan[0] != epoch:
            order = self._order(epoch)
            if self.batch_size is not None:
                starts = np.append(np.arange(0, len(order), self.batch_size), len(order))
            else:
                starts = self._starts_by_edges(order)
            self._plan = (epoch, order, starts)
        return self._plan[1:]

    def global_batches(self, epoch: int | None = None) -> list[list[int]]:
        """The batches of an epoch (default: the current one) over all processes."""
        order, starts = self._planned(self.epoch if epoch is None else epoch)
        return [order[start:stop].tolist() for start, stop in itertools.pairwise(starts)]

    def num_batches(self, epoch: int) -> int:
        """Number of batches of an epoch."""
        if self.batch_size is not None:
            return -(-len(self.num_edges) // self.batch_size)
        return len(self._planned(epoch)[1]) - 1

    def _starts_by_edges(self, order: IntArray) -> IntArray:
        """Consecutive structures are together as long as their edges fit."""
        assert self.batch_edges is not None
        starts = [0]
        total = 0
        for place, edges in enumerate(self.num_edges[order].tolist()):
            if total + edges > self.batch_edges and place > starts[-1]:
                starts.append(place)
                total = 0
            total += edges
        return np.array([*starts, len(order)], dtype=np.int64)

    def share(self, batch: Sequence[int], rank: int | None = None) -> list[int]:
        """The part of a global batch that a process (default: this one) works on."""
        rank = self.rank if rank is None else rank
        return balanced_parts(batch, self.num_edges, self.world_size)[rank]

    def __len__(self) -> int:
        """Number of batches in the current epoch, the same for every process."""
        return self.num_batches(self.epoch)

    def __iter__(self) -> Iterator[list[int]]:
        """This process's share of every batch from the current position to the end of the epoch."""
        epoch = self.epoch
        order, starts = self._planned(epoch)
        while self.epoch == epoch and self.position < len(starts) - 1:
            start, stop = starts[self.position : self.position + 2]
            self.position += 1
            yield self.share(order[start:stop].tolist())
        if self.epoch == epoch:
            self.set_epoch(epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch = epoch
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """Position in the run, as plain values."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored position; the number of processes may have changed.

        Raises:
            ResumeError: If seed, batch size or data set are not those of the stored run.
        """
        mine = self._identity()
        different = [name for name in mine if state.get(name) != mine[name]]
        if different:
            table = ", ".join(f"{name} {state.get(name)} → {mine[name]}" for name in different)
            raise ResumeError(
                f"sampler: the order of batches cannot be continued, stored → now: {table}",
                "resume with the settings and data of the stored run, or start a new run",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _identity(self) -> dict[str, Any]:
        """What the order of batches depends on."""
        return {
            "seed": self.seed,
            "num_structures": len(self.num_edges),
            "batch_size": self.batch_size,
            "batch_edges": self.batch_edges,
            "shuffle": self.shuffle,
            "window": self.window,
        }
