"""The inference engine against the operators: architectures, structures, precisions, threads, refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from macekit.data import Structure
from macekit.errors import BackendUnavailable, UsageError
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.interfaces.trained import TrainedModel
from macekit.kernels import dispatch
from macekit.kernels.structure import ContractionStructure
from macekit.model.mace import Mace
from macekit.model.merging import merged
from macekit.outputs.derivatives import evaluate
from models import perturb_tuner, tiny_model
from structures import CUTOFF, ELEMENTS, batch_of_everything, dimer, isolated_pair, single_atom, slab, triclinic, water

pytest.importorskip("macekit.kernels._core", reason="the C++ extension is not built")
from macekit.kernels.engine import PIECE_DEGREE, NativeEngine
from macekit.outputs import compiled, radial_folding
from macekit.outputs.compiled import CompiledModel, Evaluator
from macekit.outputs.folding import fold
from macekit.outputs.radial_tables import piecewise

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative to the largest number: energies without E0, forces, virials."""

ENERGY = {"y_graph_scalars": ["energy"], "y_node_vector": "forces", "stress": "stress"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "one layer": {"num_interactions": 1, "hidden_irreps": "8x0e"},
    "scalars": {"hidden_irreps": "20x0e", "max_ell": 3, "correlation": 3},
    "vectors": {"hidden_irreps": "17x0e + 17x1o", "max_ell": 3, "correlation": 3},
    "tensors": {"hidden_irreps": "5x0e + 5x1o + 5x2e", "max_ell": 3, "correlation": 2},
    "l = 3": {"hidden_irreps": "3x0e + 3x1o + 3x2e + 3x3o", "max_ell": 3},
    "no vectors": {"hidden_irreps": "4x0e + 4x2e", "max_ell": 2},
    "three layers": {"num_interactions": 3, "max_ell": 1},
    "no directions": {"hidden_irreps": "6x0e", "max_ell": 0, "correlation": 3},
    "max_ell 4": {"max_ell": 4, "correlation": 1},
    "correlation 1": {"correlation": 1},
    "correlation 4": {"max_ell": 1, "correlation": 4},
    "many channels": {"hidden_irreps": "66x0e + 66x1o", "num_interactions": 2},
    "residual first": {"interaction_first": "agnostic_residual", "interaction": "agnostic"},
    "density": {"interaction_first": "density", "interaction": "density_residual"},
    "density, messages": {"interaction": "density_residual", "envelope": "messages"},
    "agnesi, zbl": {"distance_transform": "agnesi", "pair_repulsion": "zbl"},
    "soft, messages": {"distance_transform": "soft", "envelope": "messages", "radial_basis": "gaussian"},
    "chebyshev": {"radial_basis": "chebyshev", "distance_transform": "agnesi"},
    "edge irreps": {"hidden_irreps": "6x0e + 6x1o + 6x2e", "edge_irreps": "3x0e + 3x1o", "edge_irreps_first": True},
    "biased tanh": {"mlp_kind": "biased", "mlp_activation": "tanh"},
    "last layer read": {"read_layers": "last", "mlp_activation": "abs"},
    "ssf": {"tuner": "ssf"},
    "lora": {"tuner": "lora"},
}


def energy_model(dtype: torch.dtype = torch.float64, **changes: Any) -> Mace:
    """A model of the energy alone."""
    return perturb_tuner(tiny_model(dtype=dtype, facts={"targets": ENERGY}, **changes))


def graph_of(*structures: Structure) -> Graph:
    return collate([graph_from_structure(structure, ELEMENTS, CUTOFF) for structure in structures])


@pytest.fixture(scope="module")
def everything() -> Graph:
    return graph_of(*batch_of_everything())


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def differences(model: Mace, found: dict[str, torch.Tensor], graph: Graph) -> dict[str, float]:
    """Largest difference to the operators in float64, relative to the largest number, by output."""
    expected = evaluate(model.double(), graph, forces=True, stress=True)
    isolated = model.heads.graph_scalars.reference.value[graph.species]  # type: ignore[union-attr]
    worst = {}
    for name in ("y_graph_scalars::nodes", "y_node_vector", "stress"):
        one, other = found[name], expected[name]
        assert torch.equal(torch.isnan(one), torch.isnan(other)), name
        if name == "y_graph_scalars::nodes":
            one, other = one - isolated, other - isolated
        if other.numel():
            worst[name] = float((one - other).nan_to_num().abs().max() / other.nan_to_num().abs().max().clamp(min=1e-3))
    return worst


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(name: str, dtype: torch.dtype, everything: Graph) -> None:
    model = energy_model(dtype, **ARCHITECTURES[name])
    found = CompiledModel(model).evaluate(everything, forces=True, stress=True)
    worst = differences(model, found, everything)
    assert max(worst.values()) <= TOLERANCES[dtype], worst


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_merged_model_has_constants_after_its_layers(dtype: torch.dtype, everything: Graph) -> None:
    model = merged(energy_model(dtype, tuner="ssf"))
    assert all(torch.count_nonzero(layer.bias) for layer in model.backbone.layers)
    worst = differences(model, CompiledModel(model).evaluate(everything, forces=True, stress=True), everything)
    assert max(worst.values()) <= TOLERANCES[dtype], worst


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_rounding_of_couplings_and_terms_that_cancel(dtype: torch.dtype, everything: Graph) -> None:
    rounding = {"coupling_rounding": [2, 3], "coupling_terms": "all", "max_ell": 2, "correlation": 3}
    model = energy_model(dtype, hidden_irreps="3x0e + 3x1o + 3x2e", **rounding)
    before = CompiledModel(model).evaluate(everything, forces=True, stress=True)["y_node_vector"]
    for layer in model.backbone.layers:
        product, cancelling = layer.product, ~ContractionStructure.from_key(layer.product.key).basis().any(axis=1)
        product.rounding_basis[torch.as_tensor(cancelling)] = 1000.0  # far from equivariant
        product.rounding_weights.normal_(generator=torch.Generator().manual_seed(4))
    found = CompiledModel(model).evaluate(everything, forces=True, stress=True)
    assert float((found["y_node_vector"] - before).abs().max() / before.abs().max()) > 0.1
    worst = differences(model, found, everything)
    assert max(worst.values()) <= TOLERANCES[dtype], worst


@pytest.mark.parametrize("first_layer", ["moments", "messages"])
@pytest.mark.parametrize("instruction_set", ["avx512", "avx2", "baseline"])
def test_ways_of_the_first_layer_and_instruction_sets(
    first_layer: Any, instruction_set: str, everything: Graph
) -> None:
    from macekit.kernels import _core

    if instruction_set not in _core.instruction_sets():
        pytest.skip(f"this processor has no {instruction_set}")
    for dtype, tolerance in TOLERANCES.items():
        model = energy_model(dtype, hidden_irreps="19x0e + 19x1o", max_ell=3, correlation=3)
        engine = NativeEngine(fold(model, range(len(ELEMENTS)), dtype), dtype, instruction_set)
        g = everything
        around = engine.sort(g.species, g.batch, g.edge_index, g.edge_shifts, g.num_graphs)
        found = engine.evaluate(around, g.positions.numpy(), g.cell.numpy(), first_layer=first_layer)
        expected = evaluate(model.double(), g, forces=True, stress=False)["y_node_vector"].numpy()
        assert np.abs(found.forces - expected).max() / np.abs(expected).max() <= tolerance


@pytest.mark.parametrize("number", [2, 3])
def test_threads_change_nothing(number: int, threads: Callable[[int], None], everything: Graph) -> None:
    compiled_model = CompiledModel(energy_model(hidden_irreps="9x0e + 9x1o"))
    threads(1)
    one = compiled_model.evaluate(everything, forces=True, stress=True)
    threads(number)
    for _ in range(3):
        several = compiled_model.evaluate(everything, forces=True, stress=True)
        for name, expected in one.items():
            assert float((several[name] - expected).nan_to_num().abs().max()) <= 1e-12, name


def test_chunks_of_many_atoms_change_nothing(threads: Callable[[int], None]) -> None:
    copies = [triclinic() for _ in range(300)]  # 900 atoms are two chunks
    model = energy_model(interaction="density_residual")
    graph, single = graph_of(*copies), graph_of(triclinic())
    expected = evaluate(model, single, forces=True, stress=True)
    for number in (1, 2):
        threads(number)
        found = CompiledModel(model).evaluate(graph, forces=True, stress=True)
        for name in ("y_node_vector", "stress", "y_graph_scalars"):
            repeated = expected[name].repeat(300, *([1] * (expected[name].dim() - 1)))
            assert float((found[name] - repeated).abs().max()) <= 1e-10, name


@pytest.mark.parametrize("maker", [single_atom, isolated_pair, lambda: dimer(1.0), lambda: dimer(0.02), slab, water])
def test_single_structures(maker: Callable[[], Structure]) -> None:
    model = energy_model(max_ell=3, correlation=3)
    graph = graph_of(maker())
    worst = differences(model, CompiledModel(model).evaluate(graph, forces=True, stress=True), graph)
    assert max(worst.values()) <= 1e-9, worst


def test_atoms_in_one_place_give_numbers() -> None:
    found = CompiledModel(energy_model()).evaluate(graph_of(dimer(1e-9)), forces=True)
    assert bool(torch.isfinite(found["y_node_vector"]).all())


def test_no_atoms_at_all() -> None:
    graph = graph_of(batch_of_everything()[0])
    found = CompiledModel(energy_model()).evaluate(graph, forces=True)
    assert found["y_node_vector"].shape == (0, 3) and float(found["y_graph_scalars"].sum()) == 0.0


def test_edges_beyond_the_cutoff_count_for_nothing() -> None:
    """Neighbour lists with a skin have them."""
    model = energy_model()
    graph = graph_of(triclinic())
    longer = collate([graph_from_structure(triclinic(), ELEMENTS, CUTOFF + 0.7)])
    compiled_model = CompiledModel(model)
    one, other = (compiled_model.evaluate(g, forces=True, stress=True) for g in (graph, longer))
    assert longer.num_edges > graph.num_edges
    assert all(float((one[name] - other[name]).abs().max()) <= 1e-12 for name in one)


def test_several_scalars_and_forces_of_the_energy_alone(everything: Graph) -> None:
    targets = {"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces"}
    model = tiny_model(facts={"targets": targets})
    found = CompiledModel(model).evaluate(everything, forces=True, stress=True)
    assert max(differences(model, found, everything).values()) <= 1e-10


def test_all_weights_are_seen() -> None:
    """A change of any parameter changes engine and operators alike."""
    graph = graph_of(water(), triclinic())
    model = energy_model(hidden_irreps="3x0e + 3x1o", radial_mlp=[4], interaction="density_residual", tuner="ssf")
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.mul_(1.3).add_(0.01)
        worst = differences(model, CompiledModel(model).evaluate(graph, forces=True, stress=True), graph)
        assert max(worst.values()) <= 1e-10, (name, worst)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a vector of structures beside the energy": ({}, {"targets": ENERGY | {"y_graph_vector": "dipole"}}),
    "scalars of atoms beside the energy": ({}, {"targets": ENERGY | {"y_node_scalars": ["charges"]}}),
    "standard deviations beside the energy": ({"uncertainty": "gaussian"}, {"targets": ENERGY}),
    "additional atom features": ({}, {"targets": ENERGY, "node_features": {"spin": None}}),
    "bond features": ({}, {"targets": ENERGY, "edge_features": "order", "num_edge_features": 2}),
    "the tuner 'adapter'": ({"tuner": "adapter"}, {"targets": ENERGY}),
    "the interaction 'nonlinear_residual'": ({"interaction": "nonlinear_residual"}, {"targets": ENERGY}),
    "max_ell above 4": ({"max_ell": 5, "correlation": 1, "hidden_irreps": "2x0e"}, {"targets": ENERGY}),
}


@pytest.mark.parametrize("feature", REFUSED)
def test_refusals_name_the_feature(feature: str) -> None:
    config, facts = REFUSED[feature]
    model = tiny_model(facts=facts, **config)
    with pytest.raises(BackendUnavailable, match=f"the inference engine cannot compute this model: {feature}"):
        CompiledModel(model)


def test_what_the_engine_lacks_comes_from_the_operators_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model, graph = tiny_model(facts={"targets": ENERGY}, interaction="nonlinear_residual"), graph_of(water())
    evaluator = Evaluator(model)
    with caplog.at_level(logging.WARNING, logger="macekit"):
        for _ in range(3):
            found = evaluator(graph, forces=True)
    assert torch.equal(found["y_node_vector"], evaluate(model, graph, forces=True)["y_node_vector"])
    said = [record.message for record in caplog.records if "nonlinear_residual" in record.message]
    assert len(said) == 1 and "slower" in said[0]


def test_the_reference_backend_means_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = energy_model(), graph_of(water())
    monkeypatch.setattr(compiled, "CompiledModel", lambda model: pytest.fail("the engine was used"))
    with dispatch.use("reference"):
        Evaluator(model)(graph, forces=True)


def test_changed_weights_are_used() -> None:
    model, graph = energy_model(), graph_of(water())
    evaluator = Evaluator(model)
    before = evaluator(graph, forces=True)["y_node_vector"]
    with torch.no_grad():
        model.backbone.layers[0].product.weights.mul_(1.5)
    after = evaluator(graph, forces=True)["y_node_vector"]
    assert float((after - before).abs().max()) > 1e-6
    expected = evaluate(model, graph, forces=True)["y_node_vector"]
    assert float((after - expected).abs().max()) <= 1e-10


def test_elements_come_one_after_another() -> None:
    compiled_model = CompiledModel(energy_model())
    for structures in ([water()], [triclinic()], [water(), triclinic()], batch_of_everything()):
        graph = graph_of(*structures)
        found = compiled_model.evaluate(graph, forces=True, stress=True)
        assert max(differences(compiled_model.model, found, graph).values()) <= 1e-10


def test_an_engine_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(NativeEngine):
        def evaluate(self, *arguments: Any, **options: Any) -> Any:
            found = super().evaluate(*arguments, **options)
            return found._replace(forces=1.01 * found.forces)

    monkeypatch.setattr(compiled, "NativeEngine", Wrong)
    with pytest.raises(BackendUnavailable, match="does not reproduce the operators: y_node_vector"):
        CompiledModel(energy_model()).evaluate(graph_of(water()))


def test_radial_functions_too_sharp_for_a_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radial_folding, "KNOTS", (4, 8))
    with pytest.raises(BackendUnavailable, match=r"radial functions that a table cannot hold: error .* with 8 knots"):
        CompiledModel(energy_model()).evaluate(graph_of(water()))


def test_tables_too_large_for_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radial_folding, "LARGEST_TABLE", 1000)
    with pytest.raises(BackendUnavailable, match=r"radial tables of .* GB for 1 pairs of elements"):
        CompiledModel(energy_model()).evaluate(graph_of(water()))


@pytest.mark.parametrize("degree", sorted(set(PIECE_DEGREE.values())))
def test_pieces_join_and_their_error_is_measured(degree: int) -> None:
    table = piecewise(lambda r: torch.cos(3.0 * r)[:, None], 5.0, 32, degree)
    powers = 0.5 ** np.arange(degree + 1)
    ends, starts = (
        table.coefficients[:-1, :, 0] @ powers,
        table.coefficients[:-1, :, 0] @ (powers * (-1.0) ** np.arange(degree + 1)),
    )
    assert np.abs(ends[:-1] - starts[1:]).max() < 1e-13
    r = np.linspace(0.01, 4.99, 1001)
    knot = (r / 5.0 * 32).astype(int)
    place = r / 5.0 * 32 - knot - 0.5
    values = (table.coefficients[knot, :, 0] * place[:, None] ** np.arange(degree + 1)).sum(1)
    error = np.abs(values - np.cos(3.0 * r)).max()
    assert error <= 3.0 * table.value_error and table.value_error <= 3.0 * error + 1e-15


def test_compile_of_a_trained_model() -> None:
    model = TrainedModel(energy_model(torch.float32))
    graph = graph_of(water())
    assert model.compile().dtype == torch.float32
    found = model.compile(dtype="float64").evaluate(graph, forces=True, stress=True)
    assert max(differences(model.module, found, graph).values()) <= 1e-10


def test_indices_that_do_not_exist_are_refused() -> None:
    model = energy_model()
    engine = NativeEngine(fold(model, range(len(ELEMENTS)), torch.float64), torch.float64)
    g = graph_of(water())
    with pytest.raises(IndexError, match="receiver 7 is not in 0"):
        engine.sort(g.species, g.batch, g.edge_index * 0 + 7, g.edge_shifts, 1)
    with pytest.raises(UsageError, match=r"element: the engine expects torch.int64 \[3\] on the cpu, got"):
        engine.sort(g.species.double(), g.batch, g.edge_index, g.edge_shifts, 1)
    around = engine.sort(g.species, g.batch, g.edge_index, g.edge_shifts, 1)
    with pytest.raises(ValueError, match="the positions has the wrong shape"):
        engine.evaluate(around, g.positions.numpy()[:2], g.cell.numpy())
    other = NativeEngine(fold(model, [0], torch.float64), torch.float64)
    with pytest.raises(ValueError, match="the system, which was sorted for another engine"):
        other.evaluate(around, g.positions.numpy(), g.cell.numpy())


def test_pairs_beyond_the_cutoff_change_nothing() -> None:
    model = energy_model()
    engine = NativeEngine(fold(model, range(len(ELEMENTS)), torch.float64), torch.float64)
    structure, cutoff = triclinic(), model.facts.cutoff
    results = []
    for reach in (cutoff, cutoff + 0.7):
        g = graph_from_structure(structure, model.facts.elements, reach)
        around = engine.sort(g.species, g.batch, g.edge_index, g.edge_shifts, 1)
        results.append(engine.evaluate(around, g.positions.numpy(), g.cell.numpy()))
    assert results[0].shortest == results[1].shortest > 0.5
    for one, other in zip(results[0][:3], results[1][:3], strict=True):
        np.testing.assert_array_equal(one, other)
