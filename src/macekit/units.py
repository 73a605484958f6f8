"""The only place that knows conversion factors. Inside macekit: eV, Å, e, fs, amu.

CODATA 2018 values, as in `ase.units`.
"""

from __future__ import annotations

from typing import Final

from macekit.errors import ConfigError, did_you_mean

ENERGY_IN_EV: Final[dict[str, float]] = {
    "eV": 1.0,
    "meV": 1.0e-3,
    "hartree": 27.211386245988,
    "rydberg": 13.605693122994,
    "kcal/mol": 0.0433641153087705,
    "kJ/mol": 0.0103642696562621,
}
LENGTH_IN_ANGSTROM: Final[dict[str, float]] = {"angstrom": 1.0, "bohr": 0.529177210903, "nm": 10.0}
STRESS_IN_EV_PER_A3: Final[dict[str, float]] = {
    "eV/angstrom^3": 1.0,
    "GPa": 1.0 / 160.21766208,
    "kbar": 0.1 / 160.21766208,
}
DIPOLE_IN_E_ANGSTROM: Final[dict[str, float]] = {
    "e*angstrom": 1.0,
    "debye": 0.20819433,
    "e*bohr": 0.529177210903,
}


def factor(unit: str, table: dict[str, float], quantity: str) -> float:
    """Factor that turns a value in `unit` into macekit's unit of that quantity.

    Raises:
        ConfigError: If the unit is not in the table.
    """
    by_lower_case = {name.lower(): value for name, value in table.items()}
    if unit.lower() not in by_lower_case:
        raise ConfigError(
            f"unknown {quantity} unit '{unit}'; known units: {', '.join(table)}", did_you_mean(unit, table)
        )
    return by_lower_case[unit.lower()]
