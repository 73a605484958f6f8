"""Models as files: the same bits come back, the same names stay, and anything damaged is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import structures as named
from contract.conftest import tuned
from contract.subject import Subject, assert_same_bits
from macekit.interop.native import load_native, save_native
from models import COMBINATIONS, Combination, tiny_model

NAMES = Path(__file__).parent / "parameter_names.json"


@pytest.mark.parametrize("forces", [True, False])
def test_round_trip(combination: Combination, dtype: torch.dtype, forces: bool, tmp_path: Path) -> None:
    subject = tuned(combination, dtype, forces)
    loaded = Subject(load_native(save_native(subject.model, tmp_path / "model")))
    assert loaded.model.dtype == dtype
    assert loaded.model.config == subject.model.config
    assert loaded.model.facts == subject.model.facts
    assert not loaded.model.training
    stored, found = subject.model.state_dict(), loaded.model.state_dict()
    assert stored.keys() == found.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in stored.items())
    graph = subject.graph(*named.batch_of_everything())
    assert_same_bits(loaded(graph), subject(graph), "loaded model")


def test_other_precision_on_loading(combination: Combination, dtype: torch.dtype, tmp_path: Path) -> None:
    subject = tuned(combination, dtype, forces=True)
    save_native(subject.model, tmp_path / "model")
    other = torch.float32 if dtype == torch.float64 else torch.float64
    loaded = load_native(tmp_path / "model", dtype=other)
    assert loaded.dtype == other
    assert all(torch.equal(v, subject.model.state_dict()[n].to(other)) for n, v in loaded.state_dict().items())


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    model = tiny_model()
    first, second = save_native(model, tmp_path / "a"), save_native(model, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def parameter_names() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the base model, and what each switch adds."""
    base = {name: list(value.shape) for name, value in tiny_model().state_dict().items()}
    found = {"base": base}
    for combination in (Combination("ssf", "none"), Combination("adapter", "none"), Combination("lora", "none")):
        state = tiny_model(combination).state_dict()
        found[combination.tuner] = {name: list(v.shape) for name, v in state.items() if name not in base}
    state = tiny_model(Combination("none", "gaussian"), correlation=2).state_dict()
    found["gaussian"] = {name: list(value.shape) for name, value in state.items() if name not in base}
    return found


def test_parameter_names_are_kept() -> None:
    """Stored models refer to these names; `python -m pytest` never rewrites the file."""
    assert parameter_names() == json.loads(NAMES.read_text(encoding="utf-8"))


def test_parameter_names_of_combinations(combination: Combination) -> None:
    stored = json.loads(NAMES.read_text(encoding="utf-8"))
    expected = stored["base"].keys() | stored.get(combination.tuner, {}).keys()
    if combination.uncertainty == "gaussian":
        expected |= stored["gaussian"].keys()
    assert tiny_model(combination).state_dict().keys() == expected
    assert len(COMBINATIONS) == 8
