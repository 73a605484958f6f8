"""Reference energies E0 per element: given, from isolated atoms, or by least squares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from macekit.config.data import TargetsConfig
from macekit.data.census import has_label
from macekit.data.composition import counts_of, symbol, undetermined_combinations
from macekit.data.isolated import is_isolated_atom
from macekit.data.quantities import quantities
from macekit.data.residuals import Residual, residuals
from macekit.data.structure import FloatArray, Structure
from macekit.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

METHODS: Final = ("fit", "isolated_atoms", "none")
SAME_ATOM: Final = 1.0e-3
"""Energies of the same isolated atom may differ by this, eV."""


@dataclass(frozen=True, slots=True)
class ReferenceEnergies:
    """E0 of one target."""

    target: str
    elements: tuple[int, ...]
    values: FloatArray
    """float64 [S], eV for energies."""
    method: str
    """fit, isolated_atoms, given or none."""
    rank: int | None = None
    """Rank of the least-squares problem."""
    undetermined: tuple[str, ...] = ()
    """Combinations of E0 that the data leave open; the smallest E0 were taken."""
    residuals: tuple[Residual, ...] = ()
    isolated_atoms_unused: bool = False
    """Whether a fit was made although there is an isolated atom of every element."""
    unit: str = "eV"
    """eV for energies, "" for other quantities."""
    head: str = ""
    """Level of theory, where there are several."""

    def by_symbol(self) -> dict[str, float]:
        """E0 by chemical symbol."""
        return {symbol(z): float(value) for z, value in zip(self.elements, self.values, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "target": self.target,
            "method": self.method,
            "values": self.by_symbol(),
            "rank": self.rank,
            "undetermined": list(self.undetermined),
            "residuals": [{name: getattr(r, name) for name in Residual.__dataclass_fields__} for r in self.residuals],
        }

    def warnings(self) -> list[str]:
        """What the data leave open."""
        found = []
        if self.undetermined:
            found.append(
                f"reference energies of {self._name()}: rank {self.rank} for {len(self.elements)} "
                f"elements; the data do not determine {'; '.join(self.undetermined)}; the smallest values "
                "were taken. Predictions for other compositions need isolated atoms or given values "
                "(data.reference_energies)"
            )
        if self.isolated_atoms_unused:
            found.append(
                f"reference energies of {self._name()} are fitted, though there is an isolated atom of "
                "every element; data.reference_energies: isolated_atoms would give these their exact energies"
            )
        return found

    def _name(self) -> str:
        return f"'{self.target}'" + (f", head '{self.head}'" if self.head else "")

    def table(self) -> Table:
        """E0 per element, then what they leave over."""
        from rich.table import Table

        milli = "meV/atom" if self.unit == "eV" else "0.001/atom"
        table = Table(title=f"Reference energies of {self._name()}: {self.method}", title_justify="left")
        for column in ("", "count", f"mean ({milli})", f"RMSE ({milli})"):
            table.add_column(column, justify="right" if column else "left")
        for name, value in self.by_symbol().items():
            table.add_row(f"E0({name}) = {value:.6f} {self.unit}".rstrip())
        if self.residuals:
            table.add_section()
        for row in self.residuals:
            table.add_row(row.group, str(row.count), f"{row.mean:.1f}", f"{row.rmse:.1f}")
        return table


def resolve_reference_energies(
    choice: str | Mapping[str, Any],
    targets: TargetsConfig,
    structures: Sequence[Structure],
    elements: Sequence[int],
) -> dict[str, ReferenceEnergies]:
    """E0 of every graph scalar, as `data.reference_energies` says.

    One choice for all: "fit" and "none" hold for every graph scalar; "isolated_atoms" and values by symbol
    are energies and hold for the energy, the other graph scalars having none. Or a mapping from target to a
    choice.

    Args:
        choice: "fit", "isolated_atoms", "none", values by symbol, or a mapping from target to one of these.
        targets: Targets of the run.
        structures: Training structures, isolated atoms included.
        elements: Atomic numbers of the model, ascending.

    Raises:
        ConfigError: If the choice is not one of these.
        DataError: If an element has no value, no isolated atom, or the target has no label to fit.
    """
    names = targets.y_graph_scalars
    if isinstance(choice, Mapping) and not is_by_symbol(choice):
        for target in choice:
            if target not in names:
                raise ConfigError(
                    f"data.reference_energies: '{target}' is neither a chemical symbol nor a graph scalar; "
                    f"graph scalars: {', '.join(names) or 'none'}",
                    did_you_mean(target, names),
                )
        chosen = {name: choice.get(name, "none") for name in names}
    else:
        everywhere = isinstance(choice, str) and choice in {"fit", "none"}
        chosen = {name: choice if everywhere or name == targets.energy else "none" for name in names}
    energies = {quantity.target for quantity in quantities(targets, {}) if quantity.name == "energy"}
    found = {name: _one(chosen[name], name, structures, elements) for name in names}
    return {name: one if name in energies else replace(one, unit="") for name, one in found.items()}


def _one(choice: Any, target: str, structures: Sequence[Structure], elements: Sequence[int]) -> ReferenceEnergies:
    if choice == "fit":
        return fit_reference_energies(structures, target, elements)
    if choice == "isolated_atoms":
        return isolated_atom_energies(structures, target, elements)
    if choice == "none" or choice is None:
        return ReferenceEnergies(target, tuple(elements), np.zeros(len(elements)), "none")
    if isinstance(choice, Mapping) and is_by_symbol(choice):
        return given_reference_energies(choice, target, elements, structures)
    raise ConfigError(
        f"data.reference_energies: expected fit, isolated_atoms, none or values by symbol for '{target}', "
        f"got {choice!r}",
        did_you_mean(str(choice), METHODS),
    )


def is_by_symbol(choice: Mapping[str, Any]) -> bool:
    """Whether the keys are elements and the values numbers."""
    return bool(choice) and all(
        atomic_number_of(key) is not None and isinstance(value, (int, float)) and not isinstance(value, bool)
        for key, value in choice.items()
    )


def atomic_number_of(key: str | int) -> int | None:
    """Atomic number of a symbol, or of a number written as text; None for anything else."""
    from ase.data import atomic_numbers

    text = str(key)
    number = int(text) if text.isascii() and text.isdigit() else atomic_numbers.get(text, 0)
    return number if 1 <= number <= 118 else None


def given_reference_energies(
    values: Mapping[str, float], target: str, elements: Sequence[int], structures: Sequence[Structure] = ()
) -> ReferenceEnergies:
    """E0 as given by symbol, eV; values of elements that do not occur are not used.

    Raises:
        DataError: If an element has no value, or a value is not finite.
    """
    by_number = {atomic_number_of(key): float(value) for key, value in values.items()}
    missing = [symbol(z) for z in elements if z not in by_number]
    if missing:
        raise DataError(
            f"data.reference_energies: no value for {', '.join(missing)}; given: {', '.join(map(str, values))}",
            "add the missing elements, or use fit",
        )
    energies = np.array([by_number[z] for z in elements], dtype=np.float64)
    if not np.isfinite(energies).all():
        raise DataError(f"data.reference_energies: values must be finite, got {dict(values)}")
    return ReferenceEnergies(
        target,
        tuple(elements),
        energies,
        "given",
        residuals=residuals(structures, target, elements, energies),
    )


def isolated_atom_energies(structures: Sequence[Structure], target: str, elements: Sequence[int]) -> ReferenceEnergies:
    """E0 as the energies of isolated atoms among the structures.

    Raises:
        DataError: If an element has no isolated atom with a label, or two that differ by more than 1 meV.
    """
    found: dict[int, tuple[float, str]] = {}
    for atom in structures:
        if not (is_isolated_atom(atom) and has_label(atom, target)):
            continue
        number, energy = int(atom.atomic_numbers[0]), float(atom.targets[target])
        if number in found and abs(found[number][0] - energy) > SAME_ATOM:
            raise DataError(
                f"two isolated {symbol(number)} atoms with different {target}: {found[number][1]} "
                f"({found[number][0]:.6f}) and {atom.source} ({energy:.6f})",
                "keep the one of the level of theory of the other frames",
            )
        found.setdefault(number, (energy, atom.source))
    missing = [symbol(z) for z in elements if z not in found]
    if missing:
        have = ", ".join(symbol(z) for z in sorted(found)) or "none"
        raise DataError(
            f"data.reference_energies: isolated_atoms: no isolated atom with a label for '{target}' for "
            f"{', '.join(missing)} (found: {have}); expected a frame of one atom without pbc, or with "
            "config_type=IsolatedAtom, in data.train",
            "add the missing atoms, give values by symbol, or use fit",
        )
    energies = np.array([found[z][0] for z in elements], dtype=np.float64)
    return ReferenceEnergies(
        target,
        tuple(elements),
        energies,
        "isolated_atoms",
        residuals=residuals(structures, target, elements, energies),
    )


def fit_reference_energies(structures: Sequence[Structure], target: str, elements: Sequence[int]) -> ReferenceEnergies:
    """E0 by least squares of the labels on the numbers of atoms.

    Of smallest norm where the data leave E0 open.

    Args:
        structures: Those without a label are passed over.
        target: A graph scalar.
        elements: Atomic numbers, ascending; all that occur.

    Returns:
        E0 in float64, with rank, undetermined combinations and residuals.

    Raises:
        DataError: If no structure has a label.
    """
    labelled = [structure for structure in structures if has_label(structure, target)]
    if not labelled:
        raise DataError(
            f"reference energies: no structure has a label for '{target}' to fit", "use none, or give values"
        )
    counts = counts_of(labelled, elements)
    energies = np.array([float(structure.targets[target]) for structure in labelled], dtype=np.float64)
    isolated = {int(s.atomic_numbers[0]) for s in labelled if is_isolated_atom(s)}
    solution, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=1e-10)
    values: FloatArray = solution.astype(np.float64)
    return ReferenceEnergies(
        target=target,
        elements=tuple(elements),
        values=values,
        method="fit",
        rank=int(rank),
        undetermined=undetermined_combinations(counts, elements) if rank < len(elements) else (),
        residuals=residuals(labelled, target, elements, values),
        isolated_atoms_unused=isolated >= set(elements),
    )
