"""Other people's code as a yardstick."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType

import pytest
import torch
from torch import Tensor


def e3nn_o3() -> ModuleType:
    """`e3nn.o3`, or skip the test by name where e3nn is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("e3nn", reason="e3nn, the yardstick for rotations, is not installed")
        from e3nn import o3

    return o3


def wigner_d(l: int, rotation: Tensor) -> Tensor:
    """e3nn's Wigner D in full precision: how e3nn's harmonics of degree l turn, float64 [2l+1, 2l+1].

    e3nn's own `wigner_D` holds about seven digits; it is compared with that.
    """
    o3 = e3nn_o3()
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(8 * (l + 1), 3, generator=generator, dtype=torch.float64), dim=1)
    before, after = (o3.spherical_harmonics(l, x, normalize=False) for x in (points, points @ rotation.T))
    found = torch.linalg.lstsq(before, after).solution.T
    theirs = o3.wigner_D(l, *o3.matrix_to_angles(rotation))
    assert torch.allclose(found, theirs, atol=1e-5)
    return found


def rotation_matrix(seed: int) -> Tensor:
    """A random rotation, float64 [3, 3]."""
    generator = torch.Generator().manual_seed(seed)
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return matrix * torch.linalg.det(matrix)


def load_yardsticks() -> None:
    """Import e3nn, where it is there, and torch's compiler: both write to the environment on first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
        importlib.import_module("torch._inductor.codecache")
        if importlib.util.find_spec("e3nn"):
            importlib.import_module("e3nn.o3")
