"""Rotation, inversion, reflection, translation, permutation, periodic images: of every output."""

from __future__ import annotations

import pytest

import structures as named
from contract import checks
from contract.subject import Subject


def test_outputs_are_not_vacuous(subject: Subject, direct: Subject) -> None:
    checks.check_not_vacuous(subject)
    checks.check_not_vacuous(direct)


@pytest.mark.parametrize("kind", ["rotation", "improper", "inversion", "reflection"])
def test_orthogonal(subject: Subject, direct: Subject, kind: str) -> None:
    matrix = {
        "rotation": checks.orthogonal(1),
        "improper": checks.orthogonal(2, improper=True),
        "inversion": checks.INVERSION,
        "reflection": checks.REFLECTION,
    }[kind]
    checks.check_orthogonal(subject, subject.graph(*named.batch_of_everything()), matrix, kind)
    checks.check_orthogonal(direct, direct.graph(named.mixed_elements(), named.wire()), matrix, kind)


@pytest.mark.parametrize("distance", [1.0, 1e3, 1e5])
def test_translation(subject: Subject, distance: float) -> None:
    checks.check_translation(subject, subject.graph(named.mixed_elements(), named.slab(), named.triclinic()), distance)


def test_permutation(subject: Subject, direct: Subject) -> None:
    for maker in (named.mixed_elements, named.triclinic, named.slab):
        checks.check_permutation(subject, maker())
    checks.check_permutation(direct, named.mixed_elements())


def test_order_of_edges(subject: Subject) -> None:
    checks.check_edge_order(subject, subject.graph(named.mixed_elements(), named.triclinic()))


def test_direction_of_edges(subject: Subject) -> None:
    checks.check_edge_direction(subject, subject.graph(named.mixed_elements(), named.triclinic(), named.slab()))


def test_periodic_images(subject: Subject) -> None:
    for maker in (named.triclinic, named.left_handed, named.slab, named.wire, named.middle_wire):
        checks.check_wrapping(subject, maker())
