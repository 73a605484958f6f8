"""A shard: consecutive structures as flat arrays in one safetensors file, read in parts without loading the rest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from macekit.data.isolated import is_isolated_atom
from macekit.data.structure import Structure
from macekit.errors import DataError

Array = NDArray[Any]
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
_SHAPES: Final = {"graph_scalar": (), "graph_vector": (3,), "node_scalar": (), "node_vector": (3,), "stress": (3, 3)}
"""Shape of one label, per structure or per atom, by kind of target."""


def shard_bytes(
    structures: Sequence[Structure], frames: Sequence[int], edges: Sequence[int], kinds: dict[str, str]
) -> bytes:
    """The contents of a shard.

    Args:
        structures: What it holds, G in all.
        frames: Position of each in its file.
        edges: Directed edges of each.
        kinds: Kind of every target, as `TargetsConfig.kinds()`.
    """
    types = list(dict.fromkeys(structure.config_type for structure in structures))
    heads = list(dict.fromkeys(structure.head for structure in structures))
    names = sorted({name for structure in structures for name in structure.property_weights})
    width = max((s.bond_features.shape[1] for s in structures), default=0)
    arrays: dict[str, Array] = {
        "atom_offsets": _offsets([len(structure) for structure in structures]),
        "bond_offsets": _offsets([len(structure.bonds) for structure in structures]),
        "frame": np.array(frames, dtype=np.int64),
        "num_edges": np.array(edges, dtype=np.int64),
        "is_isolated": np.array([is_isolated_atom(structure) for structure in structures]),
        "config_type": np.array([types.index(structure.config_type) for structure in structures], dtype=np.int32),
        "head": np.array([heads.index(structure.head) for structure in structures], dtype=np.int32),
        "weight": np.array([structure.weight for structure in structures]),
        "cell": np.stack([structure.cell for structure in structures]),
        "pbc": np.stack([structure.pbc for structure in structures]),
        "atomic_numbers": np.concatenate([s.atomic_numbers for s in structures]).astype(np.uint8),
        "positions": np.concatenate([structure.positions for structure in structures]),
        "node_features": np.concatenate([structure.node_features for structure in structures]),
        "bonds": np.concatenate([structure.bonds for structure in structures]),
        "bond_features": np.concatenate([s.bond_features.reshape(len(s.bonds), width) for s in structures]),
    }
    for name in names:
        arrays[f"weight/{name}"] = np.array([s.property_weights.get(name, np.nan) for s in structures])
    for target, kind in kinds.items():
        arrays[f"target/{target}"] = np.concatenate([_label(structure, target, kind) for structure in structures])
    metadata = {"names": json.dumps({"config_types": types, "heads": heads})}  # one entry: their order is not fixed
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=metadata)


def _offsets(counts: Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _label(structure: Structure, target: str, kind: str) -> Array:
    shape = (len(structure) if kind.startswith("node") else 1, *_SHAPES[kind])
    value = structure.targets.get(target)
    return np.full(shape, np.nan) if value is None else np.asarray(value, dtype=np.float64).reshape(shape)


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    start: int


class Shard:
    """An open shard: its table of contents; the numbers are read when they are asked for.

    Args:
        path: The file.
        source: Name of the file its structures come from.

    Raises:
        DataError: If it is missing or damaged.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
            names = json.loads(header.pop("__metadata__")["names"])
            self.config_types: list[str] = names["config_types"]
            self.heads: list[str] = names["heads"]
            self._entries = {
                name: _Entry(_DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
                for name, entry in header.items()
            }
            self.atom_offsets, self.bond_offsets = self.rows("atom_offsets"), self.rows("bond_offsets")
        except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from None
        self.targets = [name.partition("/")[2] for name in self._entries if name.startswith("target/")]
        self._weighted = [name.partition("/")[2] for name in self._entries if name.startswith("weight/")]

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.atom_offsets) - 1

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows of an array, read from disk."""
        entry = self._entries[name]
        stop = entry.shape[0] if stop is None else stop
        width = int(np.prod(entry.shape[1:], dtype=np.int64)) * np.dtype(entry.dtype).itemsize
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), (stop - start) * width, entry.start + start * width)
        if len(data) != (stop - start) * width:
            raise damaged(self.path, "it ends too early")
        return np.frombuffer(data, dtype=entry.dtype).reshape(stop - start, *entry.shape[1:])

    def structures(self, start: int, stop: int, kinds: dict[str, str], bond_width: int) -> list[Structure]:
        """Consecutive structures, with the labels of the targets in `kinds`.

        Where no bond is in the shard, there is room for `bond_width` features.
        """
        atoms = self.atom_offsets[start : stop + 1]
        bonds = self.bond_offsets[start : stop + 1]
        per_graph = {n: self.rows(n, start, stop) for n in ("cell", "pbc", "weight", "frame", "config_type", "head")}
        weights = {name: self.rows(f"weight/{name}", start, stop) for name in self._weighted}
        per_atom = {n: self.rows(n, atoms[0], atoms[-1]) for n in ("atomic_numbers", "positions", "node_features")}
        per_bond = {n: self.rows(n, bonds[0], bonds[-1]) for n in ("bonds", "bond_features")}
        if not self.bond_offsets[-1]:
            per_bond["bond_features"] = np.zeros((0, bond_width))
        labels = {
            target: self.rows(
                f"target/{target}", *((atoms[0], atoms[-1]) if kind.startswith("node") else (start, stop))
            )
            for target, kind in kinds.items()
        }
        found = []
        for place in range(stop - start):
            inside = slice(int(atoms[place] - atoms[0]), int(atoms[place + 1] - atoms[0]))
            bonded = slice(int(bonds[place] - bonds[0]), int(bonds[place + 1] - bonds[0]))
            targets = {
                t: labels[t][inside] if kind.startswith("node") else labels[t][place] for t, kind in kinds.items()
            }
            found.append(
                Structure(
                    **{name: array[inside] for name, array in per_atom.items()},
                    **{name: array[bonded] for name, array in per_bond.items()},
                    cell=per_graph["cell"][place],
                    pbc=per_graph["pbc"][place],
                    targets={t: value for t, value in targets.items() if not np.isnan(value).all()},
                    weight=float(per_graph["weight"][place]),
                    property_weights={n: float(w[place]) for n, w in weights.items() if not np.isnan(w[place])},
                    source=f"{self.source} frame {int(per_graph['frame'][place])}",
                    config_type=self.config_types[int(per_graph["config_type"][place])],
                    head=self.heads[int(per_graph["head"][place])],
                )
            )
        return found


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from None


def damaged(path: Path, reason: str) -> DataError:
    """The error of a shard that cannot be used."""
    return DataError(
        f"{path}: this shard of the store is missing or damaged ({reason})",
        "restore it, or delete it and run the same `macekit prepare` again, which makes what is missing",
    )
