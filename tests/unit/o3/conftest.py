"""e3nn is imported before any test, so that what its import does to the process is not a test's."""

from __future__ import annotations

import pytest

from oracles import load_yardsticks


@pytest.fixture(scope="session", autouse=True)
def yardsticks() -> None:
    load_yardsticks()
