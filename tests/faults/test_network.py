"""Connections between any two parts are cut, held and slowed while queries run; `make chaos N= SEED=` does more."""

from tests.faults.network import play, report


async def test_a_bad_network(field, tmp_path):
    tally = await play(field, tmp_path, 8, seed=3, longest_s=1.0)
    print(report(tally))
    assert (tally.wrong, tally.failed) == ([], [])
    assert tally.right > 10
