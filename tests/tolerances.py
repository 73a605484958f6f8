"""Every tolerance of the tests, by name, with its reason. Differences are relative to max(1, largest expected)."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class Tolerance(float, Enum):
    """The largest difference that is rounding and not a mistake."""

    EXACT = 0.0
    """The same operations on the same numbers."""
    SUM = 1e-12
    """Float64; the same terms, added in another order (batches, edges, atoms)."""
    F64 = 1e-10
    """Float64; the same function evaluated along another way (rotated, repeated, far away)."""
    SYMMETRIC = 1e-8
    """Float64; the Jacobian of the forces is symmetric."""
    F32_BATCH = 1e-6
    """Float32; batches against single structures."""
    F32 = 2e-5
    """Float32; rotated and permuted, after two layers of products of third order."""
    F32_FAR = 1e-4
    """eV/Å; float32 at any distance from the origin, where mace-torch loses 34e-3 at 1e5 Å."""
    FORCE = 1e-6
    """eV/Å; five-point differences with steps of 5e-4 Å."""
    STRESS = 1e-7
    """eV/Å³; five-point differences with strains of 1e-4 and more."""
    WEIGHTS = 1e-6
    """Derivatives with respect to weights against five-point differences."""
    CUTOFF_ENERGY = 1e-9
    """eV; across the cutoff ± 1e-3 Å."""
    CUTOFF_FORCE = 1e-7
    """eV/Å; across the cutoff ± 1e-3 Å."""
    ORACLE = 1e-11
    """Float64; against an independent dense implementation."""


def assert_close(found: Tensor, expected: Tensor, tolerance: Tolerance, what: str) -> None:
    """Fail where two tensors differ in shape, in where they are NaN, or by more than the tolerance."""
    assert found.shape == expected.shape, f"{what}: shape {list(found.shape)}, expected {list(expected.shape)}"
    found, expected = found.detach().double(), expected.detach().double()
    missing = torch.isnan(expected)
    assert torch.equal(torch.isnan(found), missing), f"{what}: NaN where there should be none, or the other way round"
    found, expected = found[~missing], expected[~missing]
    if expected.numel() == 0:
        return
    scale = max(1.0, float(expected.abs().max()))
    worst = float((found - expected).abs().max())
    assert worst <= tolerance.value * scale, f"{what}: differs by {worst:.2e}, allowed {tolerance.value * scale:.2e}"
