from __future__ import annotations

import pytest
import torch
from torch import nn

from macekit.config import ModelConfig, TargetsConfig
from macekit.errors import ConfigError
from macekit.training.loss_functions import ELEMENTWISE
from macekit.training.losses import Losses, LossSums

TARGETS = TargetsConfig(
    y_graph_scalars=["energy", "gap"],
    y_graph_vector="dipole",
    y_node_scalars=["charges"],
    y_node_vector="forces",
    stress="stress",
)
NAN = float("nan")


def torch_value(name, prediction, label, reduction="mean"):
    if name == "KLDivLoss":  # torch warns that its mean will change; ours is over elements
        values = nn.KLDivLoss(reduction="none")(prediction, label)
        return values.mean() if reduction == "mean" else values.sum()
    return getattr(nn, name)(reduction=reduction)(prediction, label)


def losses_of(**configs):
    return Losses(ModelConfig(**{f"{output}_loss_config": config for output, config in configs.items()}), TARGETS)


def scalars(first, second):
    return {
        "energy": torch.tensor(first, dtype=torch.float64),
        "gap": torch.tensor(second, dtype=torch.float64),
    }


def in_range(name: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    prediction = torch.rand(2, 2, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    label = torch.rand(2, 2, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    if name in ("SoftMarginLoss", "HingeEmbeddingLoss"):
        label = torch.sign(label - 0.5)
    return prediction, label


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - {"GaussianNLLLoss"}))
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_torch_loss_has_its_torch_value(name, reduction, make_batch):
    prediction, label = in_range(name, torch.Generator().manual_seed(1))
    batch = make_batch(scalars(label[:, 0].tolist(), label[:, 1].tolist()))
    losses = losses_of(y_graph_scalars={"name": name, "weight": 2.5, "config": {"reduction": reduction}})
    total = losses.total(losses({"y_graph_scalars": prediction}, batch))
    torch.testing.assert_close(total, 2.5 * torch_value(name, prediction, label, reduction))


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - {"GaussianNLLLoss"}))
def test_missing_labels_contribute_exactly_nothing(name, make_batch):
    prediction, label = in_range(name, torch.Generator().manual_seed(2))
    prediction.requires_grad_()
    losses = losses_of(y_graph_scalars={"name": name})
    batch = make_batch(scalars([label[0, 0].item(), NAN], [NAN, label[1, 1].item()]))
    total = losses.total(losses({"y_graph_scalars": prediction}, batch))
    present = torch.tensor([[True, False], [False, True]])
    torch.testing.assert_close(total, torch_value(name, prediction[present], label[present]))
    (gradient,) = torch.autograd.grad(total, prediction)
    assert (gradient[~present] == 0).all()
    assert gradient.isfinite().all()


def test_a_batch_without_labels_gives_zero_and_zero_gradient(make_batch):
    losses = losses_of(y_graph_scalars={"name": "MSELoss"})
    prediction = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    total = losses.total(losses({"y_graph_scalars": prediction}, make_batch(scalars([NAN, NAN], [NAN, NAN]))))
    (gradient,) = torch.autograd.grad(total, prediction)
    assert total.item() == 0.0
    assert (gradient == 0).all()


def test_a_prediction_that_is_nan_where_no_label_is_does_no_harm(make_batch):
    losses = losses_of(stress={"name": "MSELoss"})
    raw = torch.ones(2, 3, 3, dtype=torch.float64, requires_grad=True)
    prediction = torch.where(torch.tensor([True, False])[:, None, None], raw, NAN)
    batch = make_batch({"stress": torch.zeros(2, 3, 3, dtype=torch.float64)}, periodic=(True, False))
    total = losses.total(losses({"stress": prediction}, batch))
    (gradient,) = torch.autograd.grad(total, raw)
    assert total.item() == 1.0
    assert gradient.isfinite().all()


def test_weights_of_structures_and_properties_scale_contributions(make_batch):
    losses = losses_of(y_graph_scalars={"name": "HuberLoss"}, y_node_vector={"name": "HuberLoss"})
    labels = scalars([1.0, 2.0], [0.5, 0.25]) | {"forces": torch.ones(5, 3, dtype=torch.float64)}
    predictions = {
        "y_graph_scalars": torch.zeros(2, 2, dtype=torch.float64),
        "y_node_vector": torch.zeros(5, 3, dtype=torch.float64),
    }
    plain = losses.per_output(losses(predictions, make_batch(labels)))
    heavy = losses.per_output(losses(predictions, make_batch(labels, weights=(10.0, 10.0))))
    torch.testing.assert_close(heavy, 10.0 * plain)
    forces_only = make_batch(labels, property_weights={"forces": torch.tensor([3.0, 3.0], dtype=torch.float64)})
    weighted = losses.per_output(losses(predictions, forces_only))
    torch.testing.assert_close(weighted, plain * torch.tensor([1.0, 3.0], dtype=torch.float64))
    gap_only = make_batch(labels, property_weights={"gap": torch.tensor([0.0, 0.0], dtype=torch.float64)})
    assert losses.per_output(losses(predictions, gap_only))[0] < plain[0]


def test_weighted_mse_compares_per_atom(make_batch):
    losses = losses_of(y_graph_scalars={"name": "WeightedMSELoss"})
    batch = make_batch(scalars([2.0, 6.0], [0.0, 0.0]))
    total = losses.total(losses({"y_graph_scalars": torch.zeros(2, 2, dtype=torch.float64)}, batch))
    assert total.item() == pytest.approx((1.0**2 + 2.0**2) / 4)


def test_any_graph_loss_can_compare_per_atom(make_batch):
    losses = losses_of(y_graph_vector={"name": "L1Loss", "config": {"per_atom": True}})
    batch = make_batch({"dipole": torch.tensor([[2.0, 0, 0], [0, 3.0, 0]], dtype=torch.float64)})
    total = losses.total(losses({"y_graph_vector": torch.zeros(2, 3, dtype=torch.float64)}, batch))
    assert total.item() == pytest.approx(2.0 / 6)


def test_gaussian_nll_uses_the_square_of_the_std(make_batch):
    losses = Losses(ModelConfig(name="mean_var_mace_model"), TARGETS)
    label = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    mean, std = torch.randn(2, 2, dtype=torch.float64), torch.rand(2, 2, dtype=torch.float64) + 0.5
    batch = make_batch({"energy": label[:, 0], "gap": label[:, 1]})
    total = losses.total(losses({"y_graph_scalars": mean, "y_graph_scalars::std": std}, batch))
    torch.testing.assert_close(total, nn.GaussianNLLLoss()(mean, label, std**2))


def test_multi_task_is_the_mean_over_tasks_with_labels(make_batch):
    tasks = [{"name": "MSELoss", "weight": 2.0}, {"name": "L1Loss"}]
    losses = losses_of(y_graph_scalars={"name": "MultiTaskLoss", "config": {"losses_configs": tasks}})
    prediction = {"y_graph_scalars": torch.zeros(2, 2, dtype=torch.float64)}
    both = losses.total(losses(prediction, make_batch(scalars([3.0, NAN], [-1.0, -2.0]))))
    assert both.item() == pytest.approx((2.0 * 9.0 + 1.5) / 2)
    one = losses.total(losses(prediction, make_batch(scalars([NAN, NAN], [-1.0, -2.0]))))
    assert one.item() == pytest.approx(1.5)


def test_lists_of_class_weights_become_tensors(make_batch):
    config = {"name": "SerialBCEWithLogitsLoss", "config": {"pos_weight": [2.0, 3.0], "weight": [1.0, 0.5]}}
    losses = losses_of(y_graph_scalars=config)
    prediction, label = in_range("BCEWithLogitsLoss", torch.Generator().manual_seed(3))
    expected = nn.BCEWithLogitsLoss(
        weight=torch.tensor([1.0, 0.5], dtype=torch.float64),
        pos_weight=torch.tensor([2.0, 3.0], dtype=torch.float64),
    )
    total = losses.total(
        losses({"y_graph_scalars": prediction}, make_batch(dict(zip(("energy", "gap"), label.T, strict=True))))
    )
    torch.testing.assert_close(total, expected(prediction, label))


@pytest.mark.parametrize("name", ["MSELoss", "MaskedMSELoss", "WeightedMSELoss", "HuberLoss"])
def test_the_mean_does_not_depend_on_how_the_data_are_split(name, make_batch):
    losses = losses_of(y_graph_scalars={"name": name})
    generator = torch.Generator().manual_seed(4)
    prediction = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    label = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    label[1, 0] = NAN
    atoms = (1, 2, 3, 4, 5, 6)

    def total(size):
        sums = losses.empty()
        for start in range(0, 6, size):
            part = slice(start, start + size)
            batch = make_batch({"energy": label[part, 0], "gap": label[part, 1]}, atoms=atoms[part])
            sums = sums.plus(losses({"y_graph_scalars": prediction[part]}, batch))
        return losses.total(sums)

    for size in (1, 2, 3):
        torch.testing.assert_close(total(size), total(6), rtol=1e-14, atol=0)


def test_sums_over_nothing_are_zero():
    losses = losses_of(y_graph_scalars={"name": "MSELoss"})
    assert losses.total(losses.empty()).item() == 0.0
    assert isinstance(losses.empty(), LossSums)


def test_an_output_with_weight_zero_has_no_loss():
    losses = losses_of(y_graph_scalars={"name": "MSELoss"}, y_node_vector={"name": "MSELoss", "weight": 0.0})
    assert losses.outputs == ["y_graph_scalars"]


@pytest.mark.parametrize(
    ("output", "config", "message"),
    [
        ("y_graph_scalars", {"name": "MSLoss"}, "unknown loss 'MSLoss'.*\nhint: did you mean 'MSELoss'"),
        (
            "y_graph_scalars",
            {"name": "CTCLoss"},
            "CTCLoss does not compare .* element by element",
        ),
        (
            "y_graph_scalars",
            {"name": "HuberLoss", "config": {"detla": 1}},
            "config.detla: unknown argument of HuberLoss .*\nhint: did you mean 'delta'",
        ),
        ("y_graph_scalars", {"name": "HuberLoss", "config": {"delta": -1.0}}, None),
        (
            "y_graph_scalars",
            {"name": "MSELoss", "config": {"reduction": "none"}},
            "reduction: expected 'mean' or 'sum', got 'none'",
        ),
        ("y_node_vector", {"name": "WeightedMSELoss"}, "per atom, which y_node_vector already is"),
        ("y_node_vector", {"name": "GaussianNLLLoss"}, "needs a variance, which only y_graph_scalars has"),
        ("y_graph_scalars", {"name": "MultiTaskLoss"}, "takes exactly 'losses_configs'"),
        (
            "y_graph_scalars",
            {"name": "MultiTaskLoss", "config": {"losses_configs": [{"name": "MSELoss"}]}},
            "1 losses for 2 columns",
        ),
        (
            "y_graph_vector",
            {"name": "MultiTaskLoss", "config": {"losses_configs": [{"name": "MSELoss"}]}},
            "y_graph_vector is no set of scalars",
        ),
        (
            "y_graph_scalars",
            {
                "name": "MultiTaskLoss",
                "config": {"losses_configs": [{"nam": "MSELoss"}, {"name": "MSELoss"}]},
            },
            "losses_configs.0: nam: unknown key",
        ),
        (
            "y_graph_scalars",
            {"name": "BCEWithLogitsLoss", "config": {"pos_weight": "two"}},
            "pos_weight: expected a number or a list of numbers, got 'two'",
        ),
    ],
)
def test_messages(output, config, message):
    if message is None:
        losses_of(**{output: config})
        return
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        losses_of(**{output: config})


def test_configurations_are_not_changed():
    config = ModelConfig(
        y_graph_scalars_loss_config={
            "name": "WeightedMSELoss",
            "config": {"reduction": "sum", "per_atom": False},
        }
    )
    before = config.model_dump()
    Losses(config, TARGETS)
    assert config.model_dump() == before
