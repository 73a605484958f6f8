"""The contract suite on models that are broken on purpose: each must be caught by the check that is there for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import structures as named
from contract import checks, derivative_checks, smoothness_checks, state_checks
from contract.subject import Outputs, Subject
from contract.test_tuners import check_identity
from macekit.geometry.graph import Graph
from macekit.model import backbone as backbone_module
from macekit.model.mace import Mace
from macekit.outputs import derivatives
from macekit.outputs.derivatives import evaluate
from models import Combination, tiny_model

ALL = [named.water(), named.triclinic(), named.mixed_elements(), named.slab()]
Break = Callable[[Mace, Graph, Outputs], None]


def broken(change: Break | None = None, *, before: Callable[[Graph], Graph] | None = None, **options: Any) -> Subject:
    """A model whose forward pass is followed, or preceded, by a mistake."""
    model = tiny_model(**options)
    sound = model.forward

    def forward(graph: Graph) -> Outputs:
        outputs = sound(graph if before is None else before(graph))
        if change is not None:
            change(model, graph, outputs)
        return outputs

    model.forward = forward  # type: ignore[method-assign]
    return Subject(model)


def fails(check: Callable[[], None], match: str = ".") -> None:
    with pytest.raises(AssertionError, match=match):
        check()


def per_graph(values: Tensor, graph: Graph) -> Tensor:
    return values.new_zeros(graph.num_graphs, *values.shape[1:]).index_add(0, graph.batch, values)


def test_the_sound_model_passes() -> None:
    """The wrapper itself breaks nothing."""
    subject = broken()
    graph = subject.graph(*ALL)
    checks.check_not_vacuous(subject)
    checks.check_orthogonal(subject, graph, checks.orthogonal(1), "rotation")
    checks.check_batch_equals_singles(subject, ALL)
    state_checks.check_nothing_changes(subject, graph)
    state_checks.check_shapes(subject, ALL)
    derivative_checks.check_forces(subject, named.water())


def test_energy_of_absolute_position() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"] + per_graph(1e-3 * graph.positions[:, :1], graph)

    subject = broken(change)
    fails(lambda: checks.check_translation(subject, subject.graph(*ALL), 1.0), "moved by")
    fails(lambda: checks.check_orthogonal(subject, subject.graph(*ALL), checks.orthogonal(1), "rotation"), "rotation")
    fails(lambda: checks.check_wrapping(subject, named.triclinic()), "atoms in other cells")
    fails(lambda: checks.check_supercell(subject, named.triclinic()), "supercell")


def test_energy_of_the_atoms_order() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        nodes = outputs["y_graph_scalars::nodes"]
        order = torch.arange(len(nodes), dtype=torch.float64)[:, None]
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"] + per_graph(1e-6 * order * nodes, graph)

    subject = broken(change)
    fails(lambda: checks.check_permutation(subject, named.mixed_elements()), "permuted")
    fails(lambda: checks.check_batch_equals_singles(subject, ALL), "of the batch")


def test_message_of_the_edges_order() -> None:
    def before(graph: Graph) -> Graph:
        weights = torch.linspace(1.0, 1.001, graph.num_edges, dtype=torch.float64)
        return graph._replace(edge_shifts=graph.edge_shifts * weights[:, None])

    subject = broken(before=before)
    fails(lambda: checks.check_edge_order(subject, subject.graph(named.triclinic())), "another order")


@pytest.mark.parametrize("name", ["y_graph_vector", "y_node_vector"])
def test_scalar_added_to_vectors(name: str) -> None:
    """P4: the shift of the scale-and-shift block on all components of a vector."""

    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs[name] = outputs[name] + 1e-3

    subject = broken(change, forces=False)
    graph = subject.graph(*ALL)
    fails(lambda: checks.check_orthogonal(subject, graph, checks.orthogonal(1), "rotation"), name)
    fails(lambda: checks.check_orthogonal(subject, graph, checks.INVERSION, "inversion"), name)
    fails(lambda: checks.check_isolated_atoms(subject), name)


def test_pseudovector() -> None:
    """Turns like a vector under rotations: only inversion and reflection tell."""

    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        vectors = outputs["y_node_vector"]
        outputs["y_node_vector"] = torch.linalg.cross(vectors, vectors.roll(1, 0))

    subject = broken(change, forces=False)
    graph = subject.graph(named.mixed_elements())
    checks.check_orthogonal(subject, graph, checks.orthogonal(1), "rotation")
    fails(lambda: checks.check_orthogonal(subject, graph, checks.INVERSION, "inversion"), "y_node_vector")
    fails(lambda: checks.check_orthogonal(subject, graph, checks.REFLECTION, "reflection"), "y_node_vector")


def test_forces_of_all_scalars() -> None:
    """P6: the gradient of the sum over all columns."""

    def evaluation(model: Mace, graph: Graph, **options: Any) -> Outputs:
        outputs = evaluate(model, graph, **options)
        positions = graph.positions.clone().requires_grad_()
        total = model(graph._replace(positions=positions))["y_graph_scalars"].sum()
        return outputs | {"y_node_vector": -torch.autograd.grad(total, positions)[0]}

    subject = Subject(tiny_model(), evaluation)
    fails(lambda: derivative_checks.check_forces(subject, named.water()), "forces differ from -dE/dx")


def test_forces_that_are_no_gradient() -> None:
    def evaluation(model: Mace, graph: Graph, **options: Any) -> Outputs:
        outputs = evaluate(model, graph, **options)
        return outputs | {
            "y_node_vector": outputs["y_node_vector"] * (1 + 0.1 * torch.arange(graph.num_nodes)[:, None])
        }

    subject = Subject(tiny_model(), evaluation)
    fails(lambda: derivative_checks.check_conservative(subject, named.water()), "not conservative")
    fails(lambda: derivative_checks.check_forces(subject, named.water()))


@pytest.mark.parametrize("factor", [-1.0, 2.0])
def test_stress_of_another_volume_or_sign(factor: float) -> None:
    """M1: the volume of a fictitious cell."""

    def evaluation(model: Mace, graph: Graph, **options: Any) -> Outputs:
        outputs = evaluate(model, graph, **options)
        return outputs | {"stress": factor * outputs["stress"]}

    subject = Subject(tiny_model(), evaluation)
    for maker in (named.triclinic, named.slab):
        fails(lambda maker=maker: derivative_checks.check_stress(subject, maker()), "the stress differs")


def test_stress_without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Straining the cell and not the atoms."""
    monkeypatch.setattr(
        derivatives, "strained", lambda graph, strain: graph._replace(cell=graph.cell + graph.cell @ strain)
    )
    fails(lambda: derivative_checks.check_stress(Subject(tiny_model()), named.triclinic()))


def test_wrong_second_derivative() -> None:
    """Right forces whose derivative by the weights is lost."""

    def evaluation(model: Mace, graph: Graph, *, training: bool = False, **options: Any) -> Outputs:
        outputs = evaluate(model, graph, training=training, **options)
        return outputs | {"y_node_vector": outputs["y_node_vector"].detach()}

    fails(
        lambda: derivative_checks.check_weight_derivatives(Subject(tiny_model(), evaluation), [named.water()]),
        "weight derivative",
    )


def test_statistics_over_the_batch() -> None:
    """P18: batch normalisation lets structures see each other."""

    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        nodes = outputs["y_graph_scalars::nodes"]
        outputs["y_graph_scalars"] = per_graph(nodes - 1e-6 * nodes.mean(0), graph)

    subject = broken(change)
    fails(lambda: checks.check_batch_equals_singles(subject, ALL), "of the batch")
    fails(lambda: checks.check_cross_graph_gradients(subject, ALL), "depends on another structure")
    fails(lambda: checks.check_nan_stays(subject, ALL, 1))


def test_train_mode_that_differs() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        if model.training:
            outputs["y_node_scalars"] = outputs["y_node_scalars"] * (1 + 1e-15)

    subject = broken(change)
    fails(lambda: state_checks.check_modes_agree(subject, subject.graph(*ALL)), "train mode")


def test_nan_that_is_hidden() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"].nan_to_num()

    fails(lambda: checks.check_nan_stays(broken(change), ALL, 1), "unnoticed")


def test_mean_instead_of_sum() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"] / graph.nodes_per_graph()[:, None]

    subject = broken(change)
    fails(lambda: checks.check_supercell(subject, named.triclinic()), "supercell: y_graph_scalars")
    fails(lambda: checks.check_fragments_add(subject, named.water(), named.methane()), "two fragments")


def test_reference_energies_in_float32_or_everywhere() -> None:
    """P7 and P23: E0 rounded, and E0 on every column."""

    def rounded(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"].float().double()

    def shared(model: Mace, graph: Graph, outputs: Outputs) -> None:
        energies = torch.tensor(model.facts.reference_energies["energy"], dtype=torch.float64)[graph.species]
        outputs["y_graph_scalars"] = outputs["y_graph_scalars"] + per_graph(
            energies[:, None] * torch.tensor([1.0, 0.0]), graph
        )

    for change in (rounded, shared):
        fails(lambda change=change: checks.check_isolated_atoms(broken(change)), "isolated atoms")


def test_squeezed_axes() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        for name in ("y_node_scalars", "y_graph_vector"):
            outputs[name] = outputs[name].squeeze()

    subject = broken(change)
    state_checks.check_shapes(subject, [named.water(), named.methane()])
    for name in ("one atom", "nothing"):
        fails(lambda name=name: state_checks.check_shapes(subject, state_checks.SMALLEST[name]), "expected")


def test_outputs_in_float32() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_node_scalars"] = outputs["y_node_scalars"].float()

    fails(lambda: state_checks.check_shapes(broken(change), ALL), "torch.float32")


@pytest.mark.parametrize("field", ["positions", "edge_shifts"])
def test_changed_input(field: str) -> None:
    def before(graph: Graph) -> Graph:
        with torch.no_grad():
            getattr(graph, field).add_(0.0)
        return graph

    subject = broken(before=before, forces=False)
    fails(lambda: state_checks.check_nothing_changes(subject, subject.graph(*ALL)), f"the graph's {field} was changed")


def test_random_numbers_in_the_forward_pass() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        torch.rand(1)

    state = torch.get_rng_state()
    subject = broken(change)
    fails(lambda: state_checks.check_nothing_changes(subject, subject.graph(*ALL)), "the process is not as before")
    torch.set_rng_state(state)


def test_output_that_aliases_the_input() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_node_vector"] = graph.positions[:]

    subject = broken(change, forces=False)
    fails(lambda: state_checks.check_nothing_changes(subject, subject.graph(*ALL)), "aliases the input")


@pytest.mark.parametrize("flip", ["vectors", "roles"])
def test_flipped_edges(flip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an energy nor any symmetry can tell: it is an inversion of every structure."""
    if flip == "vectors":
        sound = backbone_module.edge_vectors
        monkeypatch.setattr(backbone_module, "edge_vectors", lambda graph: -sound(graph))
        subject = Subject(tiny_model())
    else:
        subject = broken_roles(monkeypatch)
    graph = subject.graph(named.mixed_elements())
    checks.check_orthogonal(subject, graph, checks.orthogonal(2), "rotation")
    fails(lambda: checks.check_edge_direction(subject, graph), "direction of edges")


def broken_roles(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """Messages that flow against the documented direction."""
    sound = backbone_module.Backbone._edges

    def edges(self: Any, graph: Graph, attributes: Any, dtype: torch.dtype) -> Any:
        found = sound(self, graph, attributes, dtype)
        return found._replace(sender=found.receiver, receiver=found.sender)

    monkeypatch.setattr(backbone_module.Backbone, "_edges", edges)
    return Subject(tiny_model())


def test_jump_at_the_cutoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the envelope the Bessel functions still vanish at the cutoff, but their slope does not."""
    monkeypatch.setattr(
        backbone_module, "polynomial_envelope", lambda lengths, cutoff, power: (lengths < cutoff).to(lengths.dtype)
    )
    subject = Subject(tiny_model())
    fails(lambda: smoothness_checks.check_cutoff(subject, (1, 8)), "at the cutoff")
    fails(lambda: smoothness_checks.check_joining(subject), "where an atom joins")


def test_infinity_at_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "SHORTEST_EDGE", 0.0)
    fails(lambda: smoothness_checks.check_short_range(Subject(tiny_model())), "is not finite|second derivative")


def test_geometry_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = backbone_module.edge_vectors
    monkeypatch.setattr(
        backbone_module,
        "edge_vectors",
        lambda graph: sound(graph._replace(positions=graph.positions.float().double())),
    )
    subject = Subject(tiny_model(dtype=torch.float32))
    fails(lambda: checks.check_translation(subject, subject.graph(named.mixed_elements()), 1e5), "moved by")


def test_constant_model() -> None:
    def change(model: Mace, graph: Graph, outputs: Outputs) -> None:
        outputs["y_graph_vector"] = 0.0 * outputs["y_graph_vector"]

    fails(lambda: checks.check_not_vacuous(broken(change)), "y_graph_vector is zero")


@pytest.mark.parametrize("tuner", ["ssf", "adapter", "lora"])
def test_tuner_that_is_no_identity(tuner: str) -> None:
    tuned = tiny_model(Combination(tuner, "none"))
    name = {"ssf": "beta", "adapter": "after.up.weights.0", "lora": "lora.up_0"}[tuner]
    parameter = next(p for n, p in tuned.named_parameters() if n.endswith(name))
    with torch.no_grad():
        parameter.add_(1e-9)
    fails(lambda: check_identity(Subject(tuned), Subject(tiny_model())), "tuner as made")


def test_scalars_last_in_the_tuner() -> None:
    """P17: β on whatever comes first."""
    tuned = copy.deepcopy(tiny_model(Combination("ssf", "none")))
    sound = tuned.backbone.tuners[0].forward
    tuned.backbone.tuners[0].forward = lambda h_in, h_out: (
        sound(h_in, h_out) + torch.tensor([0.0, 0.1, 0.0, 0.0])[:, None]
    )
    subject = Subject(tuned)
    fails(lambda: checks.check_orthogonal(subject, subject.graph(*ALL), checks.orthogonal(1), "rotation"))
