"""What is known about the data a model is made for. Together with the choices, all that a model is built from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from macekit.config.base import Config
from macekit.config.data import TargetsConfig
from macekit.errors import DataError, did_you_mean

AtomicNumber = Annotated[int, Field(ge=1, le=118)]


class LevelFacts(Config):
    """What one level of theory (head) has of its own; where it has nothing, the facts of all levels hold."""

    reference_energies: dict[str, list[float]] = Field(default_factory=dict)
    """E0 by graph-scalar target, one value per element, eV."""
    scale: dict[str, float] = Field(default_factory=dict)
    """Factor of the read-outs by target."""
    shift: dict[str, float] = Field(default_factory=dict)
    """Constant per atom by scalar target."""


class DatasetFacts(Config):
    """Facts about the training data."""

    elements: list[AtomicNumber]
    """Atomic numbers the model knows, ascending."""
    cutoff: Annotated[float, Field(gt=0)] = 5.0
    """Neighbour cutoff, Å."""
    avg_num_neighbours: Annotated[float, Field(gt=0)] = 1.0
    """Mean number of neighbours of an atom within the cutoff."""
    targets: TargetsConfig = Field(default_factory=TargetsConfig)
    """Target of every output."""
    reference_energies: dict[str, list[float]] = Field(default_factory=dict)
    """E0 by graph-scalar target, one value per element, eV; zeros for a target that is not here."""
    scale: dict[str, float] = Field(default_factory=dict)
    """Factor of the read-outs by target; 1 for a target that is not here."""
    shift: dict[str, float] = Field(default_factory=dict)
    """Constant per atom by scalar target; 0 for a target that is not here."""
    heads: dict[str, LevelFacts] = Field(default_factory=dict)
    """Levels of theory by name, in the order of their indices; none: a single one without a name."""
    default_head: str | None = None
    """The level of structures that name none; None: they must name one where there are several."""
    node_features: dict[str, list[float | str] | None] = Field(default_factory=dict)
    """Additional atom features, as in `data.node_features`."""
    edge_features: str | None = None
    """Key of the bond features, as in `data.edge_features`."""
    num_edge_features: int = 0
    """Number of bond features."""
    census: dict[str, Any] = Field(default_factory=dict)
    """Numbers of structures, atoms and labels seen, for the record."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.elements != sorted(set(self.elements)) or not self.elements:
            raise ValueError(f"elements: expected ascending, distinct atomic numbers, got {self.elements}")
        given = {"": self.reference_energies}
        given |= {f"heads.{name}.": level.reference_energies for name, level in self.heads.items()}
        for where, reference_energies in given.items():
            for target, energies in reference_energies.items():
                if len(energies) != len(self.elements):
                    raise ValueError(
                        f"{where}reference_energies: {target} has {len(energies)} values for "
                        f"{len(self.elements)} elements"
                    )
        if self.default_head is not None and self.default_head not in self.heads:
            raise ValueError(f"default_head: {self.default_head!r} is none of {', '.join(self.heads) or 'no heads'}")
        return self

    @property
    def num_node_features(self) -> int:
        """Initial node-feature dimension: one per element, then the additional features."""
        return len(self.elements) + sum(1 if kinds is None else len(kinds) for kinds in self.node_features.values())

    def levels(self) -> list[DatasetFacts]:
        """The facts of every level of theory, each as those of a model with this level alone."""
        return [self.at_head(name) for name in self.heads] or [self]

    def at_head(self, name: str) -> DatasetFacts:
        """The facts of a model with one level of theory alone.

        Raises:
            DataError: If there is no head of this name.
        """
        self.head_index(name)
        level = self.heads.get(name, LevelFacts())
        return self.model_copy(
            update={
                "reference_energies": self.reference_energies | level.reference_energies,
                "scale": self.scale | level.scale,
                "shift": self.shift | level.shift,
                "heads": {name: LevelFacts()} if self.heads else {},
                "default_head": name if self.heads else None,
            }
        )

    def shifted(self, target: str, changes: Sequence[float]) -> DatasetFacts:
        """The facts with the constant per atom of a target changed, by one number for every level of theory."""
        if len(self.heads) < 2:
            return self.model_copy(update={"shift": self.shift | {target: self.shift.get(target, 0.0) + changes[0]}})
        heads = {}
        for (name, level), change in zip(self.heads.items(), changes, strict=True):
            before = level.shift.get(target, self.shift.get(target, 0.0))
            heads[name] = level.model_copy(update={"shift": level.shift | {target: before + change}})
        return self.model_copy(update={"heads": heads})

    def with_atoms_moved(self, target: str, changes: Sequence[Sequence[float]]) -> DatasetFacts:
        """The facts with the reference energies of a target changed, by [S] numbers for every level of theory."""
        if len(self.heads) < 2:
            return self.model_copy(
                update={"reference_energies": self._moved(self.reference_energies, target, changes[0])}
            )
        heads = {}
        for (name, level), change in zip(self.heads.items(), changes, strict=True):
            energies = self._moved(self.reference_energies | level.reference_energies, target, change)
            heads[name] = level.model_copy(update={"reference_energies": level.reference_energies | energies})
        return self.model_copy(update={"heads": heads})

    def _moved(self, energies: dict[str, list[float]], target: str, change: Sequence[float]) -> dict[str, list[float]]:
        before = energies.get(target, [0.0] * len(self.elements))
        return energies | {target: [start + more for start, more in zip(before, change, strict=True)]}

    def head_index(self, name: str, where: str = "") -> int:
        """Index of a level of theory.

        Args:
            name: Its name; empty: the default, or the only one.
            where: What asks, the start of the message.

        Raises:
            DataError: If there is none of this name, or several and no default.
        """
        names = list(self.heads)
        if not names or (not name and len(names) == 1):
            return 0
        prefix = f"{where}: " if where else ""
        chosen = name or self.default_head
        if chosen is None:
            raise DataError(
                f"{prefix}the model has {len(names)} heads and no default: {', '.join(names)}", "name one of them"
            )
        if chosen not in names:
            raise DataError(
                f"{prefix}no head '{chosen}': the model has {', '.join(names)}", did_you_mean(chosen, names)
            )
        return names.index(chosen)
