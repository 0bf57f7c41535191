"""The agent's scheduler: lanes, bounds, and scans of one chunk together."""

import random

from worker_agent.scheduler import Scheduler, Start, Turns


def test_scans_of_one_chunk_run_together():
    scheduler = Scheduler(slots=2, interactive_slots=1)
    assert scheduler.submit(1, [5, 6], interactive=False) == [Start(1, (5,)), Start(1, (6,))]
    assert scheduler.submit(2, [6, 5], interactive=False) == []
    assert scheduler.submit(3, [5], interactive=False) == []
    assert scheduler.finished(1) == [Start(2, (6,))]
    assert scheduler.finished(1) == [Start(2, (5,))]
    assert scheduler.finished(2) == [Start(3, (5,))]


def test_interactive_jobs_have_slots_of_their_own():
    scheduler = Scheduler(slots=1, interactive_slots=1)
    scheduler.submit(1, [1, 2, 3], interactive=False)
    assert scheduler.submit(2, [9], interactive=True) == [Start(2, (9,))]


def test_interactive_jobs_leave_a_waiting_scan_one_slot():
    scheduler = Scheduler(slots=2, interactive_slots=1)
    assert len(scheduler.submit(1, [1, 2, 3, 4], interactive=True)) == 3
    assert scheduler.submit(2, [7, 8], interactive=False) == []
    assert scheduler.finished(1) == [Start(2, (7,))]
    assert scheduler.finished(1) == [Start(1, (4,))]
    assert scheduler.submit(3, [5, 6], interactive=True) == []
    assert scheduler.finished(2) == [Start(2, (8,))]
    assert scheduler.finished(2) == [Start(3, (5,))]


def test_removed_jobs_do_not_start():
    scheduler = Scheduler(1, 0)
    scheduler.submit(1, [1, 2, 3], interactive=False)
    scheduler.remove(1)
    assert scheduler.finished(1) == []
    assert scheduler.queued == scheduler.running == 0


def test_everything_runs_once_and_never_too_much_at_once():
    rng = random.Random(4)
    scheduler, waiting, ran, wanted = Scheduler(3, 2), [], [], []
    for job in range(40):
        chunks = rng.sample(range(20), rng.randint(1, 8))
        waiting += scheduler.submit(job, chunks, rng.random() < 0.3, rng.choice("abc"))
        scheduler.widen(job, rng.randint(1, 3))
        if rng.random() < 0.2:
            scheduler.pace(rng.randint(0, job), rng.choice((0.001, 0.03, 0.5)))
        wanted += [(job, chunk) for chunk in chunks]
        assert scheduler.running <= 5
        while waiting and rng.random() < 0.6:
            done = waiting.pop(rng.randrange(len(waiting)))
            ran += [(done.job, chunk) for chunk in done.chunks]
            waiting += scheduler.finished(done.job)
    while waiting:
        done = waiting.pop()
        ran += [(done.job, chunk) for chunk in done.chunks]
        waiting += scheduler.finished(done.job)
    assert sorted(ran) == sorted(wanted)
    assert scheduler.queued == scheduler.running == 0


def test_a_wide_job_takes_several_chunks_in_order():
    scheduler = Scheduler(slots=1, interactive_slots=1)
    assert scheduler.submit(1, [4, 2, 9, 7], interactive=False) == [Start(1, (2,))]
    scheduler.widen(1, 2)
    assert scheduler.submit(2, [2, 3, 4], interactive=False) == []
    scheduler.widen(2, 9)
    assert scheduler.finished(1) == [Start(2, (2, 3, 4))]  # others of the chunk first
    assert scheduler.finished(2) == [Start(1, (4, 7))]
    assert scheduler.finished(1) == [Start(1, (9,))]
    assert scheduler.submit(3, [8, 5, 6], interactive=True) == [Start(3, (8,))]
    scheduler.widen(3, 5)
    assert scheduler.finished(3) == [Start(3, (5, 6))]
    assert (scheduler.queued, scheduler.running) == (0, 2)


def test_users_share_the_slots_of_scans():
    """One user's many jobs leave the other half of what is begun."""
    scheduler = Scheduler(slots=2, interactive_slots=0)
    running = [one for job in range(50) for one in scheduler.submit(job, range(10), False, "greedy")]
    assert scheduler.submit(99, range(10), False, "modest") == []
    begun = []
    while 99 in {*scheduler._mine, *(one.job for one in running)}:
        begun.append(running.pop(0))
        running += scheduler.finished(begun[-1].job)
    assert len(begun) <= 2 * 10 + 2
    assert scheduler.waiting(interactive=False) == (500 - len(begun) - len(running) + 10, 1)


def test_users_share_the_slots_of_interactive_jobs():
    scheduler = Scheduler(slots=1, interactive_slots=1)
    scheduler.submit(1, [1, 2, 3, 4], True, "a")
    scheduler.submit(2, [1, 2, 3, 4], True, "a")
    scheduler.submit(3, [7, 8], True, "b")
    assert scheduler.finished(1) == [Start(3, (7,))]
    assert scheduler.finished(1) == [Start(1, (3,))]
    assert scheduler.finished(3) == [Start(3, (8,))]
    assert scheduler.waiting(interactive=True) == (5, 1)


def test_another_users_scan_joins_where_the_scans_are():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    scheduler.submit(1, range(10), False, "a")
    for _ in range(4):
        scheduler.finished(1)
    scheduler.submit(2, range(10), False, "b")
    assert scheduler.finished(1) == [Start(2, (4,))]
    assert scheduler.finished(2) == [Start(1, (5,))]
    assert scheduler.finished(1) == [Start(2, (5,))]


def test_slow_scans_hold_up_no_others_of_their_user():
    scheduler = Scheduler(slots=2, interactive_slots=0)
    assert scheduler.submit(1, range(8), False, "a") == [Start(1, (0,)), Start(1, (1,))]
    scheduler.pace(1, 0.2)
    assert scheduler.submit(2, range(8), False, "a") == []
    assert scheduler.finished(1) == [Start(2, (1,))]  # it joins where the scans are
    assert [scheduler.finished(2)[0].job for _ in range(7)] == [2] * 7  # the slow one has the other slot
    assert scheduler.finished(2) == [Start(1, (2,))]
    assert (scheduler.running, scheduler.queued) == (2, 5)
    assert scheduler.remove(1) == [3, 4, 5, 6, 7]
    assert scheduler.finished(1) == scheduler.finished(1) == []
    for job in (1, 2):
        scheduler.forget(job)
    assert (scheduler.running, scheduler._paces, scheduler._active) == (0, {}, {})
    assert scheduler.scan_lane.turns == Turns(_count=scheduler.scan_lane.turns._count)


def test_a_scan_that_computes_little_does_not_keep_the_pace_of_one_that_computes_much():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    scheduler.submit(1, range(50), False, "a")
    scheduler.pace(1, 0.05)
    scheduler.submit(2, range(50), False, "a")
    begun = [scheduler.finished(1)[0]]
    scheduler.pace(2, 0.002)
    scheduler.widen(2, 10)
    while 2 in scheduler._mine:
        begun += scheduler.finished(begun[-1].job)
    assert [one.job for one in begun].count(1) <= 6  # they take turns, and the quick one's are ten chunks


def test_a_scan_may_become_quick_again_but_does_not_go_to_and_fro():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    scheduler.submit(1, range(50), False, "a")
    paces = []
    for seconds in (0.005, 0.012, 0.009, 0.006, 0.004, 0.2, 0.09, 0.04, 0.004):
        scheduler.pace(1, seconds)
        paces.append(scheduler._pace.get(1, 0))
    assert paces == [0, 1, 1, 1, 0, 2, 2, 1, 0]
    assert scheduler.queued == 49


def test_paces_of_one_user_take_turns():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    scheduler.submit(1, range(10), False, "a")
    scheduler.pace(1, 0.3)
    scheduler.submit(2, range(10), False, "a")
    turns = [scheduler.finished(1)[0].job]
    while len(turns) < 10:
        turns.append(scheduler.finished(turns[-1])[0].job)
    assert sorted(turns) == [1] * 5 + [2] * 5


def test_slots_are_shared_by_time_not_by_number():
    """A scan of ten milliseconds a batch has as much time as one of a second a chunk, of its user or another's."""
    for user in ("a", "b"):
        scheduler = Scheduler(slots=1, interactive_slots=0)
        scheduler.submit(1, range(50), False, "a")
        scheduler.pace(1, 1.0)
        scheduler.submit(2, range(300), False, user)
        running, seconds = 1, {1: 0.0, 2: 0.0}
        while 2 in scheduler._mine:
            took = 1.0 if running == 1 else 0.01
            seconds[running] += took
            running = scheduler.finished(running, took)[0].job
        assert abs(seconds[1] - seconds[2]) <= 1.02, user


def test_who_comes_late_is_served_like_the_others_from_then_on():
    turns = Turns()
    for _ in range(5):
        turns.give("old")
        turns.take("old", 1.0, True)
    order = []
    for _ in range(6):
        order.append(turns.next(("old", "new")))
        turns.give(order[-1])
        turns.take(order[-1], 1.0, True)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["new", "old"]


def test_who_left_while_others_had_the_slots_has_no_claim_later():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    running = scheduler.submit(1, range(5), False, "a")
    scheduler.submit(2, range(9000), False, "b")
    scheduler.finished(1, 1.0)
    scheduler.remove(1)  # while b has the slot
    scheduler.forget(1)
    for _ in range(3600):
        running = scheduler.finished(2, 1.0)
    assert running[0].job == 2
    assert "a" not in scheduler.scan_lane.turns._served
    assert "a" not in scheduler._paces
    scheduler.submit(3, range(9000), False, "a")
    turns = []
    for _ in range(100):
        turns.append(running[0].job)
        running = scheduler.finished(running[0].job, 1.0)
    assert 49 <= turns.count(3) <= 51


def test_a_pace_that_left_has_no_claim_later():
    scheduler = Scheduler(slots=1, interactive_slots=0)
    scheduler.submit(1, range(5), False, "a")
    scheduler.pace(1, 0.5)
    running = scheduler.submit(2, range(9000), False, "a") or scheduler.finished(1, 1.0)
    scheduler.remove(1)
    for _ in range(1000):
        running = scheduler.finished(running[0].job, 1.0)
    scheduler.forget(1)
    scheduler.submit(3, range(9000), False, "a")
    scheduler.pace(3, 0.5)
    turns = []
    for _ in range(100):
        turns.append(running[0].job)
        running = scheduler.finished(running[0].job, 1.0)
    assert 45 <= turns.count(3) <= 55
