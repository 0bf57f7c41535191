"""The byte budget: what queries and their jobs may hold, and who is told of room."""

import asyncio

from proxy.execute.budget import JOB_BYTES, ByteBudget


def test_jobs_count_besides_rows():
    budget = ByteBudget(16 * JOB_BYTES)
    for _ in range(4):
        budget.enter()
    budget.add(12 * JOB_BYTES - 1)
    assert not budget.full()
    budget.add(1)
    assert budget.full()
    budget.leave()
    assert not budget.full()


def test_however_many_jobs_run_rows_have_half():
    """Else answers of many jobs, however small, would be sent before they are whole, and could not be asked for again."""
    budget = ByteBudget(16 * JOB_BYTES)
    for _ in range(1000):
        budget.enter()
    budget.add(8 * JOB_BYTES - 1)
    assert not budget.full()
    budget.add(1)
    assert budget.full()


def test_one_query_has_a_third():
    assert ByteBudget(300).full(own=100)
    assert not ByteBudget(300).full(own=99)


async def test_the_end_of_a_job_may_make_room():
    budget, room = ByteBudget(4 * JOB_BYTES), asyncio.Event()
    budget.watch(room)
    budget.enter()
    budget.add(3 * JOB_BYTES + 1)
    budget.give(1)
    assert not room.is_set()
    budget.leave()
    assert room.is_set()
    budget.give(3 * JOB_BYTES)
    assert budget.used == 0
