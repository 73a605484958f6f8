"""SSF and LoRA folded into the weights: the same predictions without a tuner."""

from __future__ import annotations

import pytest
import torch

import structures as named
from contract.subject import Subject
from macekit.errors import UsageError
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.merging import merged
from macekit.model.tuners import is_tuner_parameter
from models import UNCERTAINTIES, Combination, perturb_tuner, tiny_model
from tolerances import Tolerance, assert_close


def assert_predicts_the_same(found: Mace, expected: Mace, tolerance: Tolerance) -> None:
    graph = Subject(expected).graph(*named.batch_of_everything())
    values = Subject(expected)(graph)
    for name, value in Subject(found)(graph).items():
        assert_close(value, values[name], tolerance, name)


@pytest.mark.parametrize("interaction", ["agnostic", "agnostic_residual", "nonlinear_residual"])
@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize("tuner", ["ssf", "lora"])
def test_predictions_stay(tuner: str, uncertainty: str, interaction: str) -> None:
    extra = {"interaction": interaction} if interaction == "nonlinear_residual" else {"interaction_first": interaction}
    model = perturb_tuner(tiny_model(Combination(tuner, uncertainty), **extra))
    folded = merged(model)
    assert folded.config.tuner == "none"
    assert folded.config.uncertainty == uncertainty
    assert not any(is_tuner_parameter(name) for name in folded.state_dict())
    assert_predicts_the_same(folded, model, Tolerance.F64)


def test_in_single_precision() -> None:
    model = perturb_tuner(tiny_model(Combination("ssf", "none"), torch.float32))
    folded = merged(model)
    assert folded.dtype == torch.float32
    assert_predicts_the_same(folded, model, Tolerance.F32)


def test_twice() -> None:
    """A merged model is tuned again, and merged again: its constants are scaled by the second γ."""
    once = merged(perturb_tuner(tiny_model(Combination("ssf", "none"))))
    config = once.config.model_copy(update={"name": "ssf_mace_model", "tuner": "ssf"})
    again = build_model(config.name, config, once.facts, dtype=torch.float64).eval()
    again.load_state_dict({**again.state_dict(), **once.state_dict()})
    assert_predicts_the_same(again, once, Tolerance.EXACT)
    perturb_tuner(again, seed=9)
    assert_predicts_the_same(merged(again), again, Tolerance.F64)


@pytest.mark.parametrize(
    ("tuner", "message"),
    [
        ("none", "nothing to merge: the model has no tuner"),
        ("adapter", "cannot be folded into weights; ssf and lora can"),
    ],
)
def test_what_cannot_be_merged(tuner: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        merged(tiny_model(Combination(tuner, "none")))
