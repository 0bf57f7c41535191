"""What a repair plans: enough copies, never the last one taken away, loads alike."""

from hypothesis import given
from hypothesis import strategies as st

from shard.catalog.repair import Copy, plan


def test_a_missing_copy_comes_from_whoever_has_one():
    found = plan({5: {1, 3}, 6: {2}}, [1, 2, 3], 2)
    assert [copy.chunk for copy in found.copies] == [6]
    assert found.copies[0].sources == (2,)
    assert found.copies[0].target in (1, 3)
    assert (found.surplus, found.lost) == ((), ())


def test_what_is_being_emptied_is_copied_from_first():
    assert plan({5: {1, 4}}, [1, 2], 2).copies == (Copy(5, (4, 1), 2),)


def test_a_chunk_that_nobody_has_is_lost():
    assert plan({5: set(), 6: {1}}, [1, 2], 1).lost == (5,)


def test_a_new_worker_gets_its_share():
    held = {chunk: {1 + chunk % 2} for chunk in range(30)}
    found = plan(held, [1, 2, 3], 1, balance=True)
    assert len(found.copies) == 10
    assert {copy.target for copy in found.copies} == {3}
    assert {chunk for chunk, _ in found.surplus} == {copy.chunk for copy in found.copies}
    assert plan(held, [1, 2, 3], 1) == plan(held, [1, 2], 1)


WORKERS = st.integers(1, 6)


@given(
    st.dictionaries(st.integers(0, 60), st.sets(WORKERS, max_size=4), min_size=1),
    st.sets(WORKERS, min_size=1),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_plan(holders, active, replicas, balance):
    found = plan(holders, active, replicas, balance)
    after = {chunk: set(ids) for chunk, ids in holders.items()}
    for copy in found.copies:
        assert copy.target in active
        assert copy.target not in holders[copy.chunk]
        assert set(copy.sources) == holders[copy.chunk] != set()
        after[copy.chunk].add(copy.target)
    assert len({(copy.chunk, copy.target) for copy in found.copies}) == len(found.copies)
    for chunk, worker in found.surplus:
        assert worker in holders[chunk] & active
        after[chunk].remove(worker)
    assert set(found.lost) == {chunk for chunk, ids in holders.items() if not ids}
    wanted = min(replicas, len(active))
    loads = dict.fromkeys(active, 0)
    for chunk, ids in after.items():
        assert chunk in found.lost or len(ids & active) == wanted
        for worker in ids & active:
            loads[worker] += 1
    if balance:
        assert max(loads.values()) - min(loads.values()) <= 1
    settled = plan(after, active, replicas, balance)
    assert (settled.copies, settled.surplus) == ((), ())
