"""No asynchronous job is lost when one of two proxies is killed or restarted; `make chaos` does it with 100."""

import signal

import pytest

from tests.faults.jobs import play, report


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_no_job_is_lost(field, tmp_path, how):
    tally = await play(field, tmp_path, 8, seed=2, how=how)
    print(report(tally))
    assert (tally.wrong, tally.lost) == ([], [])
    assert tally.states == {"COMPLETED": 8}
