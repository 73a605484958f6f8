"""The choice of a backend, and what the first call of an operator does to the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from macekit.errors import BackendUnavailable
from macekit.kernels import dispatch

FIRST_CALL = """
import os, sys, torch
from macekit.kernels import ops
before = dict(os.environ)
x = torch.ones(1, 1, 2, requires_grad=True)
y, edges = torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
(g,) = torch.autograd.grad(ops.edge_convolution(x, y, torch.ones(1, 1, 2), edges, edges, "0|0").sum(), x)
assert "torch._dynamo" not in sys.modules, "the first call imports torch's compiler, which takes seconds"
assert dict(os.environ) == before, "the first call changes the environment"
"""


def test_unknown_backend() -> None:
    with pytest.raises(BackendUnavailable, match="unknown backend 'referense'; available: reference") as caught:
        dispatch.select("referense")
    assert caught.value.hint == "did you mean 'reference'?"


def test_first_call_is_light() -> None:
    subprocess.run([sys.executable, "-c", FIRST_CALL], check=True, timeout=120)
