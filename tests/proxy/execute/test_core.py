"""The dispatch core: every chunk once, or the query fails."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.execute.core import Discard, DispatchCore, Fail, Finish, Forward, Hold, StartJob


def test_rows_wait_for_their_batch():
    core = DispatchCore({1: (7,)}, commit_bytes=100)
    assert core.start() == [StartJob(1, 7, (1,))]
    assert core.rows(1, 0, 50) == Hold()
    assert core.batch_end(1, 0, (1,)) == [Forward(1, 0)]
    assert core.job_end(1) == [Finish()]


def test_nothing_to_ask():
    assert DispatchCore({}, 1).start() == [Finish()]


def test_a_long_batch_streams_and_then_cannot_be_lost():
    core = DispatchCore({1: (7, 8)}, commit_bytes=100)
    core.start()
    assert core.rows(1, 0, 101) == Forward(1, 0)
    assert core.job_lost(1) == [Fail("lost", 7)]


def test_a_lost_worker_is_replaced_before_that():
    core = DispatchCore({1: (7, 8), 2: (7, 8)}, commit_bytes=100)
    first = core.start()
    assert {job.worker for job in first} == {7, 8}
    lost = first[0]
    again = core.job_lost(lost.job)
    assert again[0] == Discard(lost.job)
    assert again[1].chunks == lost.chunks
    assert again[1].worker == 8


def test_no_replica_left():
    core = DispatchCore({1: (7,)}, 100)
    core.start()
    assert core.job_lost(1) == [Fail("down", 7)]


def test_answers_that_were_not_asked_fail():
    core = DispatchCore({1: (7,), 2: (7,)}, 100)
    core.start()
    assert core.batch_end(1, 0, (3,)) == [Fail("protocol", 7)]
    core.batch_end(1, 1, (1,))
    assert core.batch_end(1, 2, (1,)) == [Fail("protocol", 7)]
    assert core.job_end(1) == [Fail("protocol", 7)]


@given(st.dictionaries(st.integers(0, 30), st.just((1, 2, 3)), min_size=1), st.data())
def test_every_chunk_is_answered_once_however_workers_die(placement, data):
    core = DispatchCore(placement, 10)
    jobs = [item for item in core.start() if isinstance(item, StartJob)]
    answered, finished, deaths = [], False, 0
    while jobs:
        job = jobs.pop(data.draw(st.integers(0, len(jobs) - 1)))
        done = data.draw(st.integers(0, len(job.chunks)))
        for chunk in job.chunks[:done]:
            assert core.batch_end(job.job, chunk, (chunk,)) == [Forward(job.job, chunk)]
            answered.append(chunk)
        if done == len(job.chunks) or deaths == 2:
            for chunk in job.chunks[done:]:
                core.batch_end(job.job, chunk, (chunk,))
                answered.append(chunk)
            out = core.job_end(job.job)
        else:
            deaths += 1
            out = core.job_lost(job.job)
        jobs += [item for item in out if isinstance(item, StartJob)]
        finished = finished or any(isinstance(item, Finish) for item in out)
        assert not any(isinstance(item, Fail) for item in out) or deaths
        if any(isinstance(item, Fail) for item in out):
            return
    assert finished
    assert sorted(answered) == sorted(placement)
