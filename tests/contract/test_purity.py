"""Evaluating and building change nothing in the world."""

from __future__ import annotations

import torch

import structures as named
from contract import state_checks as checks
from contract.subject import Subject
from macekit.model.build import build_model
from models import Combination, config_of, facts_of, tiny_model


def test_evaluation_changes_nothing(subject: Subject, direct: Subject) -> None:
    structures = [named.zero_atoms(), named.mixed_elements(), named.triclinic(), named.slab()]
    checks.check_nothing_changes(subject, subject.graph(*structures))
    checks.check_nothing_changes(direct, direct.graph(*structures))


def test_modes_agree(subject: Subject, direct: Subject) -> None:
    structures = [named.mixed_elements(), named.triclinic()]
    checks.check_modes_agree(subject, subject.graph(*structures))
    checks.check_modes_agree(direct, direct.graph(*structures))


def test_building_changes_nothing(combination: Combination, dtype: torch.dtype) -> None:
    config, facts = config_of(combination), facts_of()
    before = checks._global_state()
    model = build_model("mace_model", config, facts, seed=11, dtype=dtype)
    assert checks._global_state() == before
    assert config == config_of(combination)
    assert facts == facts_of()
    assert model.dtype == dtype


def test_seeds(combination: Combination, dtype: torch.dtype) -> None:
    first, second, other = (tiny_model(combination, dtype, seed=seed).state_dict() for seed in (1, 1, 2))
    assert first.keys() == second.keys() == other.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    random = [name for name in first if torch.count_nonzero(first[name]) and "gamma" not in name and ".s_" not in name]
    assert random and not any(torch.equal(first[name], other[name]) for name in random)


def test_a_seed_means_the_same_in_both_precisions(combination: Combination) -> None:
    double, single = (tiny_model(combination, dtype).state_dict() for dtype in (torch.float64, torch.float32))
    assert all(torch.equal(double[name].float(), single[name]) for name in double)
