"""Defects of other packages, by their id in our list: one test each, of what macekit does instead."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import structures as named
from contract import checks, derivative_checks
from contract.subject import Subject
from macekit.config import ModelConfig
from macekit.data import Structure
from macekit.interop.native import load_native, save_native
from macekit.model.groups import decayed_parameters
from models import COMBINATIONS, SCALES, SHIFTS, Combination, facts_of, perturb_tuner, tiny_model


def test_p1_weight_decay_acts_on_parameters_that_exist() -> None:
    model = tiny_model()
    found = decayed_parameters(model)
    assert found and found <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_p4_shift_does_not_touch_vectors(combination: Combination) -> None:
    """And every target has its own scale and shift."""
    for forces in (True, False):
        subject = Subject(perturb_tuner(tiny_model(combination, forces=forces)))
        graph = subject.graph(named.mixed_elements(), named.water())
        checks.check_orthogonal(subject, graph, checks.orthogonal(3), "rotation")


@pytest.mark.parametrize("target", ["gap", "energy", "charges", "shielding", "dipole", "velocities"])
def test_p4_scale_and_shift_of_one_target_are_its_own(target: str) -> None:
    def outputs(facts: dict[str, object]) -> dict[str, torch.Tensor]:
        subject = Subject(tiny_model(forces=False, facts=facts))
        found = subject(subject.graph(named.mixed_elements()))
        names = {"gap": ("y_graph_scalars", 0), "energy": ("y_graph_scalars", 1)}
        names |= {"charges": ("y_node_scalars", 0), "shielding": ("y_node_scalars", 1)}
        columns = {name: found[key][:, column] for name, (key, column) in names.items()}
        return columns | {"dipole": found["y_graph_vector"], "velocities": found["y_node_vector"]}

    before = outputs({})
    after = outputs({"scale": SCALES | {target: 3 * SCALES[target]}, "shift": SHIFTS | {target: 7.0}})
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (name != target)
    if target in ("dipole", "velocities"):
        assert torch.allclose(after[target], 3 * before[target])


@pytest.mark.parametrize("layers", [1, 2])
def test_p5_vectors_are_seen_from_the_last_layer(layers: int) -> None:
    """Not zero for a single layer, and not blind to the last of several."""
    for forces in (True, False):
        model = tiny_model(forces=forces, num_interactions=layers)
        subject = Subject(model)
        graph = subject.graph(named.mixed_elements())
        names = ["y_graph_vector"] if forces else ["y_graph_vector", "y_node_vector"]
        before = {name: value for name, value in subject(graph).items() if name in names}
        for name in names:
            assert float(before[name].abs().max()) > 1e-3
        with torch.no_grad():
            model.backbone.layers[-1].product.linear.weights["1"].mul_(1.5)
        for name in names:
            assert not torch.allclose(subject(graph)[name], before[name])


def test_p6_forces_are_of_the_energy_alone() -> None:
    subject = Subject(tiny_model())
    derivative_checks.check_forces(subject, named.mixed_elements())
    with torch.no_grad():
        before = subject(subject.graph(named.water()))["y_node_vector"]
        for name, parameter in subject.model.named_parameters():
            if "graph_scalars" in name and parameter.shape[1] == 2:
                parameter[:, 0] *= 5.0  # the other column
    assert torch.equal(subject(subject.graph(named.water()))["y_node_vector"], before)


def test_p7_reference_energies_are_of_their_own_target() -> None:
    facts = facts_of()
    facts["reference_energies"] = {"energy": facts["reference_energies"]["energy"]}
    subject = Subject(tiny_model(facts=facts))
    found = subject(subject.graph(named.single_atom(8)))["y_graph_scalars"]
    assert found.tolist() == [[SHIFTS["gap"], -2041.8396 + SHIFTS["energy"]]]


def test_p10_float64_models_come_back_as_float64(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.float64)
    loaded = load_native(save_native(model, tmp_path / "model"))
    assert loaded.dtype == torch.float64
    assert all(value.dtype == torch.float64 for value in loaded.state_dict().values())


def test_p10_p23_reference_energies_stay_in_float64() -> None:
    """In a float32 model, and after every cast there is."""
    expected = torch.tensor(facts_of()["reference_energies"]["energy"], dtype=torch.float64)
    exact = (expected + SHIFTS["energy"]).tolist()
    model = tiny_model(dtype=torch.float32)
    atoms = [named.single_atom(number) for number in named.ELEMENTS]
    casts = [
        lambda m: m,
        lambda m: m.to(torch.float32),
        lambda m: m.double(),
        lambda m: m.half().float(),
        lambda m: m.to(torch.bfloat16).float(),
        lambda m: copy.deepcopy(m).to("cpu"),
    ]
    for cast in casts:
        model = cast(model)
        subject = Subject(model)
        assert subject(subject.graph(*atoms))["y_graph_scalars"][:, 1].tolist() == exact
        head = model.heads.graph_scalars
        assert {c.value.dtype for c in (head.scale, head.shift, head.reference)} == {torch.float64}


def test_p16_every_structure_has_its_own_cell() -> None:
    """And partial periodicity is not lost."""
    structures = [named.primitive_copper(), named.triclinic(), named.slab(), named.wire(), named.water()]
    checks.check_batch_equals_singles(Subject(tiny_model()), structures)


@pytest.mark.parametrize("text", ["4x1o + 4x0e", "4x0e + 4x1o"])
@pytest.mark.parametrize("tuner", ["ssf", "adapter", "lora"])
def test_p17_order_of_the_irreps_does_not_matter(text: str, tuner: str) -> None:
    subject = Subject(perturb_tuner(tiny_model(Combination(tuner, "none"), hidden_irreps=text)))
    graph = subject.graph(named.mixed_elements(), named.triclinic())
    checks.check_orthogonal(subject, graph, checks.orthogonal(1, improper=True), "improper rotation")
    other = Subject(perturb_tuner(tiny_model(Combination(tuner, "none"))))
    assert torch.equal(subject(graph)["y_graph_scalars"], other(graph)["y_graph_scalars"])


def test_p18_adapters_have_channels() -> None:
    """8 // 10 is one channel here, and it can learn."""
    model = perturb_tuner(
        tiny_model(Combination("adapter", "none"), hidden_irreps="8x0e + 8x1o", ratio_adapter_down=10)
    )
    for tuner in model.backbone.tuners:
        for bottleneck in (tuner.before, tuner.after):
            assert all(weight.shape[1] == 1 for weight in bottleneck.down.parameters())
    base = tiny_model(hidden_irreps="8x0e + 8x1o")
    graph = Subject(model).graph(named.water())
    assert not torch.allclose(model(graph)["y_graph_scalars"], base(graph)["y_graph_scalars"])


def test_p18_no_statistics_of_the_batch() -> None:
    model = perturb_tuner(tiny_model(Combination("adapter", "none"))).train()
    assert not [name for name, _ in model.named_buffers() if "running" in name]
    checks.check_batch_equals_singles(Subject(model), [named.water(), named.triclinic(), named.methane()])


def test_p22_deviations_do_not_cancel() -> None:
    """Positive, and additive in the variance over parts that do not interact."""
    subject = Subject(tiny_model(Combination("none", "gaussian")))
    deviations = subject(subject.graph(*[named.single_atom(z) for z in named.ELEMENTS]))["y_graph_scalars::std"]
    assert bool((deviations > 0).all())
    checks.check_fragments_add(subject, named.water(), named.mixed_elements())


@pytest.mark.parametrize("maker", [named.slab, named.wire], ids=["slab", "wire"])
def test_m1_stress_of_the_physical_cell(maker: Callable[[], Structure]) -> None:
    """Not of a cell made up for the neighbour list: also where the atoms are far outside it."""
    derivative_checks.check_stress(Subject(tiny_model()), maker())
    subject = Subject(tiny_model())
    structure = maker()
    moved = named.structure(
        structure.atomic_numbers,
        structure.positions + np.array([0.0, 0.0, 500.0]),
        structure.cell,
        "".join("T" if flag else "F" for flag in structure.pbc),
    )
    one, other = (subject(subject.graph(s))["stress"] for s in (structure, moved))
    assert torch.allclose(one, other, atol=1e-10)


def test_m7_isolated_atom_has_its_reference_energy_untrained() -> None:
    for combination in COMBINATIONS:
        checks.check_isolated_atoms(Subject(tiny_model(combination)))


def test_m18_energies_of_atoms_sum_to_the_energy() -> None:
    """In float64 whatever the network's precision, without casting the network."""
    subject = Subject(tiny_model(dtype=torch.float32))
    graph = subject.graph(named.triclinic(), named.water())
    outputs = subject(graph)
    nodes = outputs["y_graph_scalars::nodes"]
    assert nodes.dtype == torch.float64
    sums = torch.stack([nodes[graph.batch == k].sum(0) for k in range(2)])
    assert torch.allclose(sums, outputs["y_graph_scalars"], rtol=1e-14)
    assert all(parameter.dtype == torch.float32 for parameter in subject.model.parameters())


def test_p2_configuration_is_not_consumed() -> None:
    """Frozen: nothing can pop from it."""
    config = ModelConfig.from_dict({"hidden_irreps": "4x0e"})
    with pytest.raises(ValueError, match="frozen"):
        config.max_ell = 2
