"""`macekit merge`: the tuner folded away, and what cannot be folded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

import macekit
from macekit.interop.native import save_native
from models import Combination, perturb_tuner, tiny_model

Invoke = Callable[..., Any]


@pytest.mark.parametrize("tuner", ["ssf", "lora"])
def test_a_merged_model_predicts_the_same(tuner: str, tmp_path: Path, invoke: Invoke, waters: list[Atoms]) -> None:
    save_native(perturb_tuner(tiny_model(Combination(tuner, "none"))), tmp_path / "tuned")
    result = invoke("merge", tmp_path / "tuned", tmp_path / "merged")
    assert result.exit_code == 0, result.output
    assert f"{tuner} folded away" in result.output
    tuned, merged = (macekit.load_model(tmp_path / name, device="cpu") for name in ("tuned", "merged"))
    assert merged.config.tuner == "none"
    assert merged.provenance["merged"] == tuner
    expected, found = tuned.predict(waters), merged.predict(waters)
    for name in ("energy", "gap", "dipole"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-10 * np.abs(expected[name]).max())
    for one, other in zip(found["forces"], expected["forces"], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("tuner", "message"), [("none", "nothing to merge"), ("adapter", "cannot be folded")])
def test_what_cannot_be_merged(tuner: str, message: str, tmp_path: Path, invoke: Invoke) -> None:
    save_native(tiny_model(Combination(tuner, "none")), tmp_path / "model")
    result = invoke("merge", tmp_path / "model", tmp_path / "merged")
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "merged").exists()
