"""Facts of small models with every kind of output."""

from __future__ import annotations

from typing import Any

from macekit.config import DatasetFacts

TARGETS = {
    "y_graph_scalars": ["energy"],
    "y_graph_vector": "dipole",
    "y_node_scalars": ["charges"],
    "y_node_vector": "forces",
    "stress": "stress",
}
ELEMENTS = [1, 6, 8, 13, 29]


def facts(**changes: Any) -> DatasetFacts:
    values: dict[str, Any] = {
        "elements": ELEMENTS,
        "cutoff": 3.5,
        "avg_num_neighbours": 8.0,
        "targets": TARGETS,
        "reference_energies": {"energy": [-13.6, -1029.0, -2042.0, -50.0, -45.0]},
        "scale": {"energy": 10.0, "charges": 0.3, "dipole": 0.5},
        "shift": {"energy": -0.2, "charges": 0.05},
    }
    return DatasetFacts.from_dict(values | changes)
