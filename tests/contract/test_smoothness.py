"""Across the cutoff, down to no distance, and between precisions."""

from __future__ import annotations

import torch

import structures as named
from contract import smoothness_checks as checks
from contract.conftest import tuned
from contract.subject import Subject
from models import Combination, perturb_tuner, tiny_model


def test_pairs_at_the_cutoff(subject: Subject) -> None:
    for numbers in ((1, 8), (29, 29), (6, 1)):
        checks.check_cutoff(subject, numbers)


def test_an_atom_joins_a_molecule(double: Subject) -> None:
    checks.check_joining(double)


def test_short_distances(subject: Subject) -> None:
    checks.check_short_range(subject)


def test_float32_is_float64(combination: Combination) -> None:
    for forces in (True, False):
        double = Subject(perturb_tuner(tiny_model(combination, torch.float64, forces=forces)))
        checks.check_close_precisions(tuned(combination, torch.float32, forces), double)


def test_energy_is_smooth_along_a_path(double: Subject) -> None:
    """The fourth difference along a path through the cutoff of several pairs is small: no kinks."""
    molecule = named.mixed_elements()
    steps = torch.linspace(0.0, 2.0, 201, dtype=torch.float64).tolist()
    structures = []
    for step in steps:
        positions = molecule.positions.copy()
        positions[0] += [-0.8 * step, -0.6 * step, 0.0]
        structures.append(named.structure(molecule.atomic_numbers, positions))
    energies = double.energy(double(double.graph(*structures), forces=False, stress=False))
    kinks = energies.diff(n=4).abs().max().item()
    assert kinks < 1e-4 * float(energies.max() - energies.min())
