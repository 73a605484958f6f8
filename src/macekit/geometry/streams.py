"""Batches from a store: structures are read and graphs are made when they are asked for, and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.data.stores import StoredStructures
from macekit.geometry.batch import GraphDataset

T = TypeVar("T")


class StreamedGraphs(GraphDataset):
    """Structures of a store with their graphs. Needs memory for the batch at hand and some blocks of the store.

    Args:
        structures: The structures, in order.
        facts: Elements, cutoff and targets of the model.
    """

    reads_when_asked = True
    structures: StoredStructures

    def __init__(self, structures: StoredStructures, facts: DatasetFacts) -> None:
        super().__init__(structures, facts)
        self._num_edges = structures.num_edges()
        self.shuffle_window = structures.store.shuffle_window

    def num_edges(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Number of directed edges of every structure, int64 [len], as counted when the store was made."""
        return self._num_edges

    def shortest_edge(self) -> float:
        """0 Å: not known before all have been read."""
        return 0.0

    def _each(self, make: Callable[[Structure], T]) -> Sequence[T]:
        return _Made(self.structures, make)


class _Made(Sequence[T], Generic[T]):
    """What a function makes of every structure, when it is asked for."""

    def __init__(self, structures: Sequence[Structure], make: Callable[[Structure], T]) -> None:
        self.structures, self.make = structures, make

    def __len__(self) -> int:
        return len(self.structures)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self.make(structure) for structure in self.structures[index]]
        return self.make(self.structures[index])

    def __iter__(self) -> Iterator[T]:
        return (self.make(structure) for structure in self.structures)


def graphs_of(structures: Sequence[Structure], facts: DatasetFacts) -> GraphDataset:
    """Batches of structures, read from their store as needed where they are in one."""
    if isinstance(structures, StoredStructures):
        return StreamedGraphs(structures, facts)
    return GraphDataset(structures, facts)
