"""Shapes and types of every output, down to nothing."""

from __future__ import annotations

import pytest

from contract import state_checks as checks
from contract.subject import Subject


@pytest.mark.parametrize("name", list(checks.SMALLEST))
def test_shapes(subject: Subject, direct: Subject, name: str) -> None:
    checks.check_shapes(subject, checks.SMALLEST[name])
    checks.check_shapes(direct, checks.SMALLEST[name])
