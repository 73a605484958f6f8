"""What a target is, physically: the keys it is known by and the unit its labels are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from macekit.config.data import TargetsConfig, UnitsConfig
from macekit.units import (
    DIPOLE_IN_E_ANGSTROM,
    ENERGY_IN_EV,
    LENGTH_IN_ANGSTROM,
    STRESS_IN_EV_PER_A3,
    factor,
)

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "energy": ("energy", "Energy", "E", "total_energy", "dft_energy", "DFT_energy", "U0", "potential_energy"),
    "forces": ("forces", "Forces", "force", "F", "dft_forces", "dft_force", "DFT_forces"),
    "stress": ("stress", "Stress", "dft_stress"),
    "dipole": ("dipole", "Dipole", "dipole_eA", "mu", "dft_dipole"),
    "charges": ("charges", "charge", "partial_charges", "atomic_charges"),
}
"""Other names of a quantity in files. Each also with `REF_` before it."""

VIRIALS: Final = ("virial", "virials", "Virial", "Virials", "dft_virial")
WEAK: Final[dict[str, tuple[str, ...]]] = {
    "energy": ("REF_free_energy", "free_energy"),
    "stress": tuple(key for name in VIRIALS for key in (f"REF_{name}", name)),
}
"""Names that are taken only where there is nothing else."""

NEVER: Final = frozenset({"initial_charges", "initial_magmoms"})
"""Keys that are inputs of a calculation, taken only when declared."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A target with all that reading its labels needs."""

    target: str
    kind: str
    """graph_scalar, graph_vector, node_scalar, node_vector or stress."""
    name: str
    """energy, forces, stress, dipole, charges, or the target's own name."""
    declared: str | None
    """Key in the files, where the configuration gives it."""
    required: bool
    """Whether NaN is damage (energy, forces, stress) and not a missing label."""

    @property
    def exact(self) -> tuple[str, ...]:
        """Keys that are this target without doubt."""
        return (self.target,)

    @property
    def likely(self) -> tuple[str, ...]:
        """Keys that are this target if they are alone."""
        names = (self.target, *SYNONYMS.get(self.name, ()))
        return tuple(
            dict.fromkeys(key for n in names for key in (f"REF_{n}", n) if key != self.target and key not in NEVER)
        )

    @property
    def weak(self) -> tuple[str, ...]:
        """Keys that are this target if there is nothing else."""
        return tuple(key for key in WEAK.get(self.name, ()) if key != self.target)


def quantities(targets: TargetsConfig, keys: dict[str, str]) -> list[Quantity]:
    """Every target of the configuration with what it is.

    The energy is `targets.energy` and every graph scalar with "energy" in its name; a node vector is forces,
    a graph vector a dipole, node scalars charges, if their name or declared key says so. Everything else has
    no known unit and is not converted.
    """
    found = []
    for target, kind in targets.kinds().items():
        name = _quantity_name(target, kind, keys.get(target, ""), targets)
        required = target == targets.energy or name in {"forces", "stress"}
        found.append(Quantity(target, kind, name, keys.get(target), required))
    return found


def _quantity_name(target: str, kind: str, key: str, targets: TargetsConfig) -> str:
    words = f"{target} {key}".lower()
    if kind == "stress":
        return "stress"
    if kind == "graph_scalar" and (target == targets.energy or "energy" in words):
        return "energy"
    if kind == "node_vector" and ("force" in words or target == "F"):
        return "forces"
    if kind == "graph_vector" and ("dipole" in words or target == "mu"):
        return "dipole"
    if kind == "node_scalar" and "charge" in words:
        return "charges"
    return target


def not_learned(present: Mapping[str, Sequence[str]], known: Sequence[Quantity]) -> dict[str, list[str]]:
    """Quantities that files have under a usual name and that are no target, with their keys.

    Args:
        present: Keys in the files by place (info, arrays, calculator).
        known: The targets.
    """
    learned = {quantity.name for quantity in known}
    declared = {quantity.declared for quantity in known} | {quantity.target for quantity in known}
    found: dict[str, list[str]] = {}
    for name, words in SYNONYMS.items():
        usual = {key for word in (*words, *(VIRIALS if name == "stress" else ())) for key in (f"REF_{word}", word)}
        places = [keys for place, keys in present.items() if name != "charges" or place != "info"]
        keys = [key for keys in places for key in keys if key in usual - declared]
        if keys and name not in learned:
            found[name] = list(dict.fromkeys(keys))
    return found


def is_virial(key: str) -> bool:
    """Whether a key holds −stress × volume, an energy."""
    return "virial" in key.lower()


def conversion(quantity: Quantity, key: str, units: UnitsConfig) -> tuple[float, str, str]:
    """Factor to macekit's unit, the unit in the file and macekit's unit; ("", "") where unknown.

    For virials the factor is that of energies; the division by the volume is not part of it.

    Raises:
        ConfigError: If a unit is not known.
    """
    energy = factor(units.energy, ENERGY_IN_EV, "energy")
    length = factor(units.length, LENGTH_IN_ANGSTROM, "length")
    if quantity.name == "energy":
        return energy, units.energy, "eV"
    if quantity.name == "forces":
        return energy / length, f"{units.energy}/{units.length}", "eV/angstrom"
    if quantity.name == "stress" and is_virial(key):
        return energy, f"{units.energy} (virial)", "eV/angstrom^3"
    if quantity.name == "stress":
        return factor(units.stress, STRESS_IN_EV_PER_A3, "stress"), units.stress, "eV/angstrom^3"
    if quantity.name == "dipole":
        return factor(units.dipole, DIPOLE_IN_E_ANGSTROM, "dipole"), units.dipole, "e*angstrom"
    return 1.0, "", ""


SUFFIXES: Final[dict[str, tuple[str, str]]] = {
    "ev": ("energy", "eV"),
    "mev": ("energy", "meV"),
    "hartree": ("energy", "hartree"),
    "ha": ("energy", "hartree"),
    "ry": ("energy", "rydberg"),
    "kcal": ("energy", "kcal/mol"),
    "kj": ("energy", "kJ/mol"),
    "debye": ("dipole", "debye"),
    "ea": ("dipole", "e*angstrom"),
    "gpa": ("stress", "GPa"),
    "kbar": ("stress", "kbar"),
}
"""Endings of keys that state a unit: quantity and unit."""


def contradicted_unit(quantity: Quantity, key: str, units: UnitsConfig) -> str | None:
    """The unit that the end of a key states, where the declared unit is another one."""
    quantity_of, unit = SUFFIXES.get(key.rpartition("_")[2].lower(), ("", ""))
    if quantity_of != quantity.name or is_virial(key):
        return None
    return unit if str(getattr(units, quantity_of)).lower() != unit.lower() else None
