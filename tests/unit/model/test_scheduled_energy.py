"""The energy with its gradient as one operation, against the operators and against layers one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from macekit.kernels.dispatch import is_compiled
from macekit.kernels.sweeps import scheduled
from macekit.model import backbone as backbone_module
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from models import COMBINATIONS, Combination, facts_of, perturb_tuner, tiny_model
from scheduled_steps import (
    LOSSES,
    OPTIONS,
    assert_a_second_gradient_is_refused,
    assert_alike,
    gradients,
    graph_of,
    of_whole_registers,
    results_of,
    with_table,
)
from structures import single_atom, water

TARGETS = {"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces", "stress": "stress"}
"""Two graph scalars, of which forces and stress are derivatives of the second."""
IN_ONE = {name: options for name, options in OPTIONS.items() if name != "bias"}
LAYER_BY_LAYER: dict[str, dict[str, Any]] = {
    "bias": {"scalar_bias": True},
    "ssf": {"tuner": "ssf"},
    "adapter": {"tuner": "adapter"},
    "deviation": {"uncertainty": "gaussian"},
    "another activation": {"mlp_activation": "tanh"},
    "pair repulsion": {"pair_repulsion": "zbl"},
}


def energy_model(dtype: torch.dtype = torch.float64, *, targets: dict[str, Any] = TARGETS, **changes: Any) -> Mace:
    combination = Combination(changes.pop("tuner", "none"), changes.pop("uncertainty", "none"))
    facts = {"targets": targets}
    return with_table(perturb_tuner(tiny_model(combination, dtype, facts=facts, **changes)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What came out of one operation."""
    return results_of(monkeypatch, backbone_module, "scheduled_energy")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("wide", [False, True], ids=["kernel by kernel", "whole sweeps"])
@pytest.mark.parametrize("outputs", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("options", IN_ONE.values(), ids=IN_ONE)
def test_every_loss_and_kind_of_layer(
    options: dict[str, Any], outputs: tuple[str, ...] | None, wide: bool, dtype: torch.dtype, calls: list[Any]
) -> None:
    model = energy_model(dtype, **(of_whole_registers(options) if wide else options))
    found = gradients(model, outputs, allowed=True)
    assert len(calls) == 1
    assert_alike(found, gradients(model, outputs, allowed=False), 1e-10 if dtype == torch.float64 else 1e-5)
    assert len(calls) == 1


@pytest.mark.parametrize("options", [{}, {"tuner": "lora"}, {"compatibility": "physicsml"}], ids=str)
def test_predictions_are_those_of_the_operators(options: dict[str, Any], calls: list[Any]) -> None:
    model = energy_model(**options)
    graph = graph_of(model)
    expected = evaluate(model, graph)
    for training in (False, True):
        with scheduled():
            found = evaluate(model, graph, training=training)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].requires_grad == training, name
            torch.testing.assert_close(found[name].detach(), values, rtol=1e-11, atol=1e-11, equal_nan=True)
    assert len(calls) == 2


def test_only_what_is_asked_for_is_derived(calls: list[Any]) -> None:
    model = energy_model()
    with scheduled():
        alone = evaluate(model, graph_of(model), training=True, forces=True, stress=False)
        energies = evaluate(model, graph_of(model), training=True, forces=False, stress=False)
    assert "stress" not in alone and "y_node_vector" in alone
    assert energies.keys() == {"y_graph_scalars", "y_graph_scalars::nodes"}
    assert len(calls) == 1


@pytest.mark.parametrize("trained", ["embedding", "linear_up", "interaction.linear.", "product.", "radial", "readouts"])
def test_frozen_weights_have_no_gradient_and_the_others_the_same(trained: str, calls: list[Any]) -> None:
    model = energy_model(**of_whole_registers({}))
    expected = gradients(model, None, allowed=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    found = gradients(model, None, allowed=True)
    assert calls and found
    assert_alike(found, {name: value for name, value in expected.items() if trained in name}, 1e-10)


@pytest.mark.parametrize("others", [[], [water()]], ids=["alone", "beside a molecule"])
@pytest.mark.parametrize("outputs", [("y_graph_scalars",), ("y_node_vector",)], ids=["energy", "forces"])
def test_atoms_without_neighbours(others: list[Any], outputs: tuple[str, ...], calls: list[Any]) -> None:
    structures = [single_atom(8), single_atom(1), *others]
    model = energy_model()
    found = gradients(model, outputs, allowed=True, structures=structures)
    assert len(calls) == 1
    assert_alike(found, gradients(model, outputs, allowed=False, structures=structures), 1e-10)


@pytest.mark.parametrize("options", LAYER_BY_LAYER.values(), ids=LAYER_BY_LAYER)
def test_what_has_more_between_edges_and_energy_goes_layer_by_layer(options: dict[str, Any], calls: list[Any]) -> None:
    model = energy_model(**options)
    assert not model.energy_in_one()
    assert_alike(gradients(model, None, allowed=True), gradients(model, None, allowed=False), 1e-10)
    assert not calls


def test_further_outputs_go_layer_by_layer(calls: list[Any]) -> None:
    model = energy_model(targets=facts_of()["targets"])
    gradients(model, None, allowed=True)
    assert not calls


def test_a_second_gradient_of_a_step_is_refused() -> None:
    assert_a_second_gradient_is_refused(energy_model())


def test_combinations_are_what_they_were_made_for() -> None:
    in_one = {str(c) for c in COMBINATIONS if energy_model(tuner=c.tuner, uncertainty=c.uncertainty).energy_in_one()}
    assert in_one == {"none-none", "lora-none"}


FAILING = """
from macekit.kernels.sweeps import scheduled
from macekit.outputs.derivatives import evaluate
from models import tiny_model
from scheduled_steps import graph_of, with_table
model = with_table(tiny_model(hidden_irreps="16x0e + 16x1o"))
with scheduled():
    found = evaluate(model, graph_of(model), training=True)
    raise ValueError("mine")
"""


@pytest.mark.skipif(not is_compiled(), reason="no compiler: there is no extension")
def test_a_script_that_fails_within_a_step_ends_with_its_own_traceback_alone() -> None:
    """It keeps the objects of the step until the interpreter has ended; the extension says nothing of them."""
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-c", FAILING], check=False, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert ended.stderr.strip().endswith("ValueError: mine"), ended.stderr[-2000:]
