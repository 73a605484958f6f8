"""Structures do not see each other, atoms do not see beyond their reach, and energies add up."""

from __future__ import annotations

import torch

import structures as named
from contract import checks
from contract.conftest import tuned
from contract.subject import Subject
from models import Combination, tiny_model


def test_batch_equals_singles(subject: Subject) -> None:
    checks.check_batch_equals_singles(subject, named.batch_of_everything())


def test_cross_graph_gradients_are_zero(subject: Subject, direct: Subject) -> None:
    checks.check_cross_graph_gradients(subject, [named.water(), named.triclinic(), named.mixed_elements()])
    checks.check_cross_graph_gradients(direct, [named.water(), named.mixed_elements()])


def test_nan_stays_in_its_structure(subject: Subject, direct: Subject) -> None:
    structures = [named.water(), named.triclinic(), named.mixed_elements(), named.slab()]
    checks.check_nan_stays(subject, structures, bad=1)
    checks.check_nan_stays(direct, structures, bad=2)


def test_isolated_atoms_have_their_reference_energy(combination: Combination, dtype: torch.dtype) -> None:
    """With tuners as they are made: SSF's β, and an adapter's view of the embedding, an isolated atom has too."""
    for forces in (True, False):
        checks.check_isolated_atoms(Subject(tiny_model(combination, dtype, forces=forces)))
    if combination.tuner in ("none", "lora"):
        checks.check_isolated_atoms(tuned(combination, dtype, forces=True))


def test_fragments_add(subject: Subject, direct: Subject) -> None:
    checks.check_fragments_add(subject, named.water(), named.mixed_elements())
    checks.check_fragments_add(direct, named.water(), named.mixed_elements())


def test_pair_beyond_the_cutoff_is_two_atoms(subject: Subject) -> None:
    checks.check_fragments_add(subject, named.single_atom(1), named.single_atom(8))


def test_supercell(subject: Subject) -> None:
    for maker in (named.primitive_copper, named.triclinic):
        checks.check_supercell(subject, maker())


def test_receptive_field(subject: Subject) -> None:
    checks.check_receptive_field(subject)
