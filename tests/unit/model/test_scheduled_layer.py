"""Layers as one operation: gradients of training by the hand-written second sweep against those of the operators."""

from __future__ import annotations

import copy
from typing import Any, cast
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from macekit.data import Structure
from macekit.kernels.dispatch import is_compiled
from macekit.model import layer as layer_module
from macekit.model import readout as readout_module
from macekit.model import scheduled_layer as scheduled_layer_module
from macekit.model.layer_inputs import LinearMap
from macekit.model.linear import node_attributes
from macekit.outputs.derivatives import evaluate
from macekit.training.radial import RadialFunctions
from macekit.training.run_directory import RunLog
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

READ_BY_OPERATORS: dict[str, dict[str, Any]] = {
    "another activation": {"mlp_activation": "tanh"},
    "two hidden layers": {"mlp_kind": "biased"},
}
NOT_SCHEDULED: dict[str, dict[str, Any]] = {
    "density": {"interaction_first": "density", "interaction": "density_residual"},
    "fewer degrees sent": {"edge_irreps": "3x0e"},
    "nonlinear": {"interaction": "nonlinear_residual", "envelope": "messages"},
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The outputs of the layers that were one operation."""
    return results_of(monkeypatch, layer_module, "scheduled_layer")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_gradients_are_those_of_the_operators(
    combination: Combination, dtype: torch.dtype, calls: list[Tensor]
) -> None:
    model = with_table(perturb_tuner(tiny_model(combination, dtype=dtype)))
    found = gradients(model, None, allowed=True)
    assert len(calls) == 2
    assert_alike(found, gradients(model, None, allowed=False), 1e-10 if dtype == torch.float64 else 1e-5)
    assert len(calls) == 2


@pytest.mark.parametrize("outputs", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_loss_and_kind_of_layer(
    options: dict[str, Any], outputs: tuple[str, ...] | None, calls: list[Tensor]
) -> None:
    model = with_table(tiny_model(**options))
    found = gradients(model, outputs, allowed=True)
    assert len(calls) == len(model.backbone.layers)
    assert_alike(found, gradients(model, outputs, allowed=False), 1e-10)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The layers that a backend has in one."""
    if not is_compiled():
        pytest.skip("no compiler: the reference has the parts of a layer alone")
    return results_of(monkeypatch, scheduled_layer_module, "_WholeLayer")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("outputs", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_loss_and_kind_of_layer_in_calls_of_whole_sweeps(
    options: dict[str, Any], outputs: tuple[str, ...] | None, dtype: torch.dtype, whole: list[Any]
) -> None:
    model = with_table(tiny_model(dtype=dtype, **of_whole_registers(options)))
    found = gradients(model, outputs, allowed=True)
    assert len(whole) == len(model.backbone.layers)
    assert_alike(found, gradients(model, outputs, allowed=False), 1e-10 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("joined", [False, True])
def test_whole_sweeps_with_one_map_or_two_after_the_messages(
    joined: bool, whole: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearMap, "is_worth_joining", lambda *given: joined)
    model = with_table(tiny_model(**of_whole_registers({})))
    assert_alike(gradients(model, None, allowed=True), gradients(model, None, allowed=False), 1e-10)
    assert len(whole) == 2


@pytest.mark.parametrize("trained", ["linear_up", "interaction.linear.", "product.linear", "product.weights", "radial"])
def test_whole_sweeps_where_some_weights_are_frozen(trained: str, whole: list[Any]) -> None:
    model = with_table(tiny_model(**of_whole_registers({})))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    found = gradients(model, None, allowed=True)
    assert whole
    assert found
    assert all(trained in name for name in found)
    assert_alike(found, gradients(model, None, allowed=False), 1e-10)


def test_whole_sweeps_of_every_instruction_set(whole: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from macekit.kernels import cpu

    model = with_table(tiny_model(**of_whole_registers({})))
    expected = gradients(model, None, allowed=False)
    for instruction_set in cpu._core.instruction_sets():
        monkeypatch.setattr("macekit.kernels.cpu_arguments.INSTRUCTION_SET", instruction_set)
        assert_alike(gradients(model, None, allowed=True), expected, 1e-10)
    assert len(whole) == 2 * len(cpu._core.instruction_sets())


@pytest.mark.parametrize("others", [[], [water()]], ids=["alone", "beside a molecule"])
@pytest.mark.parametrize("outputs", [("y_graph_scalars",), ("y_node_vector",)], ids=["energy", "forces"])
def test_whole_sweeps_of_atoms_without_neighbours(
    others: list[Structure], outputs: tuple[str, ...], whole: list[Any]
) -> None:
    structures = [single_atom(8), single_atom(1), *others]
    model = with_table(tiny_model(**of_whole_registers({})))
    found = gradients(model, outputs, allowed=True, structures=structures)
    assert len(whole) == 2
    assert_alike(found, gradients(model, outputs, allowed=False, structures=structures), 1e-10)


@pytest.mark.parametrize("threads", [1, 2])
def test_whole_sweeps_are_those_of_the_kernels(threads: int, whole: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: nothing but the calls is different. (Sums of channels' shares depend on the number of threads.)"""
    monkeypatch.setattr("macekit.kernels.cpu_arguments.WORK_PER_THREAD", 1)
    model = with_table(tiny_model(dtype=torch.float32, hidden_irreps="32x0e + 32x1o"))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        expected = gradients(model, None, allowed=True)
        assert len(whole) == 2
        monkeypatch.setattr(scheduled_layer_module, "_whole_layer", lambda *given: None)
        found = gradients(model, None, allowed=True)
    finally:
        torch.set_num_threads(before)
    assert len(whole) == 2
    assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())


@pytest.mark.parametrize("options", [{}, *READ_BY_OPERATORS.values()], ids=["plain", *READ_BY_OPERATORS])
def test_readouts_are_one_operation_or_left_to_the_operators(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Mock(wraps=readout_module.scheduled_readouts)
    monkeypatch.setattr(readout_module, "scheduled_readouts", counted)
    model = copy.deepcopy(with_table(tiny_model(**options)))  # as models are that were trained before
    found = gradients(model, None, allowed=True)
    assert bool(counted.call_count) == (options == {})
    assert_alike(found, gradients(model, None, allowed=False), 1e-10)


@pytest.mark.parametrize("joined", [False, True])
def test_maps_after_the_messages_are_one_or_two(joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinearMap, "is_worth_joining", lambda *given: joined)
    model = with_table(tiny_model())
    assert_alike(gradients(model, None, allowed=True), gradients(model, None, allowed=False), 1e-10)


def test_maps_are_joined_where_there_are_many_atoms_of_few_classes() -> None:
    model = tiny_model()
    interaction, shape = model.backbone.layers[0].interaction, (1, model.backbone.channels)
    for num_atoms in (1, 40):
        species = torch.zeros(num_atoms, dtype=torch.int64)
        attributes = node_attributes(species, torch.zeros(num_atoms, 0), len(model.facts.elements), model.dtype)
        assert (interaction.maps(shape, attributes)[2] is None) == (num_atoms == 40)


def test_frozen_weights_have_no_gradient_and_the_others_the_same(calls: list[Tensor]) -> None:
    model = with_table(tiny_model())
    expected = gradients(model, None, allowed=False)
    frozen = [name for name in expected if ".linear" in name or "radial" in name]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    found = gradients(model, None, allowed=True)
    assert calls and frozen and not found.keys() & set(frozen)
    assert_alike(found, {name: value for name, value in expected.items() if name not in frozen}, 1e-10)


def test_a_second_gradient_of_a_step_is_refused() -> None:
    assert_a_second_gradient_is_refused(with_table(tiny_model()))


@pytest.mark.parametrize("options", NOT_SCHEDULED.values(), ids=NOT_SCHEDULED)
def test_other_layers_are_left_to_the_operators(options: dict[str, Any], calls: list[Tensor]) -> None:
    model = with_table(tiny_model(**options))
    found = gradients(model, None, allowed=True)
    assert len(calls) < 2 and any(layer.unscheduled() for layer in model.backbone.layers)  # type: ignore[operator,union-attr]
    assert_alike(found, gradients(model, None, allowed=False), 1e-12)


def test_evaluations_and_exact_radial_functions_are_left_to_the_operators(calls: list[Tensor]) -> None:
    model = tiny_model()
    found = gradients(model, None, allowed=True)  # the read-outs alone are one operation
    assert_alike(found, gradients(model, None, allowed=False), 1e-10)
    with_table(model)
    evaluate(model, graph_of(model), training=True)
    assert not calls


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


ONLY_ENERGIES = facts_of()["targets"] | dict.fromkeys(("y_graph_vector", "y_node_scalars"))
"""And forces and stress."""


@pytest.mark.parametrize(
    ("options", "mode", "said"),
    [
        ({}, "table", "layer by layer, second sweep scheduled"),
        ({"facts": {"targets": ONLY_ENERGIES}}, "table", "in one operation, second sweep scheduled"),
        ({}, "exact", "operation by operation (radial functions are evaluated for every edge)"),
        (NOT_SCHEDULED["density"], "table", "operation by operation (layer 1: messages are divided by a density)"),
    ],
    ids=["by layer", "in one", "exact", "density"],
)
def test_the_log_says_once_how_steps_are_made(options: dict[str, Any], mode: str, said: str) -> None:
    model, log = tiny_model(radial_mlp=[64, 64, 64], **options), Lines()
    radial = RadialFunctions(mode, 1e4)
    for _ in range(2):
        radial.choose([model], cast(RunLog, log))
    assert [line for line in log.lines if line.startswith("training step:")] == [f"training step: {said}"]
