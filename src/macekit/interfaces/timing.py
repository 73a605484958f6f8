"""How fast a model is on this machine: calls of the ASE calculator, and training steps."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from macekit.config.training import OptimizerConfig
from macekit.data.structure import Structure
from macekit.errors import UsageError
from macekit.geometry.batch import GraphDataset
from macekit.interfaces.trained import TrainedModel
from macekit.kernels.dispatch import backend_for, load
from macekit.training.distributed import World
from macekit.training.losses import Losses
from macekit.training.optimizers import build_optimizer
from macekit.training.radial import RadialFunctions
from macekit.training.steps import Stepper

if TYPE_CHECKING:
    from ase import Atoms

STEP = 0.002
"""Standard deviation of a displacement between two calls, Å: about a femtosecond of dynamics at 300 K."""
FEWEST_CALLS = 3


@dataclass(frozen=True)
class Timing:
    """Repetitions of a piece of work."""

    work: Literal["energy + forces", "training step"]
    """What was repeated."""
    structure: str
    """Chemical formula, or number of structures."""
    atoms: int
    """Atoms per repetition."""
    edges: int
    """Directed edges per repetition."""
    threads: int
    """Threads of torch."""
    dtype: str
    """Precision of the network."""
    seconds: tuple[float, ...]
    """Of every repetition."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def nanoseconds_per_day(self) -> float | None:
        """Of dynamics with steps of 1 fs; None for training."""
        return 86400.0 / self.median * 1e-6 if self.work == "energy + forces" else None


def packed(model: TrainedModel, num_atoms: int) -> Atoms:
    """Atoms of the model's elements on a rattled cubic lattice, with about as many neighbours as in its training data.

    Args:
        model: Gives elements, cutoff and number of neighbours.
        num_atoms: About how many; the lattice has a whole number of sites along each edge.
    """
    from ase import Atoms

    rng = np.random.default_rng(0)
    side = max(1, round(num_atoms ** (1 / 3)))
    neighbours = max(model.facts.avg_num_neighbours, 1.0)
    spacing = model.cutoff * (4.0 / 3.0 * np.pi / neighbours) ** (1 / 3)
    places = np.indices((side, side, side)).reshape(3, -1).T * spacing
    symbols = rng.choice(model.elements, len(places)).tolist()
    positions = places + rng.normal(0.0, 0.03 * spacing, places.shape)
    return Atoms(symbols, positions=positions, cell=[side * spacing] * 3, pbc=True)


def time_calls(model: TrainedModel, atoms: Atoms, seconds: float, dtype: Literal["float32", "float64"]) -> Timing:
    """Energy and forces through the calculator, with atoms that move a little between calls.

    Args:
        model: Any model with an energy.
        atoms: Where to start; not changed.
        seconds: How long to repeat, at least three times after two that do not count.
        dtype: Precision of the network.

    Raises:
        UsageError: If the model has no energy.
        DataError: If the structure cannot be used.
    """
    if model.facts.targets.energy is None:
        raise UsageError(f"nothing to time: the model predicts {', '.join(model.targets)}, and no energy")
    moving, rng = atoms.copy(), np.random.default_rng(0)
    moving.calc = model.ase_calculator(device="cpu", dtype=dtype)

    def call() -> None:
        moving.positions += rng.normal(0.0, STEP, moving.positions.shape)
        moving.get_potential_energy()
        moving.get_forces()

    edges = GraphDataset([_plain(model, atoms)], model.facts).num_edges().sum()
    times = _repeat(call, seconds)
    formula = atoms.get_chemical_formula(empirical=len(atoms) > 50)
    return Timing("energy + forces", formula, len(atoms), int(edges), torch.get_num_threads(), dtype, times)


def time_training(
    model: TrainedModel, structures: Sequence[Atoms], seconds: float, dtype: Literal["float32", "float64"]
) -> Timing:
    """Training steps on one batch: energies and forces, clipped gradient, AMSGrad, moving average.

    Args:
        model: A model with an energy and forces; a copy is trained.
        structures: The batch; labels are drawn at random.
        seconds: As in `time_calls`.
        dtype: Precision of the network.

    Raises:
        UsageError: If the model has no energy with forces.
        DataError: If a structure cannot be used.
    """
    step, edges = training_step(model, structures, dtype)
    times = _repeat(step, seconds)
    atoms = sum(len(item) for item in structures)
    title = f"{len(structures)} structures"
    return Timing("training step", title, atoms, edges, torch.get_num_threads(), dtype, times)


def training_step(
    model: TrainedModel, structures: Sequence[Atoms], dtype: Literal["float32", "float64"]
) -> tuple[Callable[[], None], int]:
    """What `time_training` repeats, and the number of edges of the batch."""
    targets = model.facts.targets
    if targets.energy is None or targets.y_node_vector is None or not model.config.compute_forces:
        raise UsageError("nothing to time: training steps are timed for models with an energy and its forces")
    module = copy.deepcopy(model.module).to(device="cpu", dtype=getattr(torch, dtype)).requires_grad_(True)
    no_losses = {key: None for key in type(module.config).model_fields if key.endswith("_loss_config")}
    losses = {
        "y_graph_scalars_loss_config": {"name": "WeightedMSELoss", "weight": 1.0},
        "y_node_vector_loss_config": {"name": "MSELoss", "weight": 100.0},
    }
    config = module.config.model_validate(module.config.model_dump() | no_losses | losses)
    adam = {"lr": 1e-4, "amsgrad": True, "weight_decay": 5e-7}
    optimizer = build_optimizer(OptimizerConfig(name="Adam", config=adam), module)
    world = World(0, 1, torch.device("cpu"))
    stepper = Stepper(module, Losses(config, targets), optimizer, world, ema=0.99, gradient_clip=10.0)
    rng, labelled = np.random.default_rng(0), []
    for atoms in structures:
        labels = {targets.energy: np.array(0.0), targets.y_node_vector: rng.normal(0.0, 1.0, (len(atoms), 3))}
        labelled.append(replace(_plain(model, atoms), targets=labels))
    dataset = GraphDataset(labelled, model.facts)
    edges = int(dataset.num_edges().sum())
    RadialFunctions("auto", edges, dataset.shortest_edge()).choose([module, stepper.deployed])

    def step() -> None:
        stepper.gradient(dataset.batch(range(len(labelled))))
        stepper.update()

    return step, edges


def kernels(dtype: Literal["float32", "float64"]) -> str:
    """Which kernels serve on CPUs, and why."""
    name = getattr(backend_for(torch.zeros(0, dtype=getattr(torch, dtype))), "__name__", "reference").rpartition(".")[2]
    return f"kernels: {name} ({load(name).reason})"


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and as many as before afterwards; None: leave it alone."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _repeat(work: Callable[[], None], seconds: float) -> tuple[float, ...]:
    for _ in range(2):
        work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return tuple(times)


def _plain(model: TrainedModel, atoms: Atoms) -> Structure:
    facts = model.facts
    return Structure.from_ase(atoms, node_features=facts.node_features, edge_features=facts.edge_features)
