"""Fixtures for all tests."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real models and data beside the checkout."""
    if not ASSETS.is_dir():
        pytest.skip("the folder ../shared/assets (real models and data) is not beside the checkout")
    return ASSETS


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """Also where the tests were started in the background, whose shell has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def global_state_untouched() -> Iterator[None]:
    """No test, and so nothing it calls, leaves the process different."""
    before = global_state()
    yield
    after = global_state()
    changed = {name: (value, after[name]) for name, value in before.items() if name in after and after[name] != value}
    assert not changed, f"global state changed (before, after): {changed}"


def global_state() -> dict[str, Any]:
    """What macekit never touches. torch is not imported for it; its state before import is its default."""
    torch = sys.modules.get("torch")
    loaded = torch is not None and hasattr(torch, "get_default_dtype") and hasattr(torch, "get_num_threads")
    root = logging.getLogger()
    state: dict[str, Any] = {
        "environment": {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"},
        "log level": root.level,
        "log handlers": [h for h in root.handlers if not type(h).__module__.startswith("_pytest")],
        "working directory": str(Path.cwd()),
        "torch default dtype": str(torch.get_default_dtype()) if loaded else "torch.float32",
        "torch grad mode": torch.is_grad_enabled() if loaded else True,
        "torch deterministic": torch.are_deterministic_algorithms_enabled() if loaded else False,
    }
    if loaded:
        state["torch threads"] = torch.get_num_threads()
    return state
