"""No jump, no kink, no infinity."""

from __future__ import annotations

import torch

import structures as named
from contract.subject import Subject
from structures import CUTOFF
from tolerances import Tolerance, assert_close


def check_cutoff(subject: Subject, numbers: tuple[int, int]) -> None:
    """Energy and forces of a pair go to zero at the cutoff."""
    inside, outside = (
        subject(subject.graph(named.dimer(CUTOFF + step, numbers)), forces=True) for step in (-1e-3, 1e-3)
    )
    change = float((inside["y_graph_scalars"] - outside["y_graph_scalars"]).abs().max())
    assert change <= Tolerance.CUTOFF_ENERGY.value, f"the energy jumps by {change:.1e} eV at the cutoff"
    force = float(inside["y_node_vector"].abs().max())
    assert force <= Tolerance.CUTOFF_FORCE.value, f"the force is {force:.1e} eV/Å at the cutoff"
    assert float(outside["y_node_vector"].abs().max()) == 0.0, "a force beyond the cutoff"


def check_joining(subject: Subject) -> None:
    """An atom that comes into the reach of a molecule changes nothing at once, and something soon."""
    molecule = named.water()
    away = torch.nn.functional.normalize(torch.tensor([0.2, -1.0, 0.3], dtype=torch.float64), dim=0).numpy()
    outputs = [
        subject(
            subject.graph(
                named.structure(
                    [*molecule.atomic_numbers, 6],
                    [*molecule.positions, molecule.positions[0] + (CUTOFF + step) * away],
                )
            ),
            forces=True,
        )
        for step in (-1e-3, 1e-3, -0.8)
    ]
    for name, bar in (("y_graph_scalars", Tolerance.CUTOFF_ENERGY), ("y_node_vector", Tolerance.CUTOFF_FORCE)):
        change = float((outputs[0][name] - outputs[1][name]).abs().max())
        assert change <= bar.value, f"{name} jumps by {change:.1e} where an atom joins"
    moved = (subject.energy(outputs[2]) - subject.energy(outputs[1])).abs().item()
    assert moved > 1e-6, "an atom inside the cutoff is not seen"


def check_short_range(subject: Subject) -> None:
    """Everything stays finite down to no distance at all, first and second derivatives included."""
    for distance in (1e-1, 1e-3, 1e-7, 1e-9, 0.0):
        outputs = subject(subject.graph(named.dimer(distance)), forces=True, training=True)
        for name, value in outputs.items():
            if name != "stress":
                assert bool(value.isfinite().all()), f"{name} is not finite at {distance} Å"
        gradients = torch.autograd.grad(
            outputs["y_node_vector"].square().sum(), list(subject.model.parameters()), allow_unused=True
        )
        assert all(bool(g.isfinite().all()) for g in gradients if g is not None), f"second derivative at {distance} Å"


def check_close_precisions(single: Subject, double: Subject) -> None:
    """Float32 gives what float64 gives."""
    double.model.load_state_dict({name: value.double() for name, value in single.model.state_dict().items()})
    graph = double.graph(named.mixed_elements(), named.triclinic(), named.slab())
    expected = double(graph)
    for name, value in single(graph).items():
        assert_close(value, expected[name], Tolerance.F32, f"float32: {name}")
