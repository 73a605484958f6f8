"""Forces, stress, and their derivatives, against differences of energies."""

from __future__ import annotations

import torch
from torch import Tensor

from contract.subject import Subject
from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from tolerances import Tolerance, assert_close

STENCIL = {-2: 1.0 / 12.0, -1: -2.0 / 3.0, 1: 2.0 / 3.0, 2: -1.0 / 12.0}
"""Five-point first derivative, exact up to the fourth order of the step."""


def _energies(subject: Subject, graphs: list[Graph]) -> Tensor:
    with torch.no_grad():
        return subject.energy(subject.model(collate(graphs)))


def _differences(subject: Subject, moved: list[list[Graph]], step: float) -> Tensor:
    """Derivatives along several directions, [directions], from one batch."""
    energies = _energies(subject, [graph for along in moved for graph in along]).view(len(moved), len(STENCIL))
    return energies @ torch.tensor(list(STENCIL.values()), dtype=torch.float64) / step


def check_forces(subject: Subject, structure: Structure, step: float = 5e-4) -> None:
    """F = −dE/dx of the energy target, for every component."""
    graph = subject.graph(structure)
    moved = []
    for component in range(3 * graph.num_nodes):
        direction = torch.zeros(3 * graph.num_nodes, dtype=torch.float64)
        direction[component] = step
        moved.append([graph._replace(positions=graph.positions + k * direction.view(-1, 3)) for k in STENCIL])
    forces = subject(graph)["y_node_vector"]
    worst = float((forces.flatten() + _differences(subject, moved, step)).abs().max())
    assert worst <= Tolerance.FORCE.value, f"forces differ from -dE/dx by {worst:.1e} eV/Å"
    total = float(forces.sum(0).abs().max())
    assert total <= Tolerance.F64.value * max(1.0, float(forces.abs().max())), f"forces do not sum to zero: {total:.1e}"


def check_stress(subject: Subject, structure: Structure, step: float = 2e-4) -> None:
    """σ = dE/dε / V of the physical cell, for every symmetric strain."""
    graph = subject.graph(structure)
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    moved = []
    for a, b in pairs:
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        deformations = [torch.eye(3, dtype=torch.float64) + k * strain for k in STENCIL]
        moved.append([graph._replace(positions=graph.positions @ d, cell=graph.cell @ d) for d in deformations])
    (stress,) = subject(graph)["stress"]
    assert_close(stress, stress.T, Tolerance.F64, "symmetry of the stress")
    found = torch.stack([stress[a, b] for a, b in pairs])
    volume = abs(float(torch.linalg.det(torch.tensor(structure.cell))))
    worst = float((found - _differences(subject, moved, step) / volume).abs().max())
    assert worst <= Tolerance.STRESS.value, f"the stress differs from dE/dε/V by {worst:.1e} eV/Å³"
    assert float(stress.abs().max()) > 10 * Tolerance.STRESS.value, "the stress is zero"


def check_conservative(subject: Subject, structure: Structure) -> None:
    """The Jacobian of the forces is symmetric, and is the derivative of the forces."""
    graph = subject.graph(structure)
    step = 1e-4
    columns = []
    for component in range(3 * graph.num_nodes):
        direction = torch.zeros(3 * graph.num_nodes, dtype=torch.float64)
        direction[component] = step
        copies = [graph._replace(positions=graph.positions + k * direction.view(-1, 3)) for k in STENCIL]
        forces = subject(collate(copies))["y_node_vector"].view(len(STENCIL), -1)
        columns.append(torch.tensor(list(STENCIL.values()), dtype=torch.float64) @ forces / step)
    jacobian = torch.stack(columns, dim=1)
    worst = float((jacobian - jacobian.T).abs().max()) / float(jacobian.abs().max())
    assert worst <= Tolerance.SYMMETRIC.value, f"the forces are not conservative: {worst:.1e}"


def check_weight_derivatives(subject: Subject, structures: list[Structure]) -> None:
    """Derivatives of a loss on energy, forces and stress by the weights: the second derivative of the kernels."""
    graph = subject.graph(*structures)
    parameters = [p for p in subject.model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(2)

    def loss(training: bool) -> Tensor:
        outputs = subject(graph, training=training)
        chosen = [outputs["y_node_vector"], subject.energy(outputs), outputs["stress"].nan_to_num()]
        values = torch.cat([value.flatten() for value in chosen])
        return (values * torch.cos(torch.arange(len(values), dtype=torch.float64))).sum()

    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    gradients = torch.autograd.grad(loss(training=True), parameters, allow_unused=True)
    analytic = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    step, numeric = 1e-4, 0.0
    for k, weight in STENCIL.items():
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(k * step * direction)
        numeric += weight * float(loss(training=False)) / step
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.sub_(k * step * direction)
    difference = abs(analytic - numeric) / max(1.0, abs(numeric))
    assert difference <= Tolerance.WEIGHTS.value, f"weight derivative {analytic}, by differences {numeric}"
