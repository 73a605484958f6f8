"""The immutable structure: what the rest of macekit knows about a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
Categories: TypeAlias = Mapping[str, Sequence[float | str] | None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Structure:
    """Atoms in space with the labels, weights and features that belong to them. Immutable.

    Every array is copied on construction and read-only. N atoms, F additional atom features, B bonds.
    Shapes are checked here; `validate_structure` checks that the values make sense.

    Raises:
        DataError: If an array has the wrong shape or is not numeric; names `source`.
    """

    atomic_numbers: IntArray
    """int64 [N]."""
    positions: FloatArray
    """float64 [N, 3], Å."""
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    """Lattice vectors as rows, float64 [3, 3], Å. Irrelevant along directions that are not periodic."""
    pbc: BoolArray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    """Periodicity along each lattice vector, bool [3]."""
    targets: Mapping[str, FloatArray] = field(default_factory=dict)
    """Labels by target name, float64, macekit's units. A missing label is absent or NaN."""
    weight: float = 1.0
    """Factor of the loss of this structure."""
    property_weights: Mapping[str, float] = field(default_factory=dict)
    """Factors of the losses of single targets, by target name; 1 where absent."""
    node_features: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    """Additional atom features, one-hot encoded where categorical, float64 [N, F]."""
    bonds: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    """Pairs of bonded atoms, int64 [B, 2]."""
    bond_features: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    """float64 [B, De]."""
    source: str = ""
    """Where the structure comes from: "train.extxyz frame 12", counted from 0."""
    config_type: str = "Default"
    """Group of the structure in tables of errors."""
    head: str = ""
    """Level of theory of the labels and of predictions, by the name of the model's head; empty: its default."""

    def __post_init__(self) -> None:
        """Copy, convert, check the shapes, and make everything read-only."""
        where = self.source or "structure"
        numbers = _frozen(self.atomic_numbers, np.int64, (None,), "atomic_numbers", where)
        size = len(numbers)
        features = self.node_features if np.size(self.node_features) else np.zeros((size, _width(self.node_features)))
        bonds = self.bonds if np.size(self.bonds) else np.zeros((0, 2), dtype=np.int64)
        bond_features = _frozen(self.bond_features, np.float64, (None, None), "bond_features", where)
        values: dict[str, Any] = {
            "atomic_numbers": numbers,
            "positions": _frozen(self.positions, np.float64, (size, 3), "positions", where),
            "cell": _frozen(self.cell, np.float64, (3, 3), "cell", where),
            "pbc": _frozen(
                np.broadcast_to(self.pbc, 3) if np.ndim(self.pbc) == 0 else self.pbc,
                np.bool_,
                (3,),
                "pbc",
                where,
            ),
            "node_features": _frozen(features, np.float64, (size, None), "node_features", where),
            "bonds": _frozen(bonds, np.int64, (None, 2), "bonds", where),
            "bond_features": bond_features,
            "targets": MappingProxyType(
                {name: _frozen(value, np.float64, None, name, where) for name, value in self.targets.items()}
            ),
            "property_weights": MappingProxyType({name: float(w) for name, w in self.property_weights.items()}),
            "weight": float(self.weight),
        }
        if len(values["bonds"]) != len(bond_features):
            raise DataError(
                f"{where}: {len(values['bonds'])} bonds but {len(bond_features)} rows of bond_features; "
                "expected one row per bond"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self.atomic_numbers)

    def __repr__(self) -> str:
        """Formula, periodicity, labels and source."""
        periodic = "".join("T" if flag else "F" for flag in self.pbc)
        labels = ", ".join(self.targets) or "no labels"
        return f"Structure({self.formula}, pbc={periodic}, {labels}, source={self.source!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy by construction (a read-only mapping has no other way)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["targets"] = dict(self.targets)
        values["property_weights"] = dict(self.property_weights)
        return _rebuild, (values,)

    @property
    def num_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atomic_numbers)

    @property
    def is_periodic(self) -> bool:
        """Whether the structure is periodic along any direction."""
        return bool(self.pbc.any())

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³; 0 for a cell that does not span space."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def formula(self) -> str:
        """Elements with their counts, by ascending atomic number: "H6C2O"."""
        from ase.data import chemical_symbols

        numbers, counts = np.unique(self.atomic_numbers, return_counts=True)
        symbols = [chemical_symbols[z] if 0 <= z < len(chemical_symbols) else f"Z{z}" for z in numbers]
        return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in zip(symbols, counts, strict=True))

    @classmethod
    def from_ase(
        cls,
        atoms: Atoms,
        *,
        source: str = "",
        node_features: Categories | None = None,
        edge_features: str | None = None,
    ) -> Self:
        """The geometry of an ASE object (labels are read by `read_structures`).

        Args:
            atoms: Never changed and never aliased.
            source: Where it comes from, for messages.
            node_features: As `data.node_features`: array name → categories, or None for plain numbers.
            edge_features: As `data.edge_features`: key in `info` of the bond features.

        Raises:
            DataError: If a feature is missing or malformed.
        """
        from macekit.data.features import bonds_of, node_features_of

        bonds, bond_features = bonds_of(atoms, edge_features, source)
        return cls(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.asarray(atoms.cell),
            pbc=atoms.pbc,
            node_features=node_features_of(atoms, node_features or {}, source),
            bonds=bonds,
            bond_features=bond_features,
            source=source,
            config_type=str(atoms.info.get("config_type", "Default")),
        )

    def to_ase(self, kinds: Mapping[str, str] | None = None) -> Atoms:
        """The structure as ASE atoms.

        Args:
            kinds: Kind of every target to be written, as `TargetsConfig.kinds()`: labels per atom go to
                `arrays["REF_<target>"]`, the others to `info["REF_<target>"]`. None: geometry only.
        """
        from ase import Atoms

        atoms = Atoms(numbers=self.atomic_numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        if self.config_type != "Default":
            atoms.info["config_type"] = self.config_type
        for name, kind in (kinds or {}).items():
            if name not in self.targets:
                continue
            value = self.targets[name]
            if kind.startswith("node_"):
                atoms.arrays[f"REF_{name}"] = value.copy()
            else:
                atoms.info[f"REF_{name}"] = value.copy() if value.ndim else float(value)
        return atoms

    def with_targets(self, targets: Mapping[str, ArrayLike]) -> Self:
        """The same structure with other labels (macekit's units)."""
        return self._replaced(targets=dict(targets))

    def with_head(self, head: str) -> Self:
        """The same structure at another level of theory."""
        return self._replaced(head=head)

    def with_bond_width(self, width: int) -> Self:
        """The same structure, without bonds, with room for `width` bond features."""
        return self._replaced(bonds=np.zeros((0, 2), dtype=np.int64), bond_features=np.zeros((0, width)))

    def _replaced(self, **changes: Any) -> Self:
        return type(self)(**{name: getattr(self, name) for name in self.__dataclass_fields__} | changes)


def _rebuild(values: dict[str, Any]) -> Structure:
    return Structure(**values)


def _width(array: ArrayLike) -> int:
    shape = np.shape(array)
    return shape[1] if len(shape) == 2 else 0


def _frozen(
    value: ArrayLike, dtype: DTypeLike, shape: tuple[int | None, ...] | None, name: str, where: str
) -> NDArray[Any]:
    """A read-only copy of the given type; `None` in the shape stands for any length."""
    try:
        given = np.asarray(value)
        array = np.array(given, dtype=dtype, copy=True, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {name} is not numeric: {error}") from None
    if np.issubdtype(array.dtype, np.integer) and given.dtype.kind == "f" and not np.array_equal(given, array):
        raise DataError(f"{where}: {name} must be whole numbers, got {given.tolist()}")
    if shape is not None and (
        array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True))
    ):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise DataError(f"{where}: {name} has shape {list(array.shape)}, expected [{expected}]")
    array.flags.writeable = False
    return array
