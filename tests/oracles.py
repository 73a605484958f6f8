"""Other people's code as a yardstick."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType

import pytest
import torch


def e3nn_o3() -> ModuleType:
    """`e3nn.o3`, or skip the test by name where e3nn is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("e3nn", reason="e3nn, the yardstick for rotations, is not installed")
        from e3nn import o3

    return o3


def load_yardsticks() -> None:
    """Import e3nn, where it is there, and torch's compiler: both write to the environment on first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
        importlib.import_module("torch._inductor.codecache")
        if importlib.util.find_spec("e3nn"):
            importlib.import_module("e3nn.o3")
