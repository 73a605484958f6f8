import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macekit.data import EpochSampler
from macekit.data.sampler import BLOCK
from macekit.errors import ResumeError, UsageError

sizes = st.lists(st.integers(0, 500), min_size=1, max_size=40)


def shares(edges, world, epochs=1, **options):
    """What each process gets, [rank][batch]."""
    samplers = [EpochSampler(edges, rank=rank, world_size=world, **options) for rank in range(world)]
    return [[batch for _ in range(epochs) for batch in sampler] for sampler in samplers]


@settings(max_examples=60, deadline=None)
@given(
    edges=sizes,
    world=st.integers(1, 4),
    batch=st.integers(1, 50),
    by_edges=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_structure_exactly_once_over_all_processes(edges, world, batch, by_edges, seed):
    options = {"batch_edges": batch * 20} if by_edges else {"batch_size": batch}
    parts = shares(edges, world, seed=seed, **options)
    assert len({len(part) for part in parts}) == 1
    assert sorted(i for part in parts for indices in part for i in indices) == list(range(len(edges)))
    reference = EpochSampler(edges, seed=seed, **options).global_batches()
    for number, expected in enumerate(reference):
        together = [i for part in parts for i in part[number]]
        assert sorted(together) == sorted(expected)
        if len(expected) >= world:
            assert all(part[number] for part in parts)
        if by_edges:
            assert sum(edges[i] for i in expected) <= batch * 20 or len(expected) == 1
        else:
            assert len(expected) <= batch


@settings(max_examples=30, deadline=None)
@given(edges=sizes, world=st.integers(2, 4))
def test_shares_are_balanced_by_edges(edges, world):
    parts = shares(edges, world, batch_size=len(edges))
    loads = [sum(edges[i] for i in part[0]) for part in parts]
    assert max(loads) - min(loads) <= max(edges) + len(edges)


@settings(max_examples=30, deadline=None)
@given(edges=sizes, batch=st.integers(1, 10), stop=st.integers(0, 30), world=st.integers(1, 3))
def test_resume_in_the_middle_of_an_epoch_continues_exactly(edges, batch, stop, world):
    def run(sampler, limit):
        taken = []
        while len(taken) < limit:
            for indices in sampler:
                taken.append((sampler.epoch, indices))
                if len(taken) == limit:
                    break
        return taken

    options = {"batch_size": batch, "seed": 7, "rank": 0, "world_size": world}
    whole = run(EpochSampler(edges, **options), stop + 20)
    first = EpochSampler(edges, **options)
    before = run(first, stop)
    second = EpochSampler(edges, **options)
    second.load_state_dict(first.state_dict())
    assert before + run(second, 20) == whole


def test_order_depends_on_seed_and_epoch_only():
    edges = list(range(50))
    one, two = EpochSampler(edges, batch_size=10, seed=1), EpochSampler(edges, batch_size=10, seed=2)
    assert one.order(0) == EpochSampler(edges, batch_size=3, seed=1, rank=1, world_size=2).order(0)
    assert one.order(0) != two.order(0)
    assert one.order(0) != one.order(1)
    np.random.rand(3)  # noqa: NPY002
    assert one.order(0) == EpochSampler(edges, batch_size=10, seed=1).order(0)
    ordered = EpochSampler(edges, batch_size=10, shuffle=False)
    assert [list(ordered), list(ordered)] == [[list(range(i, i + 10)) for i in range(0, 50, 10)]] * 2


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 1000), window=st.integers(1, 600), batch=st.integers(1, 90), seed=st.integers(0, 9))
def test_a_window_bounds_what_is_mixed(size, window, batch, seed):
    sampler = EpochSampler([1] * size, batch_size=batch, window=window, seed=seed)
    order = sampler.order(0)
    assert sorted(order) == list(range(size))
    assert [index for batch in sampler for index in batch] == order
    if window < size:
        together = max(window // BLOCK, 1) * BLOCK
        seen = 0
        while seen < size:
            blocks = {index // BLOCK for index in order[seen : seen + together]}
            assert len(blocks) <= 2 * together // BLOCK + 2  # the last block of the data may be a small one
            seen += together
    if size > 600 and window > 130:
        assert order != sampler.order(1)
        assert order != sorted(order)


def test_number_of_batches_by_edges():
    sampler = EpochSampler([3, 9, 1, 1, 8, 2], batch_edges=10, shuffle=False)
    assert sampler.global_batches() == [[0], [1, 2], [3, 4], [5]]
    assert sampler.num_batches(0) == len(sampler) == 4


def test_epochs_advance_and_can_be_set():
    sampler = EpochSampler([1] * 10, batch_size=4)
    assert len(sampler) == 3
    first = list(sampler)
    assert (sampler.epoch, sampler.position) == (1, 0)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_batch_larger_than_the_data_is_one_batch():
    assert [sorted(batch) for batch in EpochSampler([1] * 3, batch_size=100)] == [[0, 1, 2]]


def test_world_size_may_change_on_resume():
    one = EpochSampler([5] * 20, batch_size=5, world_size=2)
    next(iter(one))
    two = EpochSampler([5] * 20, batch_size=5)
    two.load_state_dict(one.state_dict())
    assert two.position == 1
    assert next(iter(two)) == one.global_batches()[1]


def test_other_data_or_settings_are_not_continued():
    state = EpochSampler([5] * 20, batch_size=5, seed=1).state_dict()
    with pytest.raises(ResumeError, match="stored → now: seed 1 → 2, num_structures 20 → 19"):
        EpochSampler([5] * 19, batch_size=5, seed=2).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_edges": [1]}, "give batch_size or batch_edges"),
        ({"num_edges": [1], "batch_size": 1, "batch_edges": 1}, "one of them; got 1 and 1"),
        ({"num_edges": [], "batch_size": 1}, "at least one structure"),
        ({"num_edges": [1], "batch_size": 0}, "expected a positive batch size, got 0"),
        (
            {"num_edges": [1], "batch_size": 1, "rank": 2, "world_size": 2},
            "rank 2 of 2 processes; expected 0 to 1",
        ),
    ],
)
def test_impossible_samplers(arguments, message):
    with pytest.raises(UsageError, match=message):
        EpochSampler(**arguments)
