"""Combinations of losses that mace-torch has by name, against its own numbers; and what is done otherwise here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from macekit.config import ModelConfig, TargetsConfig
from macekit.errors import ConfigError
from macekit.training.losses import Losses
from macekit.training.vector_losses import FACTORS, VECTOR_LOSSES, ConditionalHuberLoss

TARGETS = TargetsConfig(y_graph_scalars=["energy"], y_node_vector="forces", stress="stress")
# python tests/unit/training/make_loss_values.py, with mace-torch 0.3.16
MACE_TORCH = {
    "weighted": 0.018637531226583924,
    "stress": 0.018795348338534183,
    "huber": 0.0016627576300747193,
    "universal": 0.0015596243338446953,
    "l1l2energyforces": 0.22290140284161805,
}
# python tests/unit/training/make_physicsml_loss_values.py, with PhysicsML 0.6
PHYSICSML = {"masked": 1.09375, "multi_task": 1.625, "huber": 0.71875, "weighted_one_structure": 0.09765625}
SQUARES = {
    "y_graph_scalars": {"name": "WeightedMSELoss", "weight": 2.0},
    "y_node_vector": {"name": "MSELoss", "weight": 3.0},
}
DELTA = {"delta": 0.01}
EQUIVALENTS: dict[str, dict[str, Any]] = {
    "weighted": SQUARES,
    "stress": {**SQUARES, "stress": {"name": "MSELoss", "weight": 5.0}},
    "huber": {
        "y_graph_scalars": {"name": "HuberLoss", "weight": 2.0, "config": {**DELTA, "per_atom": True}},
        "y_node_vector": {"name": "HuberLoss", "weight": 3.0, "config": DELTA},
        "stress": {"name": "HuberLoss", "weight": 5.0, "config": DELTA},
    },
    "universal": {
        "y_graph_scalars": {"name": "HuberLoss", "weight": 2.0, "config": {**DELTA, "per_atom": True}},
        "y_node_vector": {"name": "ConditionalHuberLoss", "weight": 3.0, "config": DELTA},
        "stress": {"name": "HuberLoss", "weight": 5.0, "config": DELTA},
    },
    "l1l2energyforces": {
        "y_graph_scalars": {"name": "L1Loss", "weight": 2.0, "config": {"per_atom": True}},
        "y_node_vector": {"name": "L2NormLoss", "weight": 3.0},
    },
}


def made_up() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Labels and predictions of `make_loss_values.py`."""
    row, column = torch.arange(5, dtype=torch.float64)[:, None], torch.arange(3, dtype=torch.float64)[None]
    sizes = torch.tensor([1.0, 80.0, 130.0, 250.0, 900.0], dtype=torch.float64)
    forces = torch.sin(1.7 * row + 2.3 * column) * sizes[:, None]
    stress = torch.cos(torch.arange(18, dtype=torch.float64)).reshape(2, 3, 3)
    labels = {"energy": torch.tensor([-3.0, 2.5], dtype=torch.float64), "forces": forces, "stress": stress}
    predictions = {
        "y_graph_scalars": torch.tensor([[-3.013], [2.9]], dtype=torch.float64),
        "y_node_vector": forces + 0.02 * torch.cos(row + 3.0 * column) + 0.004 * row,
        "stress": stress + 0.008 * torch.sin(torch.arange(18, dtype=torch.float64)).reshape(2, 3, 3),
    }
    return labels, predictions


def losses_of(configs: dict[str, Any]) -> Losses:
    return Losses(ModelConfig(**{f"{output}_loss_config": loss for output, loss in configs.items()}), TARGETS)


@pytest.mark.parametrize("name", MACE_TORCH)
def test_numbers_of_mace_torch(name: str, make_batch: Any) -> None:
    labels, predictions = made_up()
    losses = losses_of(EQUIVALENTS[name])
    total = losses.total(losses(predictions, make_batch(labels, periodic=(True, True))))
    assert total.item() == pytest.approx(MACE_TORCH[name], rel=1e-13)


@pytest.mark.parametrize("name", MACE_TORCH)
def test_weights_and_missing_labels_count_in_all_of_them(name: str, make_batch: Any) -> None:
    """mace-torch ignores weights in universal and huber, and pulls unlabelled forces to zero."""
    labels, predictions = made_up()
    losses = losses_of(EQUIVALENTS[name])
    plain = losses.per_output(losses(predictions, make_batch(labels, periodic=(True, True))))
    tenfold = make_batch(labels, periodic=(True, True), weights=(10.0, 10.0))
    torch.testing.assert_close(losses.per_output(losses(predictions, tenfold)), 10.0 * plain)
    only = {"forces": torch.tensor([0.0, 0.0], dtype=torch.float64)}
    unforced = losses.per_output(losses(predictions, make_batch(labels, periodic=(True, True), property_weights=only)))
    assert unforced[1] == 0.0
    missing = labels["forces"].clone()
    missing[:2] = torch.nan
    predicted = {key: value.clone().requires_grad_() for key, value in predictions.items()}
    total = losses.total(losses(predicted, make_batch({**labels, "forces": missing}, periodic=(True, True))))
    (gradient,) = torch.autograd.grad(total, predicted["y_node_vector"])
    assert (gradient[:2] == 0).all()
    assert (gradient[2:] != 0).any()


@pytest.mark.parametrize("name", PHYSICSML)
def test_numbers_of_physicsml(name: str, make_batch: Any) -> None:
    nan = float("nan")
    prediction = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], dtype=torch.float64)
    label = torch.tensor([[0.25, nan], [nan, 1.0], [-1.5, 0.5]], dtype=torch.float64)
    tasks = [{"name": "MSELoss", "weight": 2.0}, {"name": "L1Loss", "weight": 3.0}]
    config = {
        "masked": {"name": "MaskedMSELoss", "weight": 2.0},
        "multi_task": {"name": "MultiTaskLoss", "config": {"losses_configs": tasks}},
        "huber": {"name": "HuberLoss", "weight": 2.0, "config": {"delta": 0.5}},
        "weighted_one_structure": {"name": "WeightedMSELoss", "weight": 2.0},
    }[name]
    atoms = (2, 3, 4)
    if name == "huber":
        label = label.nan_to_num(0.125)
    if name == "weighted_one_structure":
        prediction, label, atoms = prediction[2:], label[2:], (4,)
    targets = TargetsConfig(y_graph_scalars=["a", "b"])
    losses = Losses(ModelConfig(y_graph_scalars_loss_config=config), targets)
    batch = make_batch({"a": label[:, 0], "b": label[:, 1]}, atoms=atoms)
    total = losses.total(losses({"y_graph_scalars": prediction}, batch))
    assert total.item() == pytest.approx(PHYSICSML[name], rel=1e-14)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "MultiLabelSoftMarginLoss"])
def test_losses_of_whole_rows(name: str, make_batch: Any) -> None:
    """A row without one of its labels is left out; weights act on rows."""
    generator = torch.Generator().manual_seed(2)
    prediction = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    label[1, 0] = torch.nan
    targets = TargetsConfig(y_graph_scalars=["a", "b"])
    losses = Losses(ModelConfig(y_graph_scalars_loss_config={"name": name}), targets)
    batch = make_batch({"a": label[:, 0], "b": label[:, 1]}, atoms=(1, 2, 3), weights=(3.0, 5.0, 1.0))
    rows = getattr(torch.nn, name)(reduction="none")(prediction[[0, 2]], label[[0, 2]])
    total = losses.total(losses({"y_graph_scalars": prediction}, batch))
    torch.testing.assert_close(total, (3.0 * rows[0] + rows[1]) / 2)
    (gradient,) = torch.autograd.grad(total, prediction)
    assert (gradient[1] == 0).all()
    with pytest.raises(ConfigError, match=f"{name} compares whole rows of scalars"):
        losses_of({"y_node_vector": {"name": name}})


@pytest.mark.parametrize("name", VECTOR_LOSSES)
def test_the_mean_of_vectors_does_not_depend_on_batches(name: str, make_batch: Any) -> None:
    labels, predictions = made_up()
    losses = losses_of({"y_node_vector": {"name": name}})
    whole = losses.total(losses(predictions, make_batch(labels, periodic=(True, True))))
    parts = losses.empty()
    for atoms, rows in ((2, slice(0, 2)), (3, slice(2, 5))):
        batch = make_batch({**labels, "forces": labels["forces"][rows]}, atoms=(atoms,), periodic=(True,))
        parts = parts.plus(losses({"y_node_vector": predictions["y_node_vector"][rows]}, batch))
    torch.testing.assert_close(losses.total(parts), whole, rtol=1e-14, atol=0)


def test_an_exact_prediction_has_no_gradient_of_its_length(make_batch: Any) -> None:
    labels, _ = made_up()
    losses = losses_of({"y_node_vector": {"name": "L2NormLoss"}})
    prediction = labels["forces"].clone().requires_grad_()
    total = losses.total(losses({"y_node_vector": prediction}, make_batch(labels)))
    (gradient,) = torch.autograd.grad(total, prediction)
    assert total == 0.0
    assert (gradient == 0).all()


def test_factors_change_at_the_thresholds() -> None:
    label = torch.tensor(
        [[99.9, 0, 0], [100.0, 0, 0], [0, 200.0, 0], [0, 0, 299.9], [300.0, 0, 0]], dtype=torch.float64
    )
    factors = ConditionalHuberLoss().factor(label)[:, 0].tolist()
    assert factors == [FACTORS[0], FACTORS[1], FACTORS[2], FACTORS[2], FACTORS[3]]


@pytest.mark.parametrize(
    ("output", "config", "message"),
    [
        ("y_graph_scalars", {"name": "L2NormLoss"}, "L2NormLoss is of vectors, and y_graph_scalars is none"),
        ("y_node_vector", {"name": "ConditionalHuberLos"}, "did you mean 'ConditionalHuberLoss'"),
        ("y_node_vector", {"name": "ConditionalHuberLoss", "config": {"delta": 0}}, "delta: expected a number above 0"),
        ("y_node_vector", {"name": "ConditionalMSELoss", "config": {"factors": [1.0]}}, "one factor more"),
    ],
)
def test_messages(output: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        losses_of({output: config})


def test_weights_follow_their_schedule(make_batch: Any) -> None:
    labels, predictions = made_up()
    configs = {
        "y_graph_scalars": {"name": "WeightedMSELoss", "weight": 0.0, "weight_schedule": {3: 2.0, 5: 20.0}},
        "y_node_vector": {"name": "MSELoss", "weight": 3.0, "weight_schedule": {5: 0.0}},
    }
    losses = losses_of(configs)
    sums = losses(predictions, make_batch(labels))
    both = losses_of(SQUARES)
    expected = both.per_output(both(predictions, make_batch(labels))) / both.weights
    changes = []
    for epoch, weights in ((1, (0, 3)), (2, (0, 3)), (3, (2, 3)), (4, (2, 3)), (5, (20, 0)), (6, (20, 0))):
        changes.append(losses.set_epoch(epoch))
        torch.testing.assert_close(losses.per_output(sums), expected * torch.tensor(weights, dtype=torch.float64))
    assert changes == [False, False, True, False, True, False]
    assert losses.weights_in_words() == "y_graph_scalars 20, y_node_vector 0"


def test_a_schedule_of_a_multi_task_loss_is_of_the_whole(make_batch: Any) -> None:
    tasks = [{"name": "MSELoss", "weight": 2.0}]
    config = {"name": "MultiTaskLoss", "weight_schedule": {2: 10.0}, "config": {"losses_configs": tasks}}
    labels, predictions = made_up()
    losses = losses_of({"y_graph_scalars": config})
    first = losses.total(losses(predictions, make_batch(labels)))
    losses.set_epoch(2)
    torch.testing.assert_close(losses.total(losses(predictions, make_batch(labels))), 10.0 * first)
    inner = [{"name": "MSELoss", "weight_schedule": {2: 1.0}}]
    with pytest.raises(ConfigError, match="weight_schedule: give it to the MultiTaskLoss as a whole"):
        losses_of({"y_graph_scalars": {"name": "MultiTaskLoss", "config": {"losses_configs": inner}}})
