"""What every model must do, as functions that `test_the_tests.py` also runs on models that do not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import structures as named
from contract.subject import PER_ATOM, RANKS, Outputs, Subject, assert_same_bits
from macekit.data import Structure
from macekit.geometry.graph import Graph
from structures import CUTOFF
from tolerances import Tolerance, assert_close


def orthogonal(seed: int, *, improper: bool = False) -> Tensor:
    """A random rotation, or a rotation with a reflection."""
    generator = torch.Generator().manual_seed(seed)
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    sign = torch.linalg.det(matrix) * (-1.0 if improper else 1.0)
    return matrix * sign


INVERSION = -torch.eye(3, dtype=torch.float64)
REFLECTION = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))


def turned(outputs: Outputs, matrix: Tensor) -> Outputs:
    """The outputs as they would be in the turned frame."""
    found = {}
    for name, value in outputs.items():
        if RANKS[name] == 0:
            found[name] = value
        elif RANKS[name] == 1:
            found[name] = value @ matrix.T
        else:
            found[name] = matrix @ value @ matrix.T
    return found


def _compare(found: Outputs, expected: Outputs, tolerance: Tolerance, what: str) -> None:
    assert found.keys() == expected.keys(), f"{what}: outputs {sorted(found)}, expected {sorted(expected)}"
    for name, value in expected.items():
        assert_close(found[name], value, tolerance, f"{what}: {name}")


def check_not_vacuous(subject: Subject) -> None:
    """Every output is there, is not zero, and depends on where the atoms are."""
    graph = subject.graph(named.mixed_elements(), named.triclinic(), named.slab())
    outputs = subject(graph)
    rattle = 0.1 * torch.sin(torch.arange(3 * graph.num_nodes, dtype=torch.float64)).view(-1, 3)
    other = subject(graph._replace(positions=graph.positions + rattle))
    expected = RANKS.keys() - ({"stress"} if subject.model.facts.targets.stress is None else set())
    expected -= {"y_graph_scalars::std"} if subject.model.config.uncertainty == "none" else set()
    assert outputs.keys() == expected, f"outputs {sorted(outputs)}, expected {sorted(expected)}"
    for name, value in outputs.items():
        finite = value[torch.isfinite(value)]
        assert finite.numel(), f"{name} is nowhere finite"
        least = 1e-6 if name == "stress" else 1e-4
        assert float(finite.abs().max()) > least, f"{name} is zero"
        assert float(finite.max() - finite.min()) > least, f"{name} is the same everywhere"
        change = (other[name] - value)[torch.isfinite(value)]
        assert float(change.abs().max()) > least, f"{name} does not depend on where the atoms are"


def check_orthogonal(subject: Subject, graph: Graph, matrix: Tensor, what: str) -> None:
    """Outputs turn with the structure; edges are given, so that only the model is tested."""
    moved = graph._replace(positions=graph.positions @ matrix.T, cell=graph.cell @ matrix.T)
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    _compare(subject(moved), turned(subject(graph), matrix), tolerance, what)


def check_translation(subject: Subject, graph: Graph, distance: float) -> None:
    """Nothing changes when everything moves, at any distance from the origin and in either precision."""
    direction = torch.tensor([0.6, -0.64, 0.48], dtype=torch.float64)
    moved = subject(graph._replace(positions=graph.positions + distance * direction))
    # positions themselves are rounded: float64 at 1e5 Å holds 1.5e-11 Å
    tolerance = Tolerance.SYMMETRIC if subject.is_double else Tolerance.F32_FAR
    _compare(moved, subject(graph), tolerance, f"moved by {distance} Å")


def check_permutation(subject: Subject, structure: Structure) -> None:
    """Values per atom follow their atoms, all others stay, also through the neighbour list."""
    order = np.random.default_rng(4).permutation(structure.num_atoms)
    permuted = Structure(structure.atomic_numbers[order], structure.positions[order], structure.cell, structure.pbc)
    original = subject(subject.graph(structure))
    expected = {name: value[torch.as_tensor(order)] if name in PER_ATOM else value for name, value in original.items()}
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    _compare(subject(subject.graph(permuted)), expected, tolerance, "permuted")


def check_edge_order(subject: Subject, graph: Graph) -> None:
    """The order of the edges does not matter."""
    order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    shuffled = graph._replace(
        edge_index=graph.edge_index[:, order],
        edge_shifts=graph.edge_shifts[order],
        edge_features=graph.edge_features[order],
    )
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    _compare(subject(shuffled), subject(graph), tolerance, "edges in another order")


def check_edge_direction(subject: Subject, graph: Graph) -> None:
    """The l = 1 harmonics of an edge point from its sender to its receiver; an energy cannot tell."""
    seen = []
    handle = subject.model.backbone.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1:3]))
    try:
        subject(graph)
    finally:
        handle.remove()
    attributes, edges = seen[0]
    atoms = torch.argsort(attributes.position)  # the backbone has them in the order of their classes
    sender, receiver = atoms[edges.sender], atoms[edges.receiver]
    shifts = torch.einsum("ei,eij->ej", graph.edge_shifts, graph.cell[graph.batch[sender]])
    vectors = graph.positions[receiver] - graph.positions[sender] + shifts
    expected = 3**0.5 * torch.nn.functional.normalize(vectors, dim=1)
    assert_close(edges.harmonics[:, 1:4], expected, Tolerance.F32_BATCH, "direction of edges")


def check_wrapping(subject: Subject, structure: Structure, most: int = 50) -> None:
    """Atoms may lie any number of cells away from each other."""
    cells = np.random.default_rng(8).integers(-most, most + 1, (structure.num_atoms, 3)) * structure.pbc
    moved = Structure(
        structure.atomic_numbers, structure.positions + cells @ structure.cell, structure.cell, structure.pbc
    )
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    _compare(subject(subject.graph(moved)), subject(subject.graph(structure)), tolerance, "atoms in other cells")


def check_batch_equals_singles(subject: Subject, structures: list[Structure]) -> None:
    """A structure has the same outputs alone and in company."""
    graph = subject.graph(*structures)
    together = subject(graph)
    tolerance = Tolerance.SUM if subject.is_double else Tolerance.F32_BATCH
    for k, structure in enumerate(structures):
        mine = subject.atoms_of(graph, together, torch.arange(graph.num_graphs) == k)
        _compare(subject(subject.graph(structure)), mine, tolerance, f"structure {k} of the batch")


def check_cross_graph_gradients(subject: Subject, structures: list[Structure]) -> None:
    """The derivative of one structure's outputs by another's positions is exactly zero."""
    graph = subject.graph(*structures)
    positions = graph.positions.clone().requires_grad_()
    outputs = subject.model(graph._replace(positions=positions))
    for k in range(graph.num_graphs):
        mine = subject.atoms_of(graph, outputs, torch.arange(graph.num_graphs) == k)
        total = torch.stack([value.sum() for value in mine.values()]).sum()
        (gradient,) = torch.autograd.grad(total, positions, retain_graph=True)
        assert torch.count_nonzero(gradient[graph.batch == k]), f"structure {k} does not depend on itself"
        others = gradient[graph.batch != k]
        assert torch.count_nonzero(others) == 0, f"structure {k} depends on another structure"


def check_nan_stays(subject: Subject, structures: list[Structure], bad: int) -> None:
    """A NaN in one structure leaves all others bitwise as they are."""
    graph = subject.graph(*structures)
    positions = graph.positions.clone()
    positions[int(torch.nonzero(graph.batch == bad)[0])] = torch.nan
    others = torch.arange(graph.num_graphs) != bad
    poisoned = subject(graph._replace(positions=positions))
    assert bool(subject.energy(poisoned)[bad].isnan()), "the NaN went unnoticed in its own structure"
    found = subject.atoms_of(graph, poisoned, others)
    assert_same_bits(found, subject.atoms_of(graph, subject(graph), others), "beside a NaN")


def check_isolated_atoms(subject: Subject) -> None:
    """An atom without neighbours has E0 + shift of its own target, exactly, and no vectors."""
    facts = subject.model.facts
    structures = [named.single_atom(number) for number in facts.elements]
    outputs = subject(subject.graph(*structures))
    for column, target in enumerate(facts.targets.y_graph_scalars):
        expected = torch.tensor(facts.reference_energies[target], dtype=torch.float64) + facts.shift[target]
        assert_close(outputs["y_graph_scalars"][:, column], expected, Tolerance.EXACT, f"isolated atoms: {target}")
    for column, target in enumerate(facts.targets.y_node_scalars):
        expected = torch.full((len(structures),), facts.shift[target], dtype=torch.float64)
        assert_close(outputs["y_node_scalars"][:, column], expected, Tolerance.EXACT, f"isolated atoms: {target}")
    for name in ("y_graph_vector", "y_node_vector"):
        assert torch.count_nonzero(outputs[name]) == 0, f"isolated atoms: {name} is not zero"


def check_fragments_add(subject: Subject, first: Structure, second: Structure) -> None:
    """Molecules beyond each other's reach add up: graph outputs are sums, atoms' outputs stay."""
    away = np.array([40.0, -30.0, 20.0])
    both = named.structure(
        np.concatenate([first.atomic_numbers, second.atomic_numbers]),
        np.concatenate([first.positions, second.positions + away]),
    )
    together, apart = subject(subject.graph(both)), subject(subject.graph(first, second))
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    for name, value in apart.items():
        if name == "stress":
            continue
        expected = value if name in PER_ATOM else value.sum(0, keepdim=True)
        if name.endswith("::std"):
            expected = value.square().sum(0, keepdim=True).sqrt()
        assert_close(together[name], expected, tolerance, f"two fragments: {name}")


def check_supercell(subject: Subject, structure: Structure) -> None:
    """2 × 2 × 2 cells have eight times the energy, the same stress and forces, and √8 times the deviation."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = np.concatenate([structure.positions + corner @ structure.cell for corner in corners])
    large = Structure(np.tile(structure.atomic_numbers, 8), positions, 2 * structure.cell, structure.pbc)
    one, eight = subject(subject.graph(structure)), subject(subject.graph(large))
    tolerance = Tolerance.F64 if subject.is_double else Tolerance.F32
    for name, value in one.items():
        if name in PER_ATOM:
            expected = value.repeat(8, 1)
        elif name == "stress":
            expected = value
        else:
            expected = value * (8**0.5 if name.endswith("::std") else 8.0)
        assert_close(eight[name], expected, tolerance, f"supercell: {name}")


def check_receptive_field(subject: Subject) -> None:
    """An atom further away than layers times the cutoff changes nothing of the first, exactly."""
    layers, spacing = subject.model.config.num_interactions, 0.9 * CUTOFF
    line = np.arange(layers + 3)[:, None] * np.array([spacing, 0.0, 0.0])
    near, far = line.copy(), line.copy()
    far[-1, 1] += 0.4
    outputs = [
        subject(subject.graph(named.structure([8] * len(line), x)))["y_graph_scalars::nodes"] for x in (near, far)
    ]
    same = (outputs[0] == outputs[1]).all(dim=1)
    assert bool(same[:2].all()), "an atom beyond the receptive field changes an energy"
    assert not bool(same[-2]), "the neighbour of the moved atom does not see it"
