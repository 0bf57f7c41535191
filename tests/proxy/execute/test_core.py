"""The dispatch core: every chunk once, or the query fails."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.execute.core import (
    MOST_PARKS,
    Abort,
    Discard,
    DispatchCore,
    Fail,
    Failure,
    Finish,
    Forward,
    Hold,
    Loss,
    Park,
    StartJob,
)  # fmt: skip


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
    assert core.suspected(7) == []
    assert core.job_lost(1, Loss.DOWN) == [Fail(Failure.LOST, 7)]


@pytest.mark.parametrize(
    "holders",
    [
        [(1,), (2,), (3,)],
        [(1, 2, 3)],
        [(1, 2), (2, 3), (3, 1)],
        [(1,), (1, 2), (1, 2, 3)],
        [(2, 1), (1, 2), (3,)],
    ],
)
def test_chunks_are_dealt_out_evenly(holders):
    placement = {chunk: holders[chunk % len(holders)] for chunk in range(9000)}
    shares = {job.worker: job.chunks for job in DispatchCore(placement, 1).start()}
    assert sorted(chunk for share in shares.values() for chunk in share) == list(range(9000))
    assert all(worker in placement[chunk] for worker, share in shares.items() for chunk in share)
    assert all(list(share) == sorted(share) for share in shares.values())
    assert len(shares) == 3
    assert max(map(len, shares.values())) - min(map(len, shares.values())) < 90


def test_a_suspect_and_a_bad_copy_are_asked_last():
    placement = dict.fromkeys(range(90), (1, 2, 3)) | {90: (1,), 91: (2, 3)}
    core = DispatchCore(placement, 1, suspects=frozenset({1}), bad={(5, 2), (91, 3)})
    shares = {job.worker: set(job.chunks) for job in core.start()}
    assert shares[1] == {90}
    assert 5 in shares[3]
    assert 91 in shares[2]
    assert abs(len(shares[2]) - len(shares[3])) <= 2


@pytest.mark.parametrize("loss", Loss)
def test_a_lost_worker_is_replaced_before_that(loss):
    core = DispatchCore({1: (7, 8), 2: (7, 8)}, commit_bytes=100)
    first = core.start()
    assert {job.worker for job in first} == {7, 8}
    lost = first[0]
    assert core.rows(lost.job, 0, 99) == Hold()
    again = core.job_lost(lost.job, loss)
    assert again[0] == Discard(lost.job)
    assert again[1].chunks == lost.chunks
    assert again[1].worker == 8


@pytest.mark.parametrize(("loss", "attempts"), [(Loss.DOWN, 1), (Loss.LOST, 2)])
def test_a_single_copy_is_waited_for(loss, attempts):
    core = DispatchCore({1: (7,)}, 100)
    (job,) = core.start()
    for park in range(1, MOST_PARKS + 1):
        for _ in range(attempts - 1):
            _, job = core.job_lost(job.job, loss)
            assert job.worker == 7
        assert core.job_lost(job.job, loss) == [Discard(job.job), Park(park, (7,))]
        (job,) = core.resume(park, frozenset({7}))
        assert job.worker == 7
    for _ in range(attempts - 1):
        _, job = core.job_lost(job.job, loss)
    assert core.job_lost(job.job, loss) == [Fail(Failure.DOWN, 7)]


def test_a_single_copy_that_lacks_a_chunk_is_not_waited_for():
    core = DispatchCore({1: (7,)}, 100)
    (job,) = core.start()
    assert core.job_lost(job.job, Loss.LACKING) == [Fail(Failure.DOWN, 7)]


def test_chunks_of_several_workers_that_are_away_wait_for_each():
    core = DispatchCore({1: (7,), 2: (8,)}, 100)
    seven, eight = core.start()
    assert core.job_lost(seven.job, Loss.DOWN) == [Discard(seven.job), Park(1, (7,))]
    assert core.job_lost(eight.job, Loss.DOWN) == [Discard(eight.job), Park(2, (8,))]
    (again,) = core.resume(2, frozenset({8}))
    assert (again.worker, again.chunks) == (8, (2,))
    assert core.resume(1, frozenset()) == [Fail(Failure.DOWN, 7)]


def test_what_is_back_runs_and_the_rest_waits_on():
    core = DispatchCore({1: (7, 9), 2: (8, 9), 3: (9,)}, 100, frozenset({7, 8}))
    (nine,) = core.start()
    assert (nine.worker, nine.chunks) == (9, (1, 2, 3))
    _, seven, eight, park = core.job_lost(nine.job, Loss.DOWN)
    assert ((seven.worker, seven.chunks), (eight.worker, eight.chunks)) == ((7, (1,)), (8, (2,)))
    assert park == Park(1, (9,))
    assert core.job_lost(seven.job, Loss.LACKING) == [Discard(seven.job), Park(2, (9,))]
    again, more = core.resume(1, frozenset({9})), core.resume(2, frozenset({9}))
    assert [(one.worker, one.chunks) for one in (*again, *more)] == [(9, (3,)), (9, (1,))]


def test_bad_copies_are_asked_last():
    core = DispatchCore({1: (7, 8), 2: (7, 8), 3: (7,)}, 100, bad={(1, 7), (2, 7), (3, 7)})
    assert core.start() == [StartJob(1, 7, (3,)), StartJob(2, 8, (1, 2))]


def test_when_all_are_away_a_query_waits_for_one():
    core = DispatchCore({1: (7, 8), 2: (8, 9)}, 100)
    seven, eight = core.start()
    assert (seven.chunks, eight.chunks) == ((1,), (2,))
    _, again = core.job_lost(eight.job, Loss.DOWN)
    assert (again.worker, again.chunks) == (9, (2,))
    assert core.job_lost(seven.job, Loss.DOWN) == [Discard(seven.job), Park(1, (7, 8))]
    core.batch_end(again.job, 0, (2,))
    assert core.job_end(again.job) == []
    (last,) = core.resume(1, frozenset({8}))
    assert (last.worker, last.chunks) == (8, (1,))
    assert core.job_lost(last.job, Loss.DOWN) == [Discard(last.job), Park(2, (7, 8))]
    assert core.resume(2, frozenset()) == [Fail(Failure.DOWN, 8)]


def test_one_that_lacks_a_chunk_is_asked_for_others():
    """Each worker lacks one chunk; all are answered."""
    core = DispatchCore({1: (7, 8), 2: (8, 7), 3: (7, 8), 4: (8, 7)}, 100)
    seven, eight = core.start()
    _, again = core.job_lost(seven.job, Loss.LACKING)
    assert (again.worker, again.chunks) == (8, seven.chunks)
    _, swapped = core.job_lost(eight.job, Loss.LACKING)
    assert (swapped.worker, swapped.chunks) == (7, eight.chunks)


def test_suspects_are_asked_last():
    core = DispatchCore({1: (7, 8), 2: (7, 8), 3: (7,)}, 100, frozenset({7}))
    assert core.start() == [StartJob(1, 7, (3,)), StartJob(2, 8, (1, 2))]


def test_jobs_of_a_suspect_are_given_up_where_others_have_their_chunks():
    core = DispatchCore({1: (7, 8), 2: (9,)}, 100)
    assert core.start() == [StartJob(1, 7, (1,)), StartJob(2, 9, (2,))]
    assert core.suspected(9) == []
    assert core.suspected(7) == [Abort(1)]
    assert core.suspected(7) == []
    assert core.job_lost(1, Loss.LOST) == [Discard(1), StartJob(3, 8, (1,))]


def test_answers_that_were_not_asked_fail():
    core = DispatchCore({1: (7,), 2: (7,)}, 100)
    core.start()
    assert core.batch_end(1, 0, (3,)) == [Fail(Failure.PROTOCOL, 7)]
    core.batch_end(1, 1, (1,))
    assert core.batch_end(1, 2, (1,)) == [Fail(Failure.PROTOCOL, 7)]
    assert core.job_end(1) == [Fail(Failure.PROTOCOL, 7)]


class Simulation:
    """Agents that send rows and fail at random, and a client that notes what it is given."""

    def __init__(self, placement, commit, data):
        self.placement, self.commit, self.data = placement, commit, data
        self.core = DispatchCore(placement, commit, frozenset(data.draw(st.sets(WORKERS))))
        self.jobs = {}
        self.held = {}
        self.given = Counter()
        self.over = None
        self.aborted = set()
        self.parked = {}

    def draw(self, strategy):
        return self.data.draw(strategy)

    def obey(self, instructions):
        for item in instructions:
            if isinstance(item, StartJob):
                assert all(item.worker in self.placement[chunk] for chunk in item.chunks)
                self.jobs[item.job] = Job(item.worker, list(item.chunks))
            elif isinstance(item, Forward):
                for row in self.held.get(item.job, {}).pop(item.batch, ()):
                    self.given[row] += 1
            elif isinstance(item, Discard):
                self.held.pop(item.job, None)
            elif isinstance(item, Abort):
                assert item.job in self.jobs
                self.aborted.add(item.job)
            elif isinstance(item, Park):
                assert item.workers
                self.parked[item.park] = item.workers
            elif isinstance(item, (Finish, Fail)):
                assert self.over is None
                self.over = item

    def step(self):
        """Let one job send rows, end a chunk, end, or be lost; or let workers come back."""
        if self.parked and (not self.jobs or self.draw(st.booleans())):
            park = self.draw(st.sampled_from(sorted(self.parked)))
            back = self.draw(st.sets(st.sampled_from(self.parked.pop(park))))
            self.obey(self.core.resume(park, frozenset(back)))
            return
        number = self.draw(st.sampled_from(sorted(self.jobs)))
        job = self.jobs[number]
        event = self.draw(st.sampled_from(["end", "end", "end", "rows", "rows", *Loss, "suspect"]))
        if number in self.aborted:
            event = Loss.LOST
        if event == "suspect":
            self.obey(self.core.suspected(job.worker))
        elif isinstance(event, Loss):
            del self.jobs[number]
            self.obey(self.core.job_lost(number, event))
        elif not job.chunks:
            del self.jobs[number]
            self.obey(self.core.job_end(number))
        else:
            chunk = job.chunks[0]
            while job.sent < (1 if event == "rows" else ROWS) and self.over is None:
                self.held.setdefault(number, {}).setdefault(chunk, []).append((chunk, job.sent))
                job.sent += 1
                answer = self.core.rows(number, chunk, self.draw(st.integers(1, 9)))
                self.obey([] if isinstance(answer, Hold) else [answer])
            if event == "end":
                job.chunks.pop(0)
                job.sent = 0
                self.obey(self.core.batch_end(number, chunk, (chunk,)))


@dataclass
class Job:
    worker: int
    chunks: list
    sent: int = 0


ROWS = 3
WORKERS = st.integers(1, 4)
PLACEMENTS = st.dictionaries(
    st.integers(0, 30), st.lists(WORKERS, min_size=1, max_size=3, unique=True).map(tuple), min_size=1
)


@settings(max_examples=400, deadline=None)
@given(PLACEMENTS, st.sampled_from([5, 20, 1000]), st.data())
def test_every_row_is_given_once_however_workers_fail(placement, commit, data):
    run = Simulation(placement, commit, data)
    run.obey(run.core.start())
    while run.over is None:
        assert run.jobs or run.parked, "nothing runs, and nobody has said that all is done"
        run.step()
        assert all(number == 1 for number in run.given.values())
    if isinstance(run.over, Finish):
        assert run.given == Counter((chunk, row) for chunk in placement for row in range(ROWS))
        assert run.core.done == len(placement)
    else:
        assert run.over.worker in {worker for ids in placement.values() for worker in ids}
        assert run.over.reason is Failure.DOWN or commit < ROWS * 9


@given(PLACEMENTS, st.data())
def test_one_good_worker_for_each_chunk_is_enough(placement, data):
    """Below the commit limit no query fails as long as one holder of each chunk does its work."""
    good = {chunk: data.draw(st.sampled_from(ids)) for chunk, ids in placement.items()}
    steady = set(good.values())
    core = DispatchCore(placement, 1000)
    jobs, answered = core.start(), []
    while jobs:
        job = jobs.pop(data.draw(st.integers(0, len(jobs) - 1)))
        if isinstance(job, Finish):
            assert sorted(answered) == sorted(placement)
            return
        if isinstance(job, Discard):
            continue
        assert isinstance(job, StartJob), job
        done = (
            job.chunks if job.worker in steady else job.chunks[: data.draw(st.integers(0, len(job.chunks)))]
        )
        for chunk in done:
            core.batch_end(job.job, chunk, (chunk,))
            answered.append(chunk)
        if job.worker in steady:
            jobs += core.job_end(job.job)
        else:
            jobs += core.job_lost(job.job, data.draw(st.sampled_from(Loss)))
    raise AssertionError("it did not end")


def test_a_job_that_is_lost_behind_its_last_batch_keeps_its_rows():
    core = DispatchCore({1: (7, 8), 2: (9,)}, 100)
    assert core.start() == [StartJob(1, 7, (1,)), StartJob(2, 9, (2,))]
    core.batch_end(1, 0, (1,))
    assert core.suspected(7) == []
    assert core.job_lost(1, Loss.LOST) == []
    core.batch_end(2, 0, (2,))
    assert core.job_lost(2, Loss.DOWN) == [Finish()]


def test_jobs_of_a_suspect_are_given_up_once_another_is_back():
    core = DispatchCore({1: (7, 8), 2: (7, 8)}, 100)
    assert core.start() == [StartJob(1, 7, (1,)), StartJob(2, 8, (2,))]
    assert core.suspected(7) == [Abort(1)]
    assert core.suspected(8) == []
    assert core.returned(9) == []
    assert core.returned(7) == [Abort(2)]
    assert core.job_lost(2, Loss.LOST) == [Discard(2), StartJob(3, 7, (2,))]


def test_a_job_is_given_up_once():
    core = DispatchCore({1: (7, 8, 9)}, 100, frozenset({7, 8, 9}))
    assert core.start() == [StartJob(1, 7, (1,))]
    assert core.returned(8) == [Abort(1)]
    assert core.returned(9) == []
    assert core.suspected(9) == []
    assert core.job_lost(1, Loss.LOST) == [Discard(1), StartJob(2, 8, (1,))]
