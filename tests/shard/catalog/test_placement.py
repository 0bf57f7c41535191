"""Placement: as many copies as asked for, on different workers, and the loss of any burdens all others alike."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shard.catalog.placement import Placement

CHUNKS = range(3000, 9000)


@given(st.sets(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 2**31))
def test_copies_are_on_different_workers(workers, replicas, chunk):
    placement = Placement(workers, replicas)
    held = placement.of(chunk)
    assert len(set(held)) == len(held) == min(replicas, len(workers))
    assert set(held) <= workers
    assert sorted(placement.order(chunk)) == sorted(workers)
    assert placement.order(chunk)[: len(held)] == held


@given(st.integers(2, 12), st.integers(1, 3))
def test_workers_have_alike_many(count, replicas):
    placement = Placement(range(1, count + 1), replicas)
    held = Counter(worker for chunk in CHUNKS for worker in placement.of(chunk))
    fair = len(CHUNKS) * placement.replicas / count
    assert all(abs(held[worker] - fair) < 0.15 * fair for worker in placement.workers)


@given(st.integers(3, 12))
def test_second_copies_of_ones_chunks_are_on_all_others(count):
    placement = Placement(range(1, count + 1), 2)
    pairs = Counter(tuple(placement.of(chunk)) for chunk in CHUNKS)
    fair = len(CHUNKS) / (count * (count - 1))
    assert len(pairs) == count * (count - 1)
    assert all(abs(number - fair) < 0.35 * fair + 10 for number in pairs.values())
