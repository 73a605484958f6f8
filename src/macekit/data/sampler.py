"""Which structures make up which batch: seeded, resumable, balanced over processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from macekit.errors import ResumeError, UsageError


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
        self.epoch = 0
        self.position = 0
        self._cached: tuple[int, list[list[int]]] | None = None

    def order(self, epoch: int) -> list[int]:
        """Order of all structures in an epoch."""
        size = len(self.num_edges)
        if not self.shuffle:
            return list(range(size))
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        return [int(index) for index in generator.permutation(size)]

    def global_batches(self, epoch: int | None = None) -> list[list[int]]:
        """The batches of an epoch (default: the current one) over all processes."""
        epoch = self.epoch if epoch is None else epoch
        if self._cached is None or self._cached[0] != epoch:
            order = self.order(epoch)
            if self.batch_size is not None:
                batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
            else:
                batches = self._by_edges(order)
            self._cached = (epoch, batches)
        return [list(batch) for batch in self._cached[1]]

    def _by_edges(self, order: Sequence[int]) -> list[list[int]]:
        """Consecutive structures as long as their edges fit."""
        assert self.batch_edges is not None
        batches: list[list[int]] = []
        total = 0
        for index in order:
            edges = int(self.num_edges[index])
            if not batches or total + edges > self.batch_edges:
                batches.append([])
                total = 0
            batches[-1].append(index)
            total += edges
        return batches

    def share(self, batch: Sequence[int], rank: int | None = None) -> list[int]:
        """The part of a global batch that a process (default: this one) works on.

        Largest structures first, each to the process with the fewest edges so far.
        """
        rank = self.rank if rank is None else rank
        if self.world_size == 1:
            return list(batch)
        shares: list[list[int]] = [[] for _ in range(self.world_size)]
        loads = [0] * self.world_size
        places = sorted(range(len(batch)), key=lambda place: (-int(self.num_edges[batch[place]]), place))
        for place in places:
            least = min(range(self.world_size), key=lambda r: (loads[r], len(shares[r]), r))
            shares[least].append(place)
            loads[least] += int(self.num_edges[batch[place]]) + 1
        return [batch[place] for place in sorted(shares[rank])]

    def __len__(self) -> int:
        """Number of batches in the current epoch, the same for every process."""
        return len(self.global_batches())

    def __iter__(self) -> Iterator[list[int]]:
        """This process's share of every batch from the current position to the end of the epoch."""
        batches = self.global_batches()
        epoch = self.epoch
        while self.epoch == epoch and self.position < len(batches):
            batch = batches[self.position]
            self.position += 1
            yield self.share(batch)
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
        }
