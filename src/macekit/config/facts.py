"""What is known about the data a model is made for. Together with the choices, all that a model is built from."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from macekit.config.base import Config
from macekit.config.data import TargetsConfig

AtomicNumber = Annotated[int, Field(ge=1, le=118)]


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
        for target, energies in self.reference_energies.items():
            if len(energies) != len(self.elements):
                raise ValueError(
                    f"reference_energies: {target} has {len(energies)} values for {len(self.elements)} elements"
                )
        return self

    @property
    def num_node_features(self) -> int:
        """Initial node-feature dimension: one per element, then the additional features."""
        return len(self.elements) + sum(1 if kinds is None else len(kinds) for kinds in self.node_features.values())
