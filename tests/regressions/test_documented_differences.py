"""Where macekit departs from what other packages document or do: docs/concepts/differences.md names these tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from macekit.config import TrainingRun
from macekit.data import Structure
from macekit.geometry.batch import GraphDataset
from macekit.geometry.graph import Graph
from macekit.geometry.neighbours import graph_from_structure
from macekit.geometry.statistics import measure_facts
from macekit.model.backbone import Backbone
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.tuners import Adapter, is_tuner_parameter
from macekit.o3.symmetric_product import symmetric_product
from macekit.outputs.derivatives import evaluate
from macekit.training.calibration import calibrated
from models import COMBINATIONS, Combination, config_of, facts_of
from structures import CUTOFF, ELEMENTS, isolated_pair, single_atom, structure, water

BASE = Combination("none", "none")
WITH_VARIANCE = Combination("none", "gaussian")


def model_of(combination: Combination = BASE, *, forces: bool = True, **changes: Any) -> Mace:
    config = config_of(combination, forces=forces, **changes)
    return build_model(config.pop("name", "mace_model"), config, facts_of(forces=forces), seed=3, dtype=torch.float64)


def graph_of(which: Structure) -> Graph:
    return graph_from_structure(which, ELEMENTS, CUTOFF)


@pytest.mark.parametrize("num_interactions", [1, 2])
def test_vector_heads_see_the_last_layer(num_interactions: int) -> None:
    model = model_of(forces=False, num_interactions=num_interactions)
    assert model.heads.graph_vector is not None
    outputs = model(graph_of(water()))
    last = list(model.backbone.layers[-1].product.parameters())
    for key in ("y_graph_vector", "y_node_vector"):
        assert outputs[key].norm() > 1e-3
        assert any(gradient.norm() > 0 for gradient in gradients(outputs[key].square().sum(), last))


def gradients(value: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tuner", ["ssf", "adapter", "lora"])
def test_tuners_start_as_exact_identities(tuner: str, training: bool) -> None:
    graph = graph_of(water())
    base, tuned = model_of(BASE).train(training), model_of(Combination(tuner, "none")).train(training)
    assert any(is_tuner_parameter(name) for name, _ in tuned.named_parameters())
    expected, found = base(graph), tuned(graph)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_no_structure_sees_another_in_training_mode(combination: Combination) -> None:
    model = model_of(combination).train()
    assert not [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
    assert not list(model.buffers()) or all("running" not in name for name, _ in model.named_buffers())


@pytest.mark.parametrize("ratio", [1, 10, 1000])
def test_adapters_never_have_zero_channels(ratio: int) -> None:
    model = model_of(Combination("adapter", "none"), ratio_adapter_down=ratio)
    for module in model.modules():
        if isinstance(module, Adapter):
            assert all(min(weight.shape) >= 1 for weight in module.parameters() if weight.ndim)


def test_forces_are_those_of_the_energy_alone() -> None:
    graph = graph_of(water())
    model = model_of()
    column = model.facts.targets.y_graph_scalars.index("energy")
    positions = graph.positions.clone().requires_grad_()
    outputs = model(graph._replace(positions=positions))["y_graph_scalars"]
    (of_energy,) = torch.autograd.grad(outputs[:, column].sum(), positions, retain_graph=True)
    (of_all,) = torch.autograd.grad(outputs.sum(), positions)
    forces = evaluate(model, graph)["y_node_vector"]
    torch.testing.assert_close(forces, -of_energy)
    assert not torch.allclose(of_energy, of_all)


def test_every_target_has_its_own_reference_scale_and_shift() -> None:
    facts, model = facts_of(), model_of()
    found = model(graph_of(single_atom(8)))
    oxygen = ELEMENTS.index(8)
    for column, name in enumerate(model.facts.targets.y_graph_scalars):
        expected = facts["reference_energies"][name][oxygen] + facts["shift"][name]
        assert found["y_graph_scalars"][0, column].item() == pytest.approx(expected, abs=1e-12)
    charges = model.facts.targets.y_node_scalars.index("charges")
    assert found["y_node_scalars"][0, charges].item() == pytest.approx(facts["shift"]["charges"], abs=1e-12)
    assert torch.equal(found["y_graph_vector"], torch.zeros(1, 3, dtype=torch.float64))


def test_variances_of_parts_add_up() -> None:
    model = model_of(WITH_VARIANCE)

    def variance(which: Structure) -> Tensor:
        std: Tensor = model(graph_of(which))["y_graph_scalars::std"]
        assert bool((std > 0).all())
        return std.square()

    parts = [single_atom(number) for number in isolated_pair().atomic_numbers.tolist()]
    torch.testing.assert_close(variance(isolated_pair()), variance(parts[0]) + variance(parts[1]))


def test_bond_features_end_with_the_envelope() -> None:
    facts = facts_of(num_edge_features=1, edge_features="bonds")
    model = build_model("mace_model", config_of(), facts, seed=1, dtype=torch.float64)

    def energy_of(which: Structure) -> float:
        outputs: dict[str, Tensor] = evaluate(model, graph_from_structure(which, ELEMENTS, CUTOFF, 1), stress=False)
        return outputs["y_graph_scalars"][0, 1].item()

    def energy(distance: float, feature: float) -> float:
        pair = Structure(
            atomic_numbers=np.array([1, 8]),
            positions=np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]]),
            bonds=np.array([[0, 1]]),
            bond_features=np.array([[feature]]),
        )
        return energy_of(pair)

    apart = energy_of(isolated_pair().with_bond_width(1))
    assert abs(energy(1.2, 1.0) - energy(1.2, 0.0)) > 1e-3
    assert energy(CUTOFF - 1e-4, 1.0) == pytest.approx(apart, abs=1e-8)


def test_the_product_basis_has_no_redundant_functions() -> None:
    product = symmetric_product(3, 0, 3)
    assert (product.num_functions, product.num_paths) == (8, 23)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 16))
    values = np.zeros((40, product.num_functions))
    for factors, coefficients in zip(product.factors, product.coefficients, strict=True):
        values += points[:, factors].prod(axis=1)[:, None] * coefficients
    assert np.linalg.matrix_rank(values) == 8


@pytest.mark.parametrize(
    ("reference", "compute_forces", "scale"),
    [
        ({"Cu": -1.0}, True, "rms_forces"),
        ("fit", True, "rms_forces"),
        ({"Cu": -1.0}, False, "std_energy"),
    ],
)
def test_automatic_scale_and_shift(reference: Any, compute_forces: bool, scale: str) -> None:
    rng = np.random.default_rng(2)
    structures = []
    for index in range(6):
        forces = rng.normal(size=(3, 3))
        labels = {"energy": np.array(-5.0 - 0.3 * index), "forces": forces}
        cluster = structure([29, 29, 29], np.diag([0.0, 2.5, 2.4]) + 0.1 * index)
        structures.append(cluster.with_targets(labels))
    run = TrainingRun.from_dict(
        {
            "model": {
                "compute_forces": compute_forces,
                "y_graph_scalars_loss_config": {"name": "MSELoss"},
                "y_node_vector_loss_config": {"name": "MSELoss"},
            },
            "data": {"train": "x", "targets": {"y_node_vector": "forces"}, "reference_energies": reference},
        }
    )
    facts = measure_facts(structures, run).facts
    e0 = facts.reference_energies["energy"][0]
    left = np.array([float(one.targets["energy"]) - 3 * e0 for one in structures])
    rms = np.sqrt(np.mean([np.square(one.targets["forces"]) for one in structures]))
    assert facts.shift["energy"] == pytest.approx(left.mean() / 3, abs=1e-12)
    assert facts.scale["energy"] == pytest.approx(rms if scale == "rms_forces" else left.std(), rel=1e-12)


def test_tuners_leave_the_names_of_the_base_model_alone() -> None:
    names = {str(c): dict(model_of(c).named_parameters()) for c in COMBINATIONS if c.uncertainty == "none"}
    base = names["none-none"].keys()
    for tuned in names.values():
        assert base <= tuned.keys()
        assert all(is_tuner_parameter(name) for name in tuned.keys() - base)


def test_the_last_layer_keeps_vectors_only_where_they_are_read() -> None:
    def degrees(model: Mace) -> tuple[int, ...]:
        backbone: Backbone = model.backbone
        return backbone.degrees_of(len(backbone.layers) - 1)

    assert degrees(model_of()) == (0, 1)
    energy_only = facts_of(targets={"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces"})
    assert degrees(build_model("mace_model", config_of(), energy_only)) == (0,)


def test_the_constant_per_atom_is_fitted_once_more() -> None:
    labels = {"gap": np.array(1.0), "energy": np.array(-2000.0)}
    data = [water().with_targets(labels), single_atom(8).with_targets(labels)]
    for choice, changes in (("auto", True), (0.25, False)):
        model = model_of(scaling_mean=choice)
        dataset = GraphDataset(data, model.facts)
        moved, change = calibrated(model, dataset)
        energy = evaluate(moved, dataset.batch([0]).graph, forces=False)["y_graph_scalars"][0, 1].item()
        assert bool(change.any()) is changes
        assert (energy == pytest.approx(-2000.0, abs=1e-8)) is changes
        assert all(torch.equal(moved.state_dict()[key], value) for key, value in model.state_dict().items())
