from __future__ import annotations

import pytest
import torch

from macekit.errors import UsageError
from macekit.training.distributed import World, choose_device, open_world


def test_one_process_talks_to_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_world("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
        assert world.is_main
        assert world.texts("é") == ["é"]
        assert world.shared("é") == "é"
        world.barrier()
        tensor = torch.ones(2, requires_grad=True)
        assert not world.sum(tensor).requires_grad
    assert not torch.distributed.is_initialized()


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "tpu"):
        with pytest.raises(UsageError, match=f"expected auto, cpu, cuda or cuda:N, got '{name}'"):
            choose_device(name)
    with pytest.raises(UsageError, match=r"'cuda:99' asks for GPU 99, and this machine shows \d+ to torch"):
        choose_device("cuda:99")
