"""The whole model against a dense one written here: edge by edge, atom by atom, with e3nn's tensors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import structures as named
from contract.subject import Subject
from macekit.geometry.graph import Graph
from macekit.model.mace import Mace
from macekit.o3 import symmetric_product
from models import Combination, perturb_tuner, tiny_model
from oracles import e3nn_o3, load_yardsticks
from tolerances import Tolerance, assert_close

NORM = 1.6765324703310907


@pytest.fixture(scope="module", autouse=True)
def yardsticks() -> None:
    load_yardsticks()


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def dense_features(model: Mace, graph: Graph) -> list[dict[int, Tensor]]:
    """Features of every layer by degree, [N, 2l+1, K] (arXiv 2206.07697, eq. 7-11)."""
    o3 = e3nn_o3()
    weights = {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}
    config, facts = model.config, model.facts
    count, cutoff, order = graph.num_nodes, facts.cutoff, config.num_polynomial_cutoff
    h = {0: torch.stack([weights["embedding"][z] for z in graph.species])[:, None] / math.sqrt(len(facts.elements))}
    layers = []
    for i in range(config.num_interactions):
        prefix = f"layers.{i}.interaction"
        channels = h[0].shape[2]
        up = {l: x @ weights[f"{prefix}.linear_up.weights.{l}"] / math.sqrt(channels) for l, x in h.items()}
        couplings = [
            (l1, l2, l3)
            for l3 in range(config.max_ell + 1)
            for l1 in sorted(h)
            for l2 in range(config.max_ell + 1)
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        ]
        messages = {p: torch.zeros(count, 2 * c[2] + 1, channels, dtype=torch.float64) for p, c in enumerate(couplings)}
        for e in range(graph.num_edges):
            j, k = graph.edge_index[0, e], graph.edge_index[1, e]
            r = graph.positions[k] - graph.positions[j] + graph.edge_shifts[e] @ graph.cell[graph.batch[j]]
            length = r.norm()
            x = length / cutoff
            envelope = (
                1
                - (order + 1) * (order + 2) / 2 * x**order
                + order * (order + 2) * x ** (order + 1)
                - order * (order + 1) / 2 * x ** (order + 2)
            )
            n = torch.arange(1, config.num_bessel + 1, dtype=torch.float64)
            radial = math.sqrt(2 / cutoff) * torch.sin(n * math.pi * x) / length * envelope
            for layer in range(len(config.radial_mlp) + 1):
                matrix = weights[f"{prefix}.radial.weights.{layer}"]
                radial = radial @ matrix / math.sqrt(len(matrix))
                if layer < len(config.radial_mlp):
                    radial = silu(radial) * NORM
            radial = radial.view(len(couplings), channels)
            for p, (l1, l2, l3) in enumerate(couplings):
                harmonics = o3.spherical_harmonics(l2, r, normalize=True, normalization="component")
                coupling = math.sqrt(2 * l3 + 1) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                messages[p][k] += radial[p] * torch.einsum("abc,ak,b->ck", coupling, up[l1][j], harmonics)
        basis = []
        for l in range(config.max_ell + 1):
            stacked = torch.cat([messages[p] for p, c in enumerate(couplings) if c[2] == l], dim=2)
            matrix = weights[f"{prefix}.linear.weights.{l}"]
            a = stacked @ matrix / math.sqrt(len(matrix)) / facts.avg_num_neighbours
            if i == 0:
                mix = weights[f"{prefix}.mix.weights.{l}"]
                a = torch.stack([a[n] @ mix[z] / math.sqrt(len(mix) * channels) for n, z in enumerate(graph.species)])
            basis.append(a)
        h = dense_update(model, weights, i, torch.cat(basis, dim=1), h, graph)
        layers.append(h)
    return layers


def dense_update(
    model: Mace, weights: dict[str, Tensor], i: int, a: Tensor, h: dict[int, Tensor], graph: Graph
) -> dict[int, Tensor]:
    """Product basis and residual of one layer."""
    config = model.config
    channels = a.shape[2]
    degrees = (0, 1)
    updated = {}
    for degree in degrees:
        rows = []
        for n, z in enumerate(graph.species):
            row, start = torch.zeros(2 * degree + 1, channels, dtype=torch.float64), 0
            for order in range(1, config.correlation + 1):
                for other in degrees:
                    polynomials = symmetric_product(config.max_ell, other, order)
                    w = weights[f"layers.{i}.product.weights"][z, start : start + polynomials.num_functions]
                    start += polynomials.num_functions
                    if other == degree:
                        values = torch.stack([a[n, f].prod(0) for f in torch.tensor(polynomials.factors)])
                        coefficients = torch.tensor(polynomials.coefficients) @ w
                        for t, m in enumerate(polynomials.outputs):
                            row[m] += coefficients[t] * values[t]
            rows.append(row @ weights[f"layers.{i}.product.linear.weights.{degree}"] / math.sqrt(channels))
        updated[degree] = torch.stack(rows)
        if i > 0:
            residual = weights[f"layers.{i}.residual.weights.{degree}"]
            scale = math.sqrt(len(residual) * channels)
            updated[degree] += torch.stack([h[degree][n] @ residual[z] / scale for n, z in enumerate(graph.species)])
    return updated


@pytest.mark.parametrize("correlation", [2, 3])
def test_features_and_energy(correlation: int) -> None:
    model = tiny_model(correlation=correlation)
    subject = Subject(model)
    graph = subject.graph(named.water(), named.triclinic())
    expected = dense_features(model, graph)
    found = model.backbone(graph)
    for i, features in enumerate(found.in_order(each) for each in found.per_layer):
        assert_close(features[:, :1], expected[i][0], Tolerance.ORACLE, f"layer {i}, scalars")
        assert_close(features[:, 1:], expected[i][1], Tolerance.ORACLE, f"layer {i}, vectors")
    state = model.state_dict()
    column = model.facts.targets.y_graph_scalars.index("energy")
    first = expected[0][0][:, 0] @ state["heads.graph_scalars.readouts.readouts.0.weight"] / 2
    hidden = silu(expected[1][0][:, 0] @ state["heads.graph_scalars.readouts.readouts.1.linear_1.weight"] / 2) * NORM
    second = hidden @ state["heads.graph_scalars.readouts.readouts.1.linear_2.weight"] / 2
    facts = model.facts
    reference = torch.tensor(facts.reference_energies["energy"], dtype=torch.float64)[graph.species]
    nodes = reference + facts.shift["energy"] + facts.scale["energy"] * (first + second)[:, column]
    assert_close(subject(graph)["y_graph_scalars::nodes"][:, column], nodes, Tolerance.ORACLE, "energies of the atoms")


def test_merged_lora_is_the_same_model() -> None:
    """W + A B in the place of W."""
    tuned, base = perturb_tuner(tiny_model(Combination("lora", "none"))), tiny_model()
    state, tuned_state = base.state_dict(), tuned.state_dict()
    for name in state:
        head, _, last = name.rpartition(".weights.")
        down, up = f"{head}.lora.down_{last}", f"{head}.lora.up_{last}"
        if down in tuned_state:
            state[name] = tuned_state[name] + tuned_state[down] @ tuned_state[up]
    base.load_state_dict(state)
    graph = Subject(base).graph(named.mixed_elements())
    expected = Subject(base)(graph)
    for name, value in Subject(tuned)(graph).items():
        assert_close(value, expected[name], Tolerance.SUM, name)
