from __future__ import annotations

import math

import pytest
import torch

from macekit.config import TargetsConfig
from macekit.training.metrics import batch_sums, errors_from_sums, structure_sums, target_metrics

TARGETS = TargetsConfig(
    y_graph_scalars=["energy", "gap"],
    y_graph_vector="dipole",
    y_node_scalars=["charges"],
    y_node_vector="forces",
    stress="stress",
)
NAN = float("nan")


def test_units():
    metrics = {metric.target: metric for metric in target_metrics(TARGETS, compute_forces=True)}
    units = {target: metric.unit for target, metric in metrics.items()}
    assert units == {
        "energy": "meV/atom",
        "gap": "",
        "dipole": "e·Å",
        "charges": "e",
        "forces": "meV/Å",
        "stress": "meV/Å³",
    }
    assert [metrics[target].symbol for target in ("energy", "forces", "stress", "gap")] == [
        "E",
        "F",
        "S",
        "gap",
    ]


def test_a_first_scalar_that_is_no_energy_is_not_divided_by_atoms():
    (metric,) = target_metrics(TargetsConfig(y_graph_scalars=["gap"]), compute_forces=False)
    assert not metric.per_atom
    assert metric.factor == 1.0


def test_sums_are_exact_and_leave_out_missing_labels(make_batch):
    metrics = target_metrics(TARGETS, compute_forces=True)
    forces = torch.zeros(5, 3, dtype=torch.float64)
    forces[4] = NAN
    batch = make_batch(
        {
            "energy": torch.tensor([2.0, NAN], dtype=torch.float64),
            "gap": torch.tensor([1.0, 3.0], dtype=torch.float64),
            "dipole": torch.full((2, 3), NAN, dtype=torch.float64),
            "charges": torch.zeros(5, dtype=torch.float64),
            "forces": forces,
            "stress": torch.zeros(2, 3, 3, dtype=torch.float64),
        },
        periodic=(True, False),
    )
    predictions = {
        "y_graph_scalars": torch.zeros(2, 2, dtype=torch.float64),
        "y_graph_vector": torch.zeros(2, 3),
        "y_node_vector": torch.full((5, 3), 0.001, dtype=torch.float64),
        "stress": torch.full((2, 3, 3), 0.002, dtype=torch.float64),
    }
    sums = structure_sums(predictions, batch, metrics)
    assert sums.shape == (2, 6, 3)
    errors = errors_from_sums(sums.sum(0), metrics)
    assert errors["energy"].rmse == pytest.approx(1000.0)
    assert errors["energy"].count == 1
    assert errors["gap"].mae == pytest.approx(2.0)
    assert errors["gap"].rmse == pytest.approx(math.sqrt(5.0))
    assert errors["dipole"].count == 0
    assert math.isnan(errors["dipole"].rmse)
    assert errors["charges"].count == 0, "not predicted"
    assert errors["forces"].count == 12
    assert errors["forces"].rmse == pytest.approx(1.0)
    assert errors["stress"].count == 9, "a structure that is not periodic has no stress"
    assert errors["stress"].mae == pytest.approx(2.0)
    torch.testing.assert_close(batch_sums(predictions, batch, metrics), sums.sum(0), rtol=1e-14, atol=0.0)
    per_structure = [errors_from_sums(sums[index], metrics) for index in range(2)]
    assert [errors["forces"].count for errors in per_structure] == [6, 6]


@pytest.mark.parametrize("heads", [(), ("pbe", "scan")], ids=["one head", "two heads"])
@pytest.mark.parametrize("missing", [False, True], ids=["all labels", "some missing"])
def test_sums_of_a_batch_are_those_of_its_structures(make_batch, heads, missing):
    metrics = target_metrics(TARGETS, compute_forces=True, heads=heads)
    waves = torch.arange(45, dtype=torch.float64).sin()
    labels = {
        "energy": waves[:2].clone(),
        "gap": waves[2:4].clone(),
        "dipole": waves[4:10].view(2, 3).clone(),
        "charges": waves[10:15].clone(),
        "forces": waves[15:30].view(5, 3).clone(),
        "stress": waves[:18].view(2, 3, 3).clone(),
    }
    if missing:
        for label in labels.values():
            label.view(-1)[-1] = NAN
    batch = make_batch(labels, periodic=(True, True))
    predictions = {
        "y_graph_scalars": waves[30:34].view(2, 2),
        "y_graph_vector": waves[34:40].view(2, 3),
        "y_node_scalars": waves[40:45].view(5, 1),
        "y_node_vector": waves[20:35].view(5, 3),
        "stress": waves[25:43].view(2, 3, 3),
    }
    expected = structure_sums(predictions, batch, metrics).sum(0)
    torch.testing.assert_close(batch_sums(predictions, batch, metrics), expected, rtol=1e-13, atol=1e-15)
    assert expected[:, 2].tolist()[:6] == [count - missing for count in (2, 2, 6, 5, 15, 18)]
