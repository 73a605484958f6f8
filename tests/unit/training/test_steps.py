"""One step of training: what does not change its gradient, and what changes the weights."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import macekit
from macekit.config import DatasetFacts, ModelConfig, OptimizerConfig, TargetsConfig
from macekit.data import Structure, balanced_parts
from macekit.geometry.batch import GraphDataset
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.training.averages import master_of
from macekit.training.distributed import World
from macekit.training.evaluation import evaluate_dataset
from macekit.training.losses import Losses
from macekit.training.optimizers import build_optimizer
from macekit.training.steps import Stepper
from tiny_runs import TINY, water

torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch set an environment variable of its own

TARGETS = TargetsConfig(y_graph_scalars=["energy"], y_node_vector="forces")
FACTS = DatasetFacts(elements=[1, 8], cutoff=3.0, targets=TARGETS, avg_num_neighbours=2.0)
WORLD = World(0, 1, torch.device("cpu"))
COUNT = 11
HERE = Path(__file__).resolve()
PLACES = [str(HERE.parent), str(HERE.parents[2]), str(Path(macekit.__file__).parents[1])]
"""Where processes of their own find this module and the package."""


def dataset() -> GraphDataset:
    """Molecules and pieces of molecules, some without labels."""
    generator = np.random.default_rng(3)
    structures = []
    for number in range(COUNT):
        atoms = water(generator)[: 2 + number % 2]
        targets = {"energy": np.array(-76.0 + number), "forces": generator.normal(size=(len(atoms), 3))}
        if number % 4 == 1:
            del targets["forces"]
        if number % 5 == 2:
            del targets["energy"]
        structures.append(Structure(atoms.numbers, atoms.positions, targets=targets, weight=1.0 + number))
    return GraphDataset(structures, FACTS)


def stepper(world: World = WORLD, *, dtype: torch.dtype = torch.float64, masters: bool = False, **options) -> Stepper:
    model = build_model("mace_model", ModelConfig(**{**TINY, **options}), FACTS, seed=2, dtype=dtype)
    master = master_of(model) if masters else None
    optimizer = build_optimizer(OptimizerConfig(), master or model)
    return Stepper(model, Losses(model.config, TARGETS), optimizer, world, ema=0.9, gradient_clip=None, master=master)


def gradient_of(subject: Stepper, batches) -> tuple[torch.Tensor, object]:
    result = subject.gradient(batches)
    return torch.cat([parameter.grad.flatten() for parameter in subject.parameters]), result


@pytest.mark.parametrize("parts", [2, 3, 11, 40])
@pytest.mark.parametrize("loss", ["MSELoss", "HuberLoss", "L1Loss"])
def test_accumulated_gradients_are_those_of_the_batch(parts, loss):
    subject = stepper(y_node_vector_loss_config={"name": loss, "weight": 3.0})
    data = dataset()
    indices = [3, 1, 0, 2, 10, 9, 8, 7, 6, 5, 4]
    whole, expected = gradient_of(subject, data.batch(indices))
    pieces = [part for part in balanced_parts(indices, data.num_edges(), parts) if part]
    assert len(pieces) == min(parts, COUNT)
    split, result = gradient_of(subject, [data.batch(part) for part in pieces])
    torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-10 * float(whole.abs().max()))
    assert result.loss == pytest.approx(expected.loss, rel=1e-12)
    torch.testing.assert_close(result.sums.numerators, expected.sums.numerators, rtol=1e-12, atol=0)
    assert torch.equal(result.sums.counts, expected.sums.counts)
    assert len(result.predictions) == len(pieces)


def test_counts_need_no_predictions():
    subject = stepper()
    batch = dataset().batch(list(range(COUNT)))
    sums, _ = subject.loss_of(batch)
    assert torch.equal(subject.losses.counts(batch), sums.counts)


def test_masters_keep_what_float32_rounds_away():
    """Many updates that are each below the last digit of a float32 weight."""
    plain, mixed = stepper(dtype=torch.float32), stepper(dtype=torch.float32, masters=True)
    for subject, moves in ((plain, False), (mixed, True)):
        subject.optimizer = torch.optim.SGD(subject.master.parameters(), lr=1.0)
        before = [weight.detach().clone() for weight in subject.parameters]
        for _ in range(150):
            for weight in subject.parameters:
                weight.grad = 1e-8 * weight.detach()
            subject.update()
        moved = [not torch.equal(one, two) for one, two in zip(before, subject.parameters, strict=True)]
        assert all(moved) if moves else not any(moved)
    assert {parameter.dtype for parameter in mixed.model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in mixed.master.parameters()} == {torch.float64}


def test_a_mixed_step_is_a_float64_step_of_a_float32_gradient():
    subject = stepper(dtype=torch.float32, masters=True)
    subject.gradient(dataset().batch([0, 1, 2]))
    expected = master_of(subject.model)
    optimizer = build_optimizer(OptimizerConfig(), expected)
    for mine, theirs in zip(subject.model.parameters(), expected.parameters(), strict=True):
        theirs.grad = mine.grad.double()
    optimizer.step()
    subject.update()
    models = (subject.model, subject.master, expected)
    for mine, master, theirs in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(master, theirs)
        assert torch.equal(mine, theirs.float())
    deployed = subject.deployed
    assert {parameter.dtype for parameter in deployed.parameters()} == {torch.float32}
    state = subject.state()
    assert state["model"]["backbone.embedding"].dtype == torch.float64
    other = stepper(dtype=torch.float32, masters=True)
    other.restore(state)
    for mine, theirs in zip(subject.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(subject.deployed.parameters(), other.deployed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_moving_average_is_that_of_torch():
    subject = stepper()
    counts = iter(range(1, 100))

    def decay() -> float:
        number = next(counts)
        return min(0.9, (1 + number) / (10 + number))

    def average(averaged, current, _):
        get_ema_multi_avg_fn(decay())(averaged, current, None)

    expected = AveragedModel(subject.model, multi_avg_fn=average)
    for _ in range(30):
        subject.gradient(dataset().batch([0, 1, 2]))
        subject.update()
        expected.update_parameters(subject.model)
    assert int(subject.averages.ema.n_averaged) == int(expected.n_averaged) == 30
    for mine, theirs in zip(subject.deployed.parameters(), expected.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=0)


def test_the_equal_average_is_one_of_ends_of_epochs():
    subject = stepper()
    seen = []
    for _ in range(3):
        subject.gradient(dataset().batch([0, 1, 2]))
        subject.update()
        subject.averages.after_epoch(equally=True)
        seen.append([parameter.detach().clone() for parameter in subject.parameters])
    means = [torch.stack(weights).mean(0) for weights in zip(*seen, strict=True)]
    for mine, mean in zip(subject.deployed.parameters(), means, strict=True):
        torch.testing.assert_close(mine, mean, rtol=1e-12, atol=1e-15)
    other = stepper()
    other.restore(subject.state())
    for mine, theirs in zip(subject.deployed.parameters(), other.deployed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def forces_of(model: Mace, data: GraphDataset, world: World = WORLD) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and labelled components over a data set, as an evaluation gives them."""
    found = evaluate_dataset(model, data, batch_edges=7, world=world)
    return torch.as_tensor(found.predicted["forces"]), torch.as_tensor(found.labelled["forces"])


KEPT = """
import resource, torch
import test_steps

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(1 << 21, dtype=torch.uint8) for _ in range(20)]  # 40 MB, which are 10,000 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
test_steps.stepper()
print(min(faults() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other habits")
def test_memory_of_a_step_is_kept_for_the_next():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    done = subprocess.run(
        [sys.executable, "-c", KEPT],
        env={**environment, "PYTHONPATH": os.pathsep.join(PLACES)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) < 100  # 500 or 10,000 where malloc was not taught


PROCESS = """
import sys, torch
from safetensors.torch import save_file
import test_steps
from macekit.data import EpochSampler, balanced_parts
from macekit.training.distributed import open_world

def main(world):
    data, subject = test_steps.dataset(), test_steps.stepper(world)
    options = {"rank": world.rank, "world_size": world.size, "shuffle": False}
    sampler = EpochSampler(data.num_edges(), batch_size=test_steps.COUNT, **options)
    subject.distribute(data.batch([0]))
    share = next(iter(sampler))
    found = {}
    for parts in (1, 3):
        pieces = [data.batch(part) for part in balanced_parts(share, data.num_edges(), parts) if part]
        found[f"{parts}"], _ = test_steps.gradient_of(subject, pieces)
        found[f"{parts}"] = found[f"{parts}"].clone()
    found["predicted"], found["labelled"] = test_steps.forces_of(subject.model, data, world)
    if world.is_main:
        save_file(found, sys.argv[1])

with open_world("cpu") as world:
    main(world)
"""


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path: Path):
    from safetensors.torch import load_file

    whole, _ = gradient_of(stepper(), dataset().batch(list(range(COUNT))))
    (tmp_path / "process.py").write_text(PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(tmp_path / "process.py"), str(tmp_path / "gradients")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PLACES)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = load_file(tmp_path / "gradients")
    pairs = torch.stack([found.pop("labelled"), found.pop("predicted")], dim=1)
    expected = torch.stack(forces_of(stepper().model, dataset())[::-1], dim=1)
    ordered = (rows[rows[:, 0].argsort()] for rows in (pairs, expected))
    torch.testing.assert_close(*ordered, rtol=1e-10, atol=1e-12)  # those of both processes, in another order
    for parts, gradient in found.items():
        torch.testing.assert_close(gradient, whole, rtol=1e-10, atol=1e-10 * float(whole.abs().max()), msg=parts)
