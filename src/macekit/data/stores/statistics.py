"""What a model needs to know about structures, measured shard by shard while they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from macekit.data.census import count_elements, has_label
from macekit.data.composition import counts_of
from macekit.data.isolated import is_isolated_atom
from macekit.data.stores.moments import Moments
from macekit.data.structure import Structure


@dataclass(frozen=True)
class Components:
    """Sums over all numbers of a target."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Components) -> Components:
        """Those of both."""
        return Components(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """0 without numbers."""
        return self.total / self.count if self.count else 0.0

    @property
    def rms(self) -> float:
        """Root mean square; 0 without numbers."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation; 0 without numbers."""
        return float(np.sqrt(max(self.squares / self.count - self.mean**2, 0.0))) if self.count else 0.0


@dataclass(frozen=True)
class GraphScalar:
    """Sums over the labels of a graph scalar."""

    totals: Moments = field(default_factory=Moments)
    """Labels by numbers of atoms."""
    isolated: Moments = field(default_factory=Moments)
    """The same of isolated atoms, which `totals` has not."""
    per_atom: dict[str, Moments] = field(default_factory=dict)
    """Labels per atom by fractions of elements, by config type; isolated atoms not included."""
    isolated_labels: dict[int, list[tuple[float, str]]] = field(default_factory=dict)
    """Different labels of isolated atoms, with the frame, by atomic number."""

    def plus(self, other: GraphScalar) -> GraphScalar:
        """Those of both."""
        names = [*self.per_atom, *(name for name in other.per_atom if name not in self.per_atom)]
        labels = {z: list(found) for z, found in self.isolated_labels.items()}
        for z, found in other.isolated_labels.items():
            known = labels.setdefault(z, [])
            known += [pair for pair in found if all(pair[0] != value for value, _ in known)]
        return GraphScalar(
            self.totals.merged(other.totals),
            self.isolated.merged(other.isolated),
            {n: self.per_atom.get(n, Moments()).merged(other.per_atom.get(n, Moments())) for n in names},
            labels,
        )


@dataclass(frozen=True)
class StoreStatistics:
    """Sums over structures."""

    structures: int = 0
    isolated: int = 0
    """Isolated atoms among them."""
    atoms: int = 0
    bulk_atoms: int = 0
    """Atoms of all but isolated atoms."""
    edges: int = 0
    elements: dict[int, int] = field(default_factory=dict)
    """Atoms by atomic number, ascending."""
    bond_features: int = 0
    """Largest number of features of a bond."""
    graph_scalars: dict[str, GraphScalar] = field(default_factory=dict)
    """By target."""
    components: dict[str, Components] = field(default_factory=dict)
    """By target that is no graph scalar; isolated atoms not included."""

    @classmethod
    def of(cls, structures: Sequence[Structure], kinds: Mapping[str, str], edges: int) -> Self:
        """Of some structures with `edges` directed edges in all; `kinds` as `TargetsConfig.kinds()`."""
        alone = [structure for structure in structures if is_isolated_atom(structure)]
        bulk = [structure for structure in structures if not is_isolated_atom(structure)]
        return cls(
            structures=len(structures),
            isolated=len(alone),
            atoms=sum(map(len, structures)),
            bulk_atoms=sum(map(len, bulk)),
            edges=edges,
            elements=count_elements(structures),
            bond_features=max((structure.bond_features.shape[1] for structure in structures), default=0),
            graph_scalars={
                target: _graph_scalar(bulk, alone, target) for target, kind in kinds.items() if kind == "graph_scalar"
            },
            components={target: _components(bulk, target) for target, kind in kinds.items() if kind != "graph_scalar"},
        )

    def plus(self, other: StoreStatistics) -> StoreStatistics:
        """The sums over both."""
        elements = Counter(self.elements) + Counter(other.elements)
        scalars, components = self.graph_scalars, self.components
        return StoreStatistics(
            self.structures + other.structures,
            self.isolated + other.isolated,
            self.atoms + other.atoms,
            self.bulk_atoms + other.bulk_atoms,
            self.edges + other.edges,
            dict(sorted(elements.items())),
            max(self.bond_features, other.bond_features),
            {t: scalars.get(t, GraphScalar()).plus(sums) for t, sums in other.graph_scalars.items()},
            {t: components.get(t, Components()).plus(sums) for t, sums in other.components.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("structures", "isolated", "atoms", "bulk_atoms", "edges")}
        return {
            **plain,
            "elements": {str(z): count for z, count in self.elements.items()},
            "bond_features": self.bond_features,
            "graph_scalars": {
                target: {
                    "totals": sums.totals.to_dict(),
                    "isolated": sums.isolated.to_dict(),
                    "per_atom": {name: moments.to_dict() for name, moments in sums.per_atom.items()},
                    "isolated_labels": {str(z): labels for z, labels in sums.isolated_labels.items()},
                }
                for target, sums in self.graph_scalars.items()
            },
            "components": {t: [sums.count, sums.total, sums.squares] for t, sums in self.components.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        plain = {name: values[name] for name in ("structures", "isolated", "atoms", "bulk_atoms", "edges")}
        scalars = {
            target: GraphScalar(
                Moments.from_dict(sums["totals"]),
                Moments.from_dict(sums["isolated"]),
                {name: Moments.from_dict(moments) for name, moments in sums["per_atom"].items()},
                {int(z): [(float(v), str(s)) for v, s in labels] for z, labels in sums["isolated_labels"].items()},
            )
            for target, sums in values["graph_scalars"].items()
        }
        return cls(
            **plain,
            elements={int(z): int(count) for z, count in values["elements"].items()},
            bond_features=int(values["bond_features"]),
            graph_scalars=scalars,
            components={target: Components(*sums) for target, sums in values["components"].items()},
        )


def _graph_scalar(bulk: Sequence[Structure], alone: Sequence[Structure], target: str) -> GraphScalar:
    labels: dict[int, list[tuple[float, str]]] = {}
    for atom in (structure for structure in alone if has_label(structure, target)):
        known = labels.setdefault(int(atom.atomic_numbers[0]), [])
        value = float(atom.targets[target])
        if all(value != other for other, _ in known):
            known.append((value, atom.source))
    names = dict.fromkeys(structure.config_type for structure in bulk)
    per_atom = {name: _moments([s for s in bulk if s.config_type == name], target, per_atom=True) for name in names}
    return GraphScalar(_moments(bulk, target), _moments(alone, target), per_atom, labels)


def _moments(structures: Sequence[Structure], target: str, *, per_atom: bool = False) -> Moments:
    labelled = [structure for structure in structures if has_label(structure, target) and len(structure)]
    if not labelled:
        return Moments()
    elements = tuple(count_elements(labelled))
    counts = counts_of(labelled, elements)
    values = np.array([float(structure.targets[target]) for structure in labelled])
    sizes = counts.sum(axis=1) if per_atom else np.ones(len(labelled))
    return Moments.of(elements, counts / sizes[:, None], values / sizes)


def _components(structures: Sequence[Structure], target: str) -> Components:
    found = [np.ravel(structure.targets[target]) for structure in structures if target in structure.targets]
    values = np.concatenate(found) if found else np.zeros(0)
    values = values[np.isfinite(values)]
    return Components(values.size, float(values.sum()), float(np.square(values).sum()))
