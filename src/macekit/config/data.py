"""The data section: files, targets, keys, units, and what is measured from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from macekit.config.base import Config

PositiveFloat = Annotated[float, Field(gt=0)]


class TargetsConfig(Config):
    """Which target each output of the model learns. Results are addressed by these names."""

    y_graph_scalars: list[str] = Field(default_factory=lambda: ["energy"])
    """Scalars per structure, in the order of the output columns. Forces and stress belong to `energy`, or to the
    first."""
    y_graph_vector: str | None = None
    """A vector per structure, such as a dipole."""
    y_node_scalars: list[str] = Field(default_factory=list)
    """Scalars per atom, such as charges, in the order of the output columns."""
    y_node_vector: str | None = None
    """A vector per atom: the forces (with `compute_forces`), or a direct vector."""
    stress: str | None = None
    """The stress, eV/Å³."""

    @field_validator("y_graph_scalars", "y_node_scalars", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else [] if value is None else value

    @property
    def energy(self) -> str | None:
        """The graph scalar whose derivatives are forces and stress."""
        if "energy" in self.y_graph_scalars or not self.y_graph_scalars:
            return "energy" if self.y_graph_scalars else None
        return self.y_graph_scalars[0]

    def kinds(self) -> dict[str, str]:
        """Kind of every target by its name: graph_scalar, graph_vector, node_scalar, node_vector or stress."""
        found = dict.fromkeys(self.y_graph_scalars, "graph_scalar")
        if self.y_graph_vector:
            found[self.y_graph_vector] = "graph_vector"
        found |= dict.fromkeys(self.y_node_scalars, "node_scalar")
        if self.y_node_vector:
            found[self.y_node_vector] = "node_vector"
        if self.stress:
            found[self.stress] = "stress"
        return found


class UnitsConfig(Config):
    """Units of the labels in the files; converted on reading."""

    energy: str = "eV"
    """Unit of energies: eV, meV, hartree, rydberg, kcal/mol or kJ/mol."""
    length: str = "angstrom"
    """Unit of positions and cells, and with `energy` of forces: angstrom, bohr or nm."""
    stress: str = "eV/angstrom^3"
    """Unit of the stress: eV/angstrom^3, GPa or kbar."""
    dipole: str = "e*angstrom"
    """Unit of a dipole: e*angstrom, debye or e*bohr."""


class SourceConfig(Config):
    """One file with its weight and level of theory."""

    file: str
    """Anything ASE reads, extxyz first."""
    weight: PositiveFloat = 1.0
    """Factor of the loss of every structure of this file."""
    head: str | None = None
    """Level of theory of the labels of this file; null: what its frames name as `head`, if anything."""


class DataConfig(Config):
    """Where the structures come from and what is learned from them."""

    train: list[str | SourceConfig]
    """Training files: a name, a list, or mappings with `file`, `weight` and `head`; or one store made by `macekit
    prepare`. Every head (level of theory) gets read-outs, reference energies and scales of its own."""
    validation: Annotated[float, Field(gt=0, lt=1)] | list[str | SourceConfig] = 0.1
    """A fraction of the training structures (drawn once with the seed, and stored), or files."""
    test: dict[str, list[str | SourceConfig]] = Field(default_factory=dict)
    """Test sets by name; evaluated after training."""
    cutoff: PositiveFloat = 5.0
    """Distance within which atoms see each other, Å."""
    targets: TargetsConfig = Field(default_factory=TargetsConfig)
    """Target of every output."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Key in the files for a target, where auto-detection is not wanted."""
    reference_energies: Literal["fit", "isolated_atoms", "none"] | dict[str, float] | dict[str, Any] = "fit"
    """E0 per element: least squares, from isolated atoms in the training files, none, or values by symbol, eV. With
    several graph scalars: a mapping from target to one of these; with several heads: a mapping from every head to
    one of these."""
    units: UnitsConfig = Field(default_factory=UnitsConfig)
    """Units of the labels in the files."""
    node_features: dict[str, list[float | str] | None] = Field(default_factory=dict)
    """Additional atom features: name of a per-atom array → its categories (one-hot encoded), or null to take numbers
    as they are."""
    edge_features: str | None = None
    """Key in `info` of bond features: rows [i, j, feature, ...]; zero for pairs that are not bonded."""
    on_bad_frame: Literal["error", "skip"] = "error"
    """What a frame that cannot be used does: stop the run, or be left out, counted and printed."""
    shuffle_window: PositiveInt = 4096
    """Structures of a store that are mixed with each other; the parts of a store come in random order. More mix better
    and need more memory. Files are always mixed as a whole."""

    @field_validator("train", mode="before")
    @classmethod
    def _train_list(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("validation", mode="before")
    @classmethod
    def _validation_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, (str, dict, SourceConfig)) else value

    @field_validator("test", mode="before")
    @classmethod
    def _test_sets(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, (str, list)):
            value = {"test": value}
        return {name: files if isinstance(files, list) else [files] for name, files in value.items()}
