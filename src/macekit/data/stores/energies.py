"""Reference energies from the statistics of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from macekit.config.data import TargetsConfig
from macekit.data.composition import undetermined_combinations
from macekit.data.quantities import quantities
from macekit.data.reference_energies import (
    METHODS,
    ReferenceEnergies,
    given_reference_energies,
    is_by_symbol,
    isolated_atom_energies,
)
from macekit.data.residuals import Residual
from macekit.data.stores.moments import Moments
from macekit.data.stores.statistics import GraphScalar, StoreStatistics
from macekit.data.structure import FloatArray, Structure
from macekit.errors import ConfigError, DataError, did_you_mean

MOST_GROUPS = 10


def stored_reference_energies(
    choice: str | Mapping[str, Any], targets: TargetsConfig, statistics: StoreStatistics, elements: tuple[int, ...]
) -> dict[str, ReferenceEnergies]:
    """E0 of every graph scalar, as `data.reference_energies` says; as `resolve_reference_energies` does for structures.

    Args:
        choice: "fit", "isolated_atoms", "none", values by symbol, or a mapping from target to one of these.
        targets: Targets of the run.
        statistics: Sums over the training structures.
        elements: Atomic numbers of the result, ascending; all that occur.

    Raises:
        ConfigError: If the choice is not one of these.
        DataError: If an element has no value or no isolated atom, or the target has no label to fit.
    """
    names = targets.y_graph_scalars
    if isinstance(choice, Mapping) and not is_by_symbol(choice):
        if unknown := [target for target in choice if target not in names]:
            raise ConfigError(
                f"data.reference_energies: '{unknown[0]}' is neither a chemical symbol nor a graph scalar; "
                f"graph scalars: {', '.join(names) or 'none'}",
                did_you_mean(unknown[0], names),
            )
        chosen = {name: choice.get(name, "none") for name in names}
    else:
        everywhere = isinstance(choice, str) and choice in {"fit", "none"}
        chosen = {name: choice if everywhere or name == targets.energy else "none" for name in names}
    energies = {quantity.target for quantity in quantities(targets, {}) if quantity.name == "energy"}
    found = {name: _one(chosen[name], name, statistics.graph_scalars[name], elements) for name in names}
    return {name: one if name in energies else replace(one, unit="") for name, one in found.items()}


def _one(choice: Any, target: str, sums: GraphScalar, elements: tuple[int, ...]) -> ReferenceEnergies:
    if choice == "fit":
        return _fitted(target, sums, elements)
    if choice == "isolated_atoms":
        atoms = [
            Structure(np.array([z]), np.zeros((1, 3)), targets={target: np.array(value)}, source=source)
            for z, labels in sums.isolated_labels.items()
            for value, source in labels
        ]
        found = isolated_atom_energies(atoms, target, elements)
    elif choice == "none" or choice is None:
        return ReferenceEnergies(target, elements, np.zeros(len(elements)), "none")
    elif isinstance(choice, Mapping) and is_by_symbol(choice):
        found = given_reference_energies(choice, target, elements)
    else:
        raise ConfigError(
            f"data.reference_energies: expected fit, isolated_atoms, none or values by symbol for '{target}', "
            f"got {choice!r}",
            did_you_mean(str(choice), METHODS),
        )
    return replace(found, residuals=_residuals(sums, elements, found.values))


def _fitted(target: str, sums: GraphScalar, elements: tuple[int, ...]) -> ReferenceEnergies:
    """E0 by least squares, of smallest norm where the data leave E0 open."""
    together = sums.totals.merged(sums.isolated)
    if not together.count:
        raise DataError(
            f"reference energies: no structure has a label for '{target}' to fit", "use none, or give values"
        )
    matrix, labels = together.design(elements)
    solution, _, rank, _ = np.linalg.lstsq(matrix, labels, rcond=1e-10)
    values: FloatArray = solution.astype(np.float64)
    return ReferenceEnergies(
        target=target,
        elements=elements,
        values=values,
        method="fit",
        rank=int(rank),
        undetermined=undetermined_combinations(matrix, elements) if rank < len(elements) else (),
        residuals=_residuals(sums, elements, values),
        isolated_atoms_unused=set(sums.isolated_labels) >= set(elements),
    )


def _residuals(sums: GraphScalar, elements: Sequence[int], values: FloatArray) -> tuple[Residual, ...]:
    """What E0 leave over, per atom, by config type; the smallest groups together."""
    groups = sorted(sums.per_atom.items(), key=lambda item: -item[1].count)
    if len(groups) > MOST_GROUPS:
        rest = Moments()
        for _, moments in groups[MOST_GROUPS - 1 :]:
            rest = rest.merged(moments)
        groups = [*groups[: MOST_GROUPS - 1], (f"{len(groups) - MOST_GROUPS + 1} others", rest)]
    if len(groups) > 1:
        everything = Moments()
        for moments in sums.per_atom.values():
            everything = everything.merged(moments)
        groups.append(("all", everything))
    found = []
    for name, moments in groups:
        mean, rms = moments.mean_and_rms(tuple(elements), values)
        if moments.count:
            found.append(Residual(name, moments.count, 1000.0 * mean, 1000.0 * rms))
    return tuple(found)
