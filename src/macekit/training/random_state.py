"""The random numbers of training: torch's own generators, lent for the time of a run and given back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from macekit.training.distributed import World


@contextmanager
def private_random_state(seed: int, world: World) -> Iterator[None]:
    """Random numbers by seed and process inside; the state of before afterwards."""
    devices = [world.device.index] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed * world.size + world.rank)
        yield


def random_states(world: World) -> dict[str, Tensor]:
    """State of every process's generators, uint8 [processes, bytes] by device. All processes call this."""
    found = {"cpu": world.gathered(torch.get_rng_state())}
    if world.device.type == "cuda":
        found["cuda"] = world.gathered(torch.cuda.get_rng_state(world.device))
    return found


def restore_random_state(states: dict[str, Tensor], world: World) -> None:
    """Set this process's generators to the state of a checkpoint; one of other processes leaves them as they are."""
    if len(states["cpu"]) != world.size:
        return
    torch.set_rng_state(states["cpu"][world.rank].clone())  # torch reads a part of a tensor as its beginning
    if world.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][world.rank].clone(), world.device)
