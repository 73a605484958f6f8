"""The choice of a backend, and what the first call of an operator does to the process."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from macekit.errors import BackendUnavailable
from macekit.kernels import dispatch, ops, reference, self_check
from macekit.kernels.structure import ConvolutionStructure

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
CHOICES = (dispatch.load, dispatch._of_process, dispatch._automatic)
NUMBERS = torch.ones(1)
needs_extension = pytest.mark.skipif(
    dispatch.load("cpu").backend is None, reason="macekit was installed without a compiler"
)


@pytest.fixture
def undecided() -> Iterator[None]:
    """As in a new process, before and after."""
    for choice in CHOICES:
        choice.cache_clear()
    yield
    for choice in CHOICES:
        choice.cache_clear()


@pytest.fixture
def without_extension(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "macekit.kernels.cpu", None)


def test_unknown_backend() -> None:
    with pytest.raises(
        BackendUnavailable, match="unknown backend 'referense'; available: auto, reference, cpu"
    ) as caught:
        dispatch.select("referense")
    assert caught.value.hint == "did you mean 'reference'?"


def test_first_call_is_light() -> None:
    subprocess.run([sys.executable, "-c", FIRST_CALL], check=True, timeout=120)


@needs_extension
def test_auto_takes_the_extension_and_says_so_once(undecided: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "macekit")
    names = [dispatch.backend_for(torch.ones(1, dtype=dtype)).__name__ for dtype in (torch.float32, torch.float64)]  # type: ignore[attr-defined]
    assert names == ["macekit.kernels.cpu"] * 2
    (message,) = caplog.messages
    assert message.startswith("kernels: cpu (compiled kernels for ")
    for other in (NUMBERS.half(), NUMBERS.to("meta")):
        assert dispatch.backend_for(other) is reference


def test_without_the_extension_the_reference_serves(without_extension: None, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert dispatch.backend_for(NUMBERS) is reference
    (message,) = caplog.messages
    assert message.startswith("kernels: reference, many times slower; the backend cpu cannot serve: the C++ extension")
    with pytest.raises(BackendUnavailable, match="the backend 'cpu' cannot serve: the C\\+\\+ extension is not there"):
        dispatch.select("cpu")


@needs_extension
@pytest.mark.parametrize("name", ["edge_convolution_backward2", "symmetric_contraction"])
def test_a_backend_that_differs_is_refused(
    undecided: None, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from macekit.kernels import cpu

    right = getattr(cpu, name)

    def wrong(*arguments: object) -> object:
        result = right(*arguments)
        return result * 1.001 if isinstance(result, torch.Tensor) else (*result[:-1], result[-1] * 1.001)

    monkeypatch.setattr(cpu, name, wrong)
    assert dispatch.backend_for(NUMBERS) is reference
    assert f"of {name} in torch.float64 differs by 1.0e-03, allowed 1e-10" in caplog.text
    with pytest.raises(BackendUnavailable, match="the backend 'cpu' cannot serve: it does not reproduce the reference"):
        dispatch.select("cpu")


@needs_extension
def test_a_backend_with_other_readouts_is_refused(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from macekit.kernels import cpu, cpu_readouts

    monkeypatch.setattr(cpu, "readout_sweeps", lambda norm: cpu_readouts.readout_sweeps(1.001 * norm))
    with pytest.raises(BackendUnavailable, match=r"result 0 of readout_sweeps in torch.float64 differs by .*e-0"):
        dispatch.select("cpu")


def test_a_backend_that_fails_is_refused() -> None:
    refusal = self_check.largest_difference(SimpleNamespace())  # type: ignore[arg-type]
    assert refusal is not None and refusal.startswith("edge_convolution in torch.float64 raises AttributeError")


def test_named_in_code(undecided: None) -> None:
    with dispatch.use("reference"):
        assert dispatch.backend_for(NUMBERS) is reference
        with dispatch.use("auto"):
            assert dispatch.backend_for(NUMBERS.to("meta")) is reference
        assert dispatch.backend_for(NUMBERS) is reference
    with pytest.raises(BackendUnavailable, match="unknown backend 'gpu'"), dispatch.use("gpu"):
        pass


@needs_extension
def test_a_named_backend_that_cannot_serve_raises() -> None:
    h, edges = torch.ones(1, 1, 2, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.int64)
    key = ConvolutionStructure.key((0,), 0)
    with dispatch.use("cpu"), pytest.raises(BackendUnavailable, match="'cpu' was chosen by name and is not for"):
        ops.edge_convolution(h, h[:, 0, :1], h, edges, edges, key)


@pytest.mark.parametrize("name", ["reference", "auto", ""])
def test_named_by_the_environment(undecided: None, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACEKIT_BACKEND", name)
    assert (dispatch.backend_for(NUMBERS) is reference) == (name == "reference" or dispatch.load("cpu").backend is None)
    monkeypatch.delenv("MACEKIT_BACKEND")


def test_misspelt_in_the_environment(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACEKIT_BACKEND", "cpi")
    with pytest.raises(BackendUnavailable, match="unknown backend 'cpi'"):
        dispatch.backend_for(NUMBERS)
    monkeypatch.delenv("MACEKIT_BACKEND")


@needs_extension
def test_the_self_check_is_quick() -> None:
    from macekit.kernels import cpu

    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)  # others only wait, which counts as their time
    try:
        for _ in range(4):
            start = time.process_time()
            assert self_check.largest_difference(cpu) is None
            taken.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(taken) < 0.05
