"""Radial functions out of a table: how far from the exact ones, when not, and the gradients of training with them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from macekit.errors import ConfigError
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.kernels import dispatch
from macekit.kernels.dispatch import is_compiled
from macekit.kernels.sweeps import sweep
from macekit.model.mace import Mace
from macekit.model.radial_table import interpolation_error
from macekit.outputs import derivatives
from macekit.outputs.derivatives import evaluate
from macekit.training.radial import KNOTS, LARGEST_ERROR, RadialFunctions
from models import COMBINATIONS, Combination, perturb_tuner, tiny_model
from structures import cubic_copper, methane, mixed_elements, water

NEEDS_EVERY_EDGE: dict[str, dict[str, Any]] = {
    "agnesi": {"distance_transform": "agnesi"},
    "soft": {"distance_transform": "soft"},
    "nonlinear": {"interaction": "nonlinear_residual", "envelope": "messages"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "late envelope": {"envelope": "messages"},
    "density": {"interaction_first": "density", "interaction": "density_residual"},
    "gaussian": {"radial_basis": "gaussian"},
    "edge irreps": {"edge_irreps": "3x0e", "edge_irreps_first": True},
    "no hidden units": {"radial_mlp": []},
    "degree 2": {"hidden_irreps": "3x0e + 3x1o + 3x2e"},
}
without_extension = dispatch.load("cpu").backend is None


def graph_of(model: Mace, *, with_crystal: bool = False) -> Graph:
    structures = [water(), methane(), mixed_elements()] + ([cubic_copper()] if with_crystal else [])
    return collate([graph_from_structure(s, model.facts.elements, model.facts.cutoff) for s in structures])


def with_knots(model: Mace, knots: int) -> Mace:
    model.backbone.num_knots = knots
    return model


def loss_of(model: Mace, graph: Graph) -> Tensor:
    """Every output, forces and stress among them, times numbers without a pattern, and squared."""
    total = torch.zeros((), dtype=torch.float64)
    for output in evaluate(model, graph, training=True).values():
        numbers = torch.arange(output.numel(), dtype=torch.float64).add(1.0).sqrt().sin().view(output.shape)
        total = total + (numbers * output + 0.1 * output.square()).nan_to_num().sum()
    return total


def gradients(model: Mace, graph: Graph, within: AbstractContextManager[None], *, alone: bool) -> dict[str, Tensor]:
    """By name; `alone`: for weights and nothing else, as training does it."""
    model.zero_grad(set_to_none=True)
    loss = loss_of(model, graph)
    with within:
        torch.autograd.backward(loss, inputs=list(model.parameters()) if alone else None)
    return {n: p.grad.double().clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], allowed: float) -> None:
    """Relative to the norm of the whole gradient of every parameter's kind."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= allowed * (1e-3 + float(gradient.norm())), name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_interpolation_is_of_fourth_order(options: dict[str, Any]) -> None:
    model = tiny_model(**options)
    errors = [interpolation_error(model.backbone, knots) for knots in (65, 129, 257)]
    assert errors[0] > 8.0 * errors[1] > 64.0 * errors[2]
    graph = graph_of(model)
    exact = evaluate(model, graph, stress=False)
    table = evaluate(with_knots(model, 513), graph, stress=False)
    for name in ("y_graph_scalars", "y_node_vector", "y_node_scalars"):
        scale = float(exact[name].abs().max())
        assert 0.0 < float((table[name] - exact[name]).abs().max()) < 1e-4 * scale, name


@pytest.mark.parametrize("knots", [0, 100], ids=["exact", "table"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_sweeps_give_the_gradients_of_plain_autograd(
    combination: Combination, knots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving out what nobody asks for changes nothing of the rest, whatever the tuner."""
    model = with_knots(perturb_tuner(tiny_model(combination)), knots)
    graph = graph_of(model, with_crystal=True)
    found = gradients(model, graph, sweep(geometry=False, weights=True), alone=True)
    monkeypatch.setattr(derivatives, "sweep", lambda **_: nullcontext())
    assert_alike(found, gradients(model, graph, nullcontext(), alone=False), 1e-10)


@pytest.mark.skipif(without_extension, reason="macekit was installed without a compiler")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"])
def test_kernels_give_the_gradients_of_the_reference(
    options: dict[str, Any], dtype: torch.dtype, allowed: float
) -> None:
    found = []
    for backend in ("cpu", "reference"):
        model = with_knots(tiny_model(dtype=dtype, **options), 100)
        with dispatch.use(backend):
            graph = graph_of(model, with_crystal=True)
            found.append(gradients(model, graph, sweep(geometry=False, weights=True), alone=True))
    assert_alike(*found, allowed)


def test_gradients_are_those_of_the_interpolated_functions() -> None:
    """A loss on forces and stress against finite differences along a direction of all weights."""
    model = with_knots(tiny_model(), 60)
    graph = graph_of(model, with_crystal=True)
    found = gradients(model, graph, sweep(geometry=False, weights=True), alone=True)
    generator = torch.Generator().manual_seed(1)
    directions = {
        n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in model.named_parameters()
    }
    values = []
    for step in (-2e-4, -1e-4, 1e-4, 2e-4):
        moved = with_knots(tiny_model(), 60)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter.add_(step * directions[name])
        values.append(loss_of(moved, graph).item())
    expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 1.2e-3
    assert sum(float((found[n] * directions[n]).sum()) for n in found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("options", NEEDS_EVERY_EDGE.values(), ids=NEEDS_EVERY_EDGE)
def test_no_table_where_functions_depend_on_more_than_the_distance(options: dict[str, Any]) -> None:
    model = tiny_model(**options)
    graph = graph_of(model)
    assert model.backbone.tabulated() == []
    exact, asked = evaluate(model, graph), evaluate(with_knots(model, 64), graph)
    assert all(torch.equal(exact[name].nan_to_num(), asked[name].nan_to_num()) for name in exact)
    with pytest.raises(ConfigError, match=r"training\.radial is 'table', and the radial functions cannot have one"):
        RadialFunctions("table", 1e4).choose([model])
    RadialFunctions("auto", 1e4).choose([model])
    assert model.backbone.num_knots == 0


def test_bond_features_need_every_edge() -> None:
    assert tiny_model(facts={"num_edge_features": 2}).backbone.tabulated() == []


def test_choice_between_table_and_exact() -> None:
    model = tiny_model(radial_mlp=[64, 64, 64])
    for mode, edges, knots in (
        ("exact", 1e4, 0),
        ("auto", 100.0, 0),
        ("auto", 1e4, KNOTS[0]),
        ("table", 9.0, KNOTS[0]),
    ):
        RadialFunctions(mode, edges).choose([model])
        assert model.backbone.num_knots == knots, mode


def test_no_table_for_features_that_the_compiled_kernels_have_none_for() -> None:
    model = tiny_model(hidden_irreps="2x0e + 2x1o + 2x2e + 2x3o", max_ell=3)
    RadialFunctions("auto", 1e4).choose([model])
    assert model.backbone.num_knots == (0 if is_compiled() else KNOTS[0])
    RadialFunctions("table", 1e4).choose([model])
    assert model.backbone.num_knots == KNOTS[0]


def test_a_table_is_refined_and_given_up_by_the_measured_error() -> None:
    """Radial functions as no training leaves them: higher and higher powers of the same weights."""
    model = tiny_model(radial_mlp=[64, 64, 64])
    chosen = []
    for factor in (1.0, 15.0, 10.0):
        with torch.no_grad():
            for layer in model.backbone.layers:
                layer.interaction.radial.weights[0].mul_(factor)
        RadialFunctions("auto", 1e4).choose([model])
        chosen.append(model.backbone.num_knots)
    assert chosen[0] == KNOTS[0] < chosen[1] and chosen[2] == 0, chosen
    with pytest.raises(ConfigError, match="1024 knots are not precise enough"):
        RadialFunctions("table", 1e4).choose([model])


def test_a_table_is_no_part_of_the_model() -> None:
    model = tiny_model()
    before = list(model.state_dict())
    assert list(with_knots(model, 128).state_dict()) == before
    assert "knots" not in model.config.model_dump_json()


def test_atoms_on_top_of_each_other_have_energies() -> None:
    """The first knot is at distance 0."""
    model = with_knots(tiny_model(), 128)
    graph = graph_of(model)
    together = graph._replace(positions=graph.positions * 1e-9)
    assert all(bool(value.isfinite().all()) for value in evaluate(model, together, stress=False).values())


def test_the_error_counts_where_there_are_data() -> None:
    """Radial functions that change fast at distances where no atoms come take a fine table only if asked for there."""
    model = tiny_model(radial_mlp=[64, 64, 64])
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.interaction.radial.weights[0].mul_(6.0)
    cutoff = model.backbone.cutoff
    chosen = []
    for shortest in (0.0, 0.5 * cutoff):
        RadialFunctions("table", 1e4, shortest).choose([model])
        chosen.append(model.backbone.num_knots)
    assert chosen[0] > chosen[1]
    below = [interpolation_error(model.backbone, chosen[1], shortest) for shortest in (0.0, 0.5 * cutoff)]
    assert below[0] > LARGEST_ERROR >= below[1]
    assert interpolation_error(model.backbone, chosen[0], cutoff) > LARGEST_ERROR  # nothing but the end, where all is 0
