"""Random arguments for the operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from macekit.kernels import reference
from macekit.kernels.backend import Backend
from oracles import load_yardsticks

Normal = Callable[..., Tensor]


@pytest.fixture(scope="session", autouse=True)
def yardsticks() -> None:
    """What opcheck and e3nn do to the process when they are imported happens before any test."""
    load_yardsticks()


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The functions of a backend, called without operators."""
    if request.param == "reference":
        return reference
    return pytest.importorskip("macekit.kernels.cpu", reason="no compiler", exc_type=ImportError)


@pytest.fixture
def normal() -> Normal:
    """normal(*shape): seeded, float64."""
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def whole() -> Callable[[int, int], Tensor]:
    """whole(high, count): seeded whole numbers below `high`."""
    generator = torch.Generator().manual_seed(8)
    return lambda high, count: torch.randint(0, max(high, 1), (count,), generator=generator)
