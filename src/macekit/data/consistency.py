"""Whether labels and reference energies belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from macekit.data.census import has_label
from macekit.data.reference_energies import ReferenceEnergies
from macekit.data.residuals import left_per_atom
from macekit.data.structure import Structure
from macekit.data.suspicions import listed

INCONSISTENT: Final = 50.0
"""Energies per atom beyond E0 above this are reported, eV."""


def inconsistent_totals(structures: Sequence[Structure], energies: ReferenceEnergies) -> list[str]:
    """Whether labels and E0 do not belong together, as with binding energies and E0 of total energies."""
    labelled = [structure for structure in structures if has_label(structure, energies.target) and len(structure)]
    if not labelled or energies.method == "none":
        return []
    left = left_per_atom(labelled, energies.target, energies.elements, energies.values)
    far = np.flatnonzero(np.abs(left) > INCONSISTENT)
    if not far.size:
        return []
    order = far[np.argsort(-np.abs(left[far]))]
    head = f" of head '{energies.head}'" if energies.head else ""
    frames = listed(f"{labelled[i].source} ({left[i]:.4g} eV/atom)" for i in order)
    return [
        f"target '{energies.target}'{head}: {len(far)} labels are more than {INCONSISTENT:.0f} eV/atom away from "
        "their reference energies "
        f"({energies.method}); are they total energies of the same method and unit? {frames}"
    ]
