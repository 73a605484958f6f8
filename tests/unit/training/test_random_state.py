from __future__ import annotations

import torch

from macekit.training.distributed import World
from macekit.training.random_state import private_random_state, random_states, restore_random_state


def test_every_process_gets_its_own_state_back_and_the_caller_keeps_theirs():
    before = torch.get_rng_state()
    drawn = []
    for rank in range(2):
        with private_random_state(5, World(rank, 2, torch.device("cpu"))):
            state = torch.get_rng_state()
            drawn.append(torch.rand(4))
            world = World(rank, 2, torch.device("cpu"))
            restore_random_state({"cpu": torch.stack([state, state])}, world)
            assert torch.equal(torch.rand(4), drawn[-1])
            assert torch.equal(random_states(World(0, 1, world.device))["cpu"][0], torch.get_rng_state())
            restore_random_state({"cpu": state[None]}, world)  # of a run with one process
            assert not torch.equal(torch.rand(4), drawn[-1])
    assert not torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)
