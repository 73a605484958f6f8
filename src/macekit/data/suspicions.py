"""What looks wrong in data without being an error. Every function returns sentences that name the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from macekit.config.data import DataConfig, UnitsConfig
from macekit.data.census import has_label
from macekit.data.extxyz import Frame
from macekit.data.labels import read_label
from macekit.data.quantities import Quantity
from macekit.data.structure import FloatArray, Structure
from macekit.data.validation import close_pairs
from macekit.errors import DataError
from macekit.units import ENERGY_IN_EV, factor

CLOSE: Final = 0.3
"""Atoms nearer than this are reported, Å."""
OUTLIER: Final = 1.0e3
"""Labels further from the median than this many median absolute deviations are reported."""
SPREAD: Final = 1.0e3
"""Spread of the energy per atom within one composition that is reported, eV."""


def listed(frames: Iterable[object], limit: int = 8) -> str:
    """The first of some frames, and how many more."""
    names = [str(frame) for frame in frames]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def suspicions(structures: Sequence[Structure], quantities: Sequence[Quantity], config: DataConfig) -> list[str]:
    """Everything that looks wrong in some structures."""
    found = close_atoms(structures)
    for quantity in quantities:
        if quantity.name == "energy":
            found += energy_outliers(structures, quantity.target)
            found += energy_unit_suspicion(structures, quantity.target, config.units)
        elif quantity.kind in {"node_vector", "stress", "graph_vector"}:
            found += size_outliers(structures, quantity.target)
        if quantity.kind == "stress":
            without = [s.source for s in structures if not s.is_periodic]
            if without and len(without) < len(structures):
                found.append(f"{len(without)} structures are not periodic and have no stress: {listed(without)}")
    return found + length_unit_suspicion(structures, config.units)


def close_atoms(structures: Sequence[Structure]) -> list[str]:
    """Frames with atoms nearer than 0.3 Å."""
    worst: list[tuple[float, str]] = []
    for structure in structures:
        first, second, distances = close_pairs(structure, CLOSE)
        if len(first):
            worst.append(
                (
                    float(distances[0]),
                    f"{structure.source} (atoms {first[0]} and {second[0]}, {distances[0]:.3g} Å)",
                )
            )
    if not worst:
        return []
    return [f"{len(worst)} frames have atoms closer than {CLOSE} Å: {listed(text for _, text in sorted(worst))}"]


def composition_matrix(structures: Sequence[Structure]) -> tuple[list[int], FloatArray]:
    """Atomic numbers, ascending, and the number of atoms of each in each structure, float64 [G, S]."""
    elements = sorted({int(z) for structure in structures for z in np.unique(structure.atomic_numbers)})
    counts = np.zeros((len(structures), len(elements)))
    for row, structure in enumerate(structures):
        numbers, number = np.unique(structure.atomic_numbers, return_counts=True)
        counts[row, np.searchsorted(elements, numbers)] = number
    return elements, counts


def energy_outliers(structures: Sequence[Structure], target: str) -> list[str]:
    """Energies per atom far from what their composition suggests, and a spread no chemistry explains."""
    labelled = [s for s in structures if has_label(s, target) and len(s) > 1]
    if len(labelled) < 5:
        return []
    _, counts = composition_matrix(labelled)
    energies = np.array([float(s.targets[target]) for s in labelled])
    sizes = counts.sum(axis=1)
    baseline = counts @ np.linalg.lstsq(counts, energies, rcond=None)[0]
    found = _outliers((energies - baseline) / sizes, labelled, target, "eV/atom, from the fit by composition")
    per_atom = energies / sizes
    _, group = np.unique(counts / sizes[:, None], axis=0, return_inverse=True)
    group = group.ravel()
    for index in np.unique(group):
        members = np.flatnonzero(group == index)
        spread = float(np.ptp(per_atom[members]))
        if spread > SPREAD:
            low, high = (
                labelled[members[per_atom[members].argmin()]],
                labelled[members[per_atom[members].argmax()]],
            )
            found.append(
                f"target '{target}': energies per atom of the same composition differ by {spread:.4g} eV "
                f"({low.source} and {high.source})"
            )
    return found


def size_outliers(structures: Sequence[Structure], target: str) -> list[str]:
    """Frames whose largest component is far from the usual."""
    labelled = [s for s in structures if has_label(s, target)]
    if len(labelled) < 5:
        return []
    return _outliers(
        np.array([float(np.nanmax(np.abs(s.targets[target]))) for s in labelled]),
        labelled,
        target,
        "largest component",
    )


def _outliers(values: FloatArray, structures: Sequence[Structure], target: str, what: str) -> list[str]:
    """One sentence on the values beyond `OUTLIER` median absolute deviations, worst first."""
    distance = np.abs(values - np.median(values))
    deviation = max(float(np.median(distance)), 1e-6)
    bad = np.flatnonzero(distance > OUTLIER * deviation)
    if not bad.size:
        return []
    order = bad[np.argsort(-distance[bad])]
    frames = listed(f"{structures[i].source} ({values[i]:.4g})" for i in order)
    return [
        f"target '{target}': {len(bad)} frames lie more than {OUTLIER:.0f} median deviations "
        f"({deviation:.3g}) from the median ({what}): {frames}"
    ]


def energy_unit_suspicion(structures: Sequence[Structure], target: str, units: UnitsConfig) -> list[str]:
    """Whether total energies have the size of all-electron energies in another unit.

    All-electron energies of light atoms are near −16 Z^(7/3) eV; the ratio to that gives the unit away.
    """
    ratios = [
        float(s.targets[target]) / float((-16.0 * s.atomic_numbers ** (7.0 / 3.0)).sum())
        for s in structures
        if has_label(s, target) and len(s) > 1 and s.atomic_numbers.max() <= 18 and s.atomic_numbers.max() > 2
    ]
    if len(ratios) < 3:
        return []
    ratio = float(np.median(ratios))
    if 0.93 < ratio < 1.07:
        return []
    declared = factor(units.energy, ENERGY_IN_EV, "energy")
    return [
        f"target '{target}': the energies look like {unit}, data.units.energy is {units.energy} "
        f"(median {ratio * 100:.3g} % of the usual total energy)"
        for unit, value in ENERGY_IN_EV.items()
        if 0.93 < ratio * value / declared < 1.07
    ]


def length_unit_suspicion(structures: Sequence[Structure], units: UnitsConfig) -> list[str]:
    """Whether the nearest neighbour of hydrogen is further away than any bond of hydrogen in Å."""
    sample = [s for s in structures if len(s) > 2 and (s.atomic_numbers == 1).any() and (s.atomic_numbers != 1).any()][
        :50
    ]
    if len(sample) < 3:
        return []
    nearest = []
    for structure in sample:
        if len(structure) > 500:
            continue
        first, second, distances = close_pairs(structure, 2.6)
        hydrogen = (structure.atomic_numbers[first] == 1) | (structure.atomic_numbers[second] == 1)
        nearest.append(float(distances[hydrogen].min(initial=2.6)))
    middle = float(np.median(nearest)) if nearest else 1.0
    if 0.7 <= middle <= 1.6 or middle == 2.6:
        return []
    likely = "bohr" if middle > 1.6 else "not the declared unit"
    return [
        f"the nearest neighbour of hydrogen is at {middle:.3g} Å (median); lengths look like {likely}, "
        f"data.units.length is {units.length}"
    ]


def stress_sign_suspicion(
    frames: Sequence[Frame], quantity: Quantity, key: str, units: UnitsConfig, name: str
) -> list[str]:
    """Whether the stress and the virial of the same frames disagree in sign (stress = −virial / volume)."""
    others = [other for other in quantity.weak if other != key]
    pairs: list[tuple[FloatArray, FloatArray]] = []
    for frame in frames:
        for other in others:
            try:
                one = read_label(frame.atoms, quantity, key, units, frame.source)
                two = read_label(frame.atoms, quantity, other, units, frame.source)
            except DataError:
                continue  # reported where the frame itself is read
            if one is not None and two is not None:
                pairs.append((one.value, two.value))
    if not pairs:
        return []
    stress, from_virial = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    product = float(stress @ from_virial)
    if product < -0.5 * float(np.linalg.norm(stress) * np.linalg.norm(from_virial)):
        return [
            f"{name}: '{key}' and the virial have opposite signs in {len(pairs)} frames; expected stress = "
            "−virial/volume, tension positive"
        ]
    return []
