"""Defects of other packages that concern training: one test per id of the catalogue, named after it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write
from rich.console import Console

import macekit.training.steps
from macekit.config import DatasetFacts, LossConfig, ModelConfig, OptimizerConfig, SchedulerConfig, TargetsConfig
from macekit.data import Structure
from macekit.errors import NonFiniteError
from macekit.geometry.batch import Batch, GraphDataset
from macekit.model.build import build_model
from macekit.model.groups import decayed_parameters
from macekit.training.checkpoints import read_checkpoint
from macekit.training.distributed import World
from macekit.training.evaluation import evaluate_losses
from macekit.training.losses import Losses
from macekit.training.metrics import target_metrics
from macekit.training.optimizers import build_optimizer, build_scheduler
from macekit.training.run import train
from macekit.training.steps import Stepper
from tiny_runs import TINY, copper, run_of, water

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

NAN = float("nan")
TARGETS = TargetsConfig(y_graph_scalars=["energy"], y_node_vector="forces")
FACTS = DatasetFacts(
    elements=[1, 8], cutoff=3.0, targets=TARGETS, reference_energies={"energy": [-13.0, -50.0]}, avg_num_neighbours=2.0
)


def structures(count: int, *, without: tuple[str, ...] = (), weight: float = 1.0) -> list[Structure]:
    generator = np.random.default_rng(5)
    found = []
    for _ in range(count):
        atoms = water(generator)
        targets = {"energy": atoms.info["REF_energy"], "forces": atoms.arrays["REF_forces"]}
        targets = {name: value for name, value in targets.items() if name not in without}
        found.append(Structure(atoms.numbers, atoms.positions, targets=targets, weight=weight))
    return found


def model_of(**changes):
    config = ModelConfig(**{**TINY, **changes})
    return build_model(config.name, config, FACTS, dtype=torch.float64)


def loss_of_batch(name: str, batch: Batch, **config) -> torch.Tensor:
    losses = Losses(
        ModelConfig(
            y_graph_scalars_loss_config=LossConfig(name=name, config=config),
            y_node_vector_loss_config=LossConfig(name=name.replace("WeightedMSELoss", "MSELoss"), config=config),
        ),
        TARGETS,
    )
    predictions = {
        "y_graph_scalars": torch.full((batch.graph.num_graphs, 1), -76.0, dtype=torch.float64),
        "y_node_vector": torch.zeros(batch.graph.num_nodes, 3, dtype=torch.float64),
    }
    return losses.total(losses(predictions, batch))


def silent_run(file: Path, directory: Path, changes=None, *, resume: bool = False):
    return train(run_of(file, directory, changes), console=Console(file=io.StringIO()), resume=resume)


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    for name in ("parity_plot", "loss_curve"):
        monkeypatch.setattr(f"macekit.training.run.{name}", lambda *arguments: None)


@pytest.fixture
def water_file(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    write(tmp_path / "water.extxyz", [water(generator) for _ in range(6)])
    return tmp_path / "water.extxyz"


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_p1_weight_decay_is_applied_to_the_intended_weights(name):
    model = model_of()
    optimizer = build_optimizer(OptimizerConfig(name=name, config={"lr": 0.1, "weight_decay": 0.5}), model)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    before = {key: value.clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == decayed_parameters(model)
    assert moved


def test_p2_configurations_are_not_changed():
    optimizer_config = OptimizerConfig()
    scheduler_config = SchedulerConfig(name="CosineAnnealingLR", config={"T_max": "num_steps"}, interval="step")
    before = optimizer_config.model_dump(), scheduler_config.model_dump()
    optimizer = build_optimizer(optimizer_config, model_of())
    build_scheduler(scheduler_config, optimizer, num_epochs=3, num_steps=12)
    assert (optimizer_config.model_dump(), scheduler_config.model_dump()) == before


def test_p3_the_weighted_loss_does_not_broadcast():
    batch = GraphDataset(structures(2), FACTS).batch([0, 1])
    labels = torch.tensor([-76.0 + 3.0, -76.0], dtype=torch.float64)
    batch = batch._replace(labels={"energy": labels, "forces": torch.full((6, 3), NAN, dtype=torch.float64)})
    assert loss_of_batch("WeightedMSELoss", batch).item() == pytest.approx((1.0 + 0.0) / 2)


def test_p10_labels_and_loss_are_float64_also_for_a_float32_network(monkeypatch):
    seen = []
    forward = Losses.forward
    monkeypatch.setattr(
        Losses, "forward", lambda self, outputs, batch: seen.append((outputs, batch)) or forward(self, outputs, batch)
    )
    model = build_model("mace_model", ModelConfig(**TINY), FACTS, dtype=torch.float32)
    label = -1259.4352931409087
    frame = structures(1)[0].with_targets({"energy": label})
    losses = Losses(model.config, TARGETS)
    stepper = Stepper(
        model,
        losses,
        build_optimizer(OptimizerConfig(), model),
        World(0, 1, torch.device("cpu")),
        ema=None,
        gradient_clip=None,
    )
    stepper.gradient(GraphDataset([frame], FACTS).batch([0]))
    outputs, batch = seen[0]
    assert batch.labels["energy"].item() == label
    assert outputs["y_graph_scalars"].dtype == torch.float64


def test_p11_graphs_are_made_once_and_batches_change_from_epoch_to_epoch(water_file, tmp_path, monkeypatch):
    made, batches = [], []
    import macekit.geometry.batch as module

    monkeypatch.setattr(module, "graph_for", lambda *a, f=module.graph_for: made.append(1) or f(*a))
    monkeypatch.setattr(
        GraphDataset, "batch", lambda self, i, f=GraphDataset.batch: batches.append(tuple(i)) or f(self, i)
    )
    silent_run(water_file, tmp_path / "run", {"training.batch_size": 2, "data.validation": []})
    assert len(made) == 6
    steps = [batch for batch in batches if len(batch) == 2]
    assert len(steps) >= 9
    assert len(set(steps[:9])) > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "water.extxyz"]


def test_p12_m12_a_batch_larger_than_the_data_trains_on_all_of_it(water_file, tmp_path):
    result = silent_run(water_file, tmp_path / "run", {"training.batch_size": 1000})
    assert "training.batch_size is 1000 and there are" in (result.directory / "train.log").read_text()
    assert result.fit.history[-1]["train/total/loss"] != result.fit.history[0]["train/total/loss"]


def test_p13_the_default_scheduler_trains_without_validation(water_file, tmp_path):
    result = silent_run(water_file, tmp_path / "run", {"data.validation": [], "training.max_epochs": 1})
    assert "so training.scheduler.monitor is train/total/loss" in (result.directory / "train.log").read_text()


@pytest.mark.parametrize("name", ["MaskedMSELoss", "MultiTaskLoss"])
def test_p20_a_batch_without_labels_is_no_accident(name):
    config = {"losses_configs": [{"name": "MSELoss"}]} if name == "MultiTaskLoss" else {}
    losses = Losses(ModelConfig(y_graph_scalars_loss_config={"name": name, "config": config}), TARGETS)
    batch = GraphDataset(structures(2, without=("energy", "forces")), FACTS).batch([0, 1])
    prediction = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    total = losses.total(losses({"y_graph_scalars": prediction}, batch))
    total.backward()
    assert total.item() == 0.0
    assert (prediction.grad == 0).all()


def test_p24_a_step_reads_one_number_back_and_not_one_per_parameter(monkeypatch):
    model = model_of()
    stepper = Stepper(
        model,
        Losses(model.config, TARGETS),
        build_optimizer(OptimizerConfig(), model),
        World(0, 1, torch.device("cpu")),
        ema=0.99,
        gradient_clip=10.0,
    )
    batch = GraphDataset(structures(2), FACTS).batch([0, 1])
    stepper.gradient(batch)
    reads = []
    for method in ("item", "tolist", "__float__"):
        original = getattr(torch.Tensor, method)

        def spy(self, *arguments, original=original):
            if sys._getframe(1).f_globals["__name__"].startswith("macekit.training"):
                reads.append(original)
            return original(self, *arguments)

        monkeypatch.setattr(torch.Tensor, method, spy)
    assert stepper.gradient(batch).is_finite
    assert len(reads) == 1


def test_p25_tensors_of_losses_are_buffers_that_move():
    config = {"name": "BCEWithLogitsLoss", "config": {"pos_weight": [2.0]}}
    losses = Losses(ModelConfig(y_graph_scalars_loss_config=config), TARGETS)
    assert "terms.y_graph_scalars.0.function.pos_weight" in dict(losses.named_buffers())
    assert all(buffer.is_meta for buffer in losses.to("meta").buffers())


def test_m2_early_stopping_stops(water_file, tmp_path):
    changes = {
        "training.optimizer": {"name": "SGD", "config": {"lr": 0.0}},
        "training.early_stopping": 2,
        "training.max_epochs": 50,
    }
    result = silent_run(water_file, tmp_path / "run", changes)
    assert result.fit.stopped_early
    assert result.fit.num_epochs == 3
    assert "stopped early: val/total/loss has not improved for 2 epochs" in (result.directory / "train.log").read_text()


def test_m3_the_validation_loss_does_not_depend_on_the_batch_size():
    model = model_of()
    losses = Losses(model.config, TARGETS)
    metrics = target_metrics(TARGETS, compute_forces=True)
    dataset = GraphDataset(structures(8), FACTS)
    world = World(0, 1, torch.device("cpu"))
    found = []
    for edges in (1, 12, 10**6):
        sums, errors = evaluate_losses(model, losses, dataset, metrics, batch_edges=edges, world=world)
        found.append(torch.cat([losses.total(sums)[None], errors.flatten()]))
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], found[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss", "WeightedMSELoss", "MaskedMSELoss"])
def test_m4_the_weight_of_a_frame_counts_in_every_loss(name):
    light, heavy = (GraphDataset(structures(2, weight=weight), FACTS).batch([0, 1]) for weight in (1.0, 10.0))
    assert loss_of_batch(name, heavy).item() == pytest.approx(10.0 * loss_of_batch(name, light).item())


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss"])
def test_m5_missing_forces_are_not_trained_towards_zero(name):
    frames = [structures(1)[0], structures(1, without=("forces",))[0]]
    batch = GraphDataset(frames, FACTS).batch([0, 1])
    losses = Losses(ModelConfig(y_node_vector_loss_config={"name": name}), TARGETS)
    prediction = torch.ones(6, 3, dtype=torch.float64, requires_grad=True)
    losses.total(losses({"y_node_vector": prediction}, batch)).backward()
    assert (prediction.grad[:3] != 0).all()
    assert (prediction.grad[3:] == 0).all()


def test_m8_last_holds_weights_average_optimiser_and_scheduler(water_file, tmp_path):
    whole = silent_run(water_file, tmp_path / "whole", {"training.max_epochs": 3})
    silent_run(water_file, tmp_path / "half", {"training.max_epochs": 2})
    state = read_checkpoint(tmp_path / "half" / "checkpoints" / "last")
    assert set(state) >= {"epoch", "model", "ema", "optimizer", "scheduler", "sampler"}
    weights = {name: tensor for name, tensor in state["ema"].items() if name.startswith("module.")}
    assert any(
        not torch.equal(tensor, state["model"][name.removeprefix("module.")]) for name, tensor in weights.items()
    )
    resumed = silent_run(water_file, tmp_path / "half", {"training.max_epochs": 3}, resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert resumed.fit.best_value == whole.fit.best_value


def test_m13_the_error_table_shows_the_stress(tmp_path):
    generator = np.random.default_rng(2)
    write(tmp_path / "copper.extxyz", [copper(generator) for _ in range(4)])
    changes = {
        "data.targets.stress": "stress",
        "model.stress_loss_config": {"name": "MSELoss"},
        "training.max_epochs": 1,
    }
    result = silent_run(tmp_path / "copper.extxyz", tmp_path / "run", changes)
    text = (result.directory / "errors.csv").read_text()
    assert "valid,all,stress,meV/Å³," in text
    assert "None" not in (result.directory / "train.log").read_text()


def test_m17_a_force_loss_of_weight_zero_costs_no_forces(water_file, tmp_path, monkeypatch):
    asked = []
    evaluate = macekit.training.steps.evaluate
    monkeypatch.setattr(
        macekit.training.steps,
        "evaluate",
        lambda *a, **options: asked.append(options["forces"]) or evaluate(*a, **options),
    )
    changes = {"model.y_node_vector_loss_config": {"name": "MSELoss", "weight": 0.0}, "training.max_epochs": 1}
    silent_run(water_file, tmp_path / "run", changes)
    assert asked
    assert not any(asked)


def test_a_nan_never_reaches_a_checkpoint(water_file, tmp_path):
    frames = read(water_file, ":")
    frames[1].arrays["REF_forces"][2, 1] = 1e200
    write(tmp_path / "bad.extxyz", frames)
    changes = {"data.validation": [str(water_file)], "training.batch_size": 6, "model.scaling_std": 1.0}
    with pytest.raises(NonFiniteError, match=r"bad\.extxyz frame 1: the loss of forces is not finite"):
        silent_run(tmp_path / "bad.extxyz", tmp_path / "run", changes)
    assert not (tmp_path / "run" / "checkpoints").exists()
