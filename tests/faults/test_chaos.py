"""A few random faults; `make chaos N= SEED=` does many."""

from tests.faults.chaos import Chaos, nothing_left, report


async def test_some_random_faults(field):
    tally = await Chaos(field, 7).run(3, pace_s=0.5)
    await nothing_left(field)
    print(report(tally))
    assert (tally.wrong, tally.failed) == ([], [])
    assert len(tally.quiet) + len(tally.troubled) > 10
