"""Structures with labels from files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from macekit.config.data import DataConfig, SourceConfig
from macekit.data.census import CensusTaker, LabelCensus, has_label
from macekit.data.extxyz import Frame
from macekit.data.files import FilePath, FramesOfFile, read_frames
from macekit.data.labels import ChosenKey, choose_key, read_label
from macekit.data.quantities import Quantity, contradicted_unit, conversion, not_learned, quantities
from macekit.data.structure import FloatArray, Structure
from macekit.data.suspicions import listed, stress_sign_suspicion, suspicions
from macekit.data.validation import validate_structure
from macekit.data.values import head_of, nearest, present_keys
from macekit.data.weights import read_weights
from macekit.errors import DataError
from macekit.units import LENGTH_IN_ANGSTROM, factor

Files: TypeAlias = FilePath | SourceConfig | Sequence[FilePath | SourceConfig]
NeededLabels: TypeAlias = Literal["all", "any", "none"]


class StructuresRead(NamedTuple):
    """What `read_structures` returns."""

    structures: list[Structure]
    census: LabelCensus
    warnings: list[str]
    """What looks wrong without being an error, with the frames named; for the caller to print."""


def read_structures(
    files: Files,
    config: DataConfig,
    *,
    labels: NeededLabels = "all",
    optional: Collection[str] = (),
) -> StructuresRead:
    """All structures of some files, with the labels of every target of the configuration.

    Args:
        files: One file or several; `SourceConfig` gives the structures of its file a weight and a head.
        config: Targets, keys, units, features and what to do with bad frames. Never changed.
        labels: "all": every target must occur in at least one frame (training); "any": at least one target
            must (validation, test); "none": labels are read where they are found.
        optional: Targets that may be absent from all frames even so (those whose loss has weight 0).

    Raises:
        DataError: A file or frame that cannot be used, or a needed label that no frame has.
        ConfigError: A unit that is not known.
    """
    reader = Reader(config)
    for source in sources_of(files):
        reader.read(source)
    reader.check_labels(labels, optional)
    structures = with_equal_bond_features(reader.structures)
    census = reader.taker.census(structures, not_learned(reader.present, reader.quantities))
    if not structures:
        reasons = f"; the first: {reader.warnings[0]}" if reader.warnings else ""
        raise DataError(f"no usable frames in {', '.join(reader.names)}{reasons}", "see data.on_bad_frame")
    warnings = [*reader.warnings, *suspicions(structures, reader.quantities, config)]
    return StructuresRead(structures, census, warnings)


def sources_of(files: Files) -> list[SourceConfig]:
    """Files with their weights.

    Raises:
        DataError: If there is none.
    """
    import os

    items: Iterable[Any] = [files] if isinstance(files, (str, os.PathLike, SourceConfig)) else files
    found = [item if isinstance(item, SourceConfig) else SourceConfig(file=os.fspath(item)) for item in items]
    if not found:
        raise DataError("no files to read structures from", "give at least one under data.train")
    return found


class Reader:
    """Reads file after file and remembers what it saw."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.quantities = quantities(config.targets, config.keys)
        self.length = factor(config.units.length, LENGTH_IN_ANGSTROM, "length")
        self.taker = CensusTaker(self.quantities)
        self.structures: list[Structure] = []
        self.warnings: list[str] = []
        self.names: list[str] = []
        self.present: dict[str, list[str]] = {}
        self._check_declared_keys()

    def _check_declared_keys(self) -> None:
        targets = [quantity.target for quantity in self.quantities]
        for target in self.config.keys:
            if target not in targets:
                raise DataError(
                    f"data.keys: '{target}' is no target; targets: {', '.join(targets)}",
                    nearest(target, targets),
                )

    def read(self, source: SourceConfig) -> None:
        """Read one file."""
        skip = self.config.on_bad_frame == "skip"
        found = read_frames(source.file, skip_bad=skip, taken_names=self.names)
        self.names.append(found.name)
        self.take(found, source)

    def take(self, found: FramesOfFile, source: SourceConfig) -> dict[str, ChosenKey | None]:
        """Note the frames of one file, or of a piece of it; the keys of its labels by target."""
        self._note_frames(found)
        keys = {q.target: choose_key(q, found.frames, found.name) for q in self.quantities}
        self._note_keys(keys, found)
        bad = list(found.bad)
        before = len(self.structures)
        for frame in found.frames:
            try:
                self.structures.append(self._structure(frame, keys, source))
            except DataError as error:
                if self.config.on_bad_frame == "error":
                    raise
                bad.append(error)
            for place, present in present_keys(frame.atoms).items():
                known = self.present.setdefault(place, [])
                known.extend(key for key in present if key not in known)
        self.taker.files[found.name] += len(self.structures) - before
        self.taker.frames_bad += len(bad)
        if bad:
            reasons = "; ".join(error.message for error in bad[:5])
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            self.warnings.append(f"{found.name}: {len(bad)} bad frames left out: {reasons}{more}")
        return keys

    def _structure(self, frame: Frame, keys: dict[str, ChosenKey | None], source: SourceConfig) -> Structure:
        """One frame as a validated structure with labels."""
        atoms, units, where = frame.atoms, self.config.units, frame.source
        if self.length != 1.0:
            atoms.cell[:] = np.asarray(atoms.cell) * self.length
            atoms.positions = atoms.positions * self.length
        geometry = Structure.from_ase(
            atoms,
            source=where,
            node_features=self.config.node_features,
            edge_features=self.config.edge_features,
        )
        validate_structure(geometry)
        targets: dict[str, FloatArray] = {}
        notes: list[tuple[str, str, str, tuple[float, str, str]]] = []
        for quantity in self.quantities:
            chosen = keys[quantity.target]
            label = None if chosen is None else read_label(atoms, quantity, chosen.key, units, where)
            if label is None or np.isnan(label.value).all():
                continue
            if quantity.kind == "stress" and not (geometry.is_periodic and geometry.volume > 0.0):
                continue
            targets[quantity.target] = label.value
            notes.append((quantity.target, label.key, label.place, conversion(quantity, label.key, units)))
        weight, property_weights = read_weights(atoms, self.quantities, where)
        for note in notes:
            self.taker.count(*note)
        return Structure(
            atomic_numbers=geometry.atomic_numbers,
            positions=geometry.positions,
            cell=geometry.cell,
            pbc=geometry.pbc,
            targets=targets,
            weight=weight * source.weight,
            property_weights=property_weights,
            node_features=geometry.node_features,
            bonds=geometry.bonds,
            bond_features=geometry.bond_features,
            source=where,
            config_type=geometry.config_type,
            head=source.head or head_of(atoms),
        )

    def _note_frames(self, found: FramesOfFile) -> None:
        self.taker.frames_read += len(found.frames) + len(found.bad) + len(found.empty_frames)
        self.taker.frames_empty += len(found.empty_frames)
        if found.empty_frames:
            self.warnings.append(
                f"{found.name}: {len(found.empty_frames)} frames without atoms left out: {listed(found.empty_frames)}"
            )
        if found.assumed_periodic:
            self.warnings.append(
                f"{found.name}: {len(found.assumed_periodic)} frames have a Lattice and no pbc and are "
                "taken as periodic in all "
                f'directions: {listed(found.assumed_periodic)}; write pbc="F F F" if they are molecules'
            )

    def _note_keys(self, keys: dict[str, ChosenKey | None], found: FramesOfFile) -> None:
        for quantity in self.quantities:
            chosen = keys[quantity.target]
            if chosen is None:
                continue
            if chosen.also_present:
                self.warnings.append(
                    f"{found.name}: target '{quantity.target}' is read from '{chosen.key}'; "
                    f"{', '.join(chosen.also_present)} "
                    f"is there too, with other values; data.keys.{quantity.target} chooses"
                )
            if unit := contradicted_unit(quantity, chosen.key, self.config.units):
                self.warnings.append(
                    f"{found.name}: the key '{chosen.key}' says {unit}, data.units says otherwise for "
                    f"target '{quantity.target}'"
                )
            if quantity.kind == "stress":
                self.warnings.extend(
                    stress_sign_suspicion(found.frames, quantity, chosen.key, self.config.units, found.name)
                )

    def check_labels(self, labels: NeededLabels, optional: Collection[str]) -> None:
        """Refuse to go on without the labels that are needed."""
        absent = [q for q in self.quantities if not any(has_label(s, q.target) for s in self.structures)]
        if not self.structures or labels == "none" or not self.quantities:
            return
        if labels == "any":
            if len(absent) == len(self.quantities):
                raise self._absent(absent[0])
            return
        for quantity in absent:
            if quantity.target not in optional:
                raise self._absent(quantity)

    def _absent(self, quantity: Quantity) -> DataError:
        tried = [quantity.declared] if quantity.declared else [*quantity.exact, *quantity.likely, *quantity.weak]
        everything = [key for keys in self.present.values() for key in keys]
        present = "; ".join(f"{place}: {', '.join(keys)}" for place, keys in self.present.items()) or "none"
        near = nearest(tried[0], everything) or nearest(quantity.target, everything)
        if quantity.kind == "stress" and not any(s.is_periodic for s in self.structures):
            return DataError(
                f"{', '.join(self.names)}: target '{quantity.target}' needs periodic structures; no frame is periodic",
                "remove data.targets.stress, or give the frames a cell and pbc",
            )
        return DataError(
            f"{', '.join(self.names)}: no frame has a label for target '{quantity.target}' "
            f"(looked for {', '.join(tried[:6])}); keys present: {present}",
            near or f"name its key: data.keys.{quantity.target}: ...; {self._without(quantity)}",
        )

    def _without(self, quantity: Quantity) -> str:
        """How to do without a target."""
        if quantity.name == "forces":
            return (
                "or learn energies alone: data.targets.y_node_vector=null model.y_node_vector_loss_config=null "
                "model.compute_forces=false"
            )
        return "or remove the target"


def with_equal_bond_features(structures: list[Structure]) -> list[Structure]:
    """Structures without bonds get the number of bond features of the others."""
    widths = {structure.bond_features.shape[1]: structure for structure in structures if len(structure.bonds)}
    if len(widths) > 1:
        (first, one), (second, two) = list(widths.items())[:2]
        raise DataError(
            f"{two.source}: bonds have {second} features, those of {one.source} have {first}; expected the "
            "same number everywhere"
        )
    if not widths:
        return structures
    width = next(iter(widths))
    return [s if s.bond_features.shape[1] == width else s.with_bond_width(width) for s in structures]
