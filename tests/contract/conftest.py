"""The subjects of the contract: eight models in two precisions, with tuners far from the identity."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from contract.subject import Subject
from models import COMBINATIONS, Combination, perturb_tuner, tiny_model

DTYPES = [torch.float64, torch.float32]


@cache
def tuned(combination: Combination, dtype: torch.dtype, forces: bool) -> Subject:
    """The same object for all tests: one that changes it is found by the others."""
    return Subject(perturb_tuner(tiny_model(combination, dtype, forces=forces)))


@pytest.fixture(params=COMBINATIONS, ids=str)
def combination(request: pytest.FixtureRequest) -> Combination:
    """Every combination of tuner and uncertainty."""
    return request.param


@pytest.fixture(params=DTYPES, ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions."""
    return request.param


@pytest.fixture
def subject(combination: Combination, dtype: torch.dtype) -> Subject:
    """A model with forces and stress."""
    return tuned(combination, dtype, forces=True)


@pytest.fixture
def direct(combination: Combination, dtype: torch.dtype) -> Subject:
    """A model with a direct vector per atom."""
    return tuned(combination, dtype, forces=False)


@pytest.fixture
def double(combination: Combination) -> Subject:
    """A model with forces and stress in float64."""
    return tuned(combination, torch.float64, forces=True)
