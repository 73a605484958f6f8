"""Several processes started by torchrun, or one: the same calls serve both.

`torchrun --nproc-per-node 2 -m macekit train run.yaml` sets RANK, LOCAL_RANK and WORLD_SIZE; without them the
world has one process and nothing is communicated. Texts travel as bytes, never as pickles.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from macekit.errors import UsageError

TIMEOUT: Final = datetime.timedelta(minutes=5)
"""After this long without an answer from another process a run ends with an error instead of hanging."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, seen from one of them."""

    rank: int
    """Number of this process, from 0; process 0 prints and writes."""
    size: int
    """Number of processes."""
    device: torch.device
    """Where this process computes."""

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes; without a gradient. The tensor itself is left alone."""
        if self.size == 1:
            return tensor.detach()
        total = tensor.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, equal in shape, as one on the CPU, [processes, ...], bit by bit."""
        rows = torch.zeros(self.size, *tensor.shape, dtype=tensor.dtype)
        rows[self.rank] = tensor.detach().cpu()
        return self.sum(rows)

    def joined(self, tensor: Tensor) -> Tensor:
        """The vectors of all processes, of any lengths, one after another on the CPU."""
        if self.size == 1:
            return tensor.detach().cpu()
        lengths = self.gathered(torch.tensor(tensor.numel()))
        padded = tensor.new_zeros(int(lengths.max()))
        padded[: tensor.numel()] = tensor.detach()
        rows = self.gathered(padded)
        return torch.cat([row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)])

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For every flag whether it is set on any process."""
        if self.size == 1:
            return flags
        return tuple((self.sum(torch.tensor([float(flag) for flag in flags])) > 0).tolist())

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum(torch.zeros(1))

    def texts(self, text: str) -> list[str]:
        """The text of every process, in the order of ranks."""
        if self.size == 1:
            return [text]
        data = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).to(self.device)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = data.numel()
        sizes = [int(length) for length in self.sum(lengths)]
        padded = torch.zeros(max(sizes), dtype=torch.uint8, device=self.device)
        padded[: data.numel()] = data
        gathered = [torch.zeros_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        rows = [bytes(row[:size].cpu().numpy()) for row, size in zip(gathered, sizes, strict=True)]
        return [row.decode().strip() if row == b" " else row.decode() for row in rows]

    def shared(self, text: str) -> str:
        """The text of process 0."""
        return self.texts(text if self.is_main else "")[0]


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device for a name: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: For another name, or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"run.device: expected auto, cpu, cuda or cuda:N, got '{name}'")
    index = int(number) if number else local_rank
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"run.device: '{name}' asks for GPU {index}, and this machine shows {torch.cuda.device_count()} to torch",
            "use run.device=auto or cpu, or install a build of torch for your GPU",
        )
    return torch.device("cuda", index)


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """The world this process belongs to, left again at the end.

    Args:
        device: auto, cpu, cuda or cuda:N; with several processes every one takes its own GPU.

    Raises:
        UsageError: If the device is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, local_rank)
    if size == 1:
        yield World(0, 1, chosen)
        return
    owns = not dist.is_initialized()
    if owns:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT, device_id=chosen if backend == "nccl" else None)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        if owns:
            gc.collect()  # a DistributedDataParallel that outlives its group may abort the process when it ends
            dist.destroy_process_group()
