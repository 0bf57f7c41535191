"""One user's long statement: answered or refused in a clear way, while others' look-ups go on."""

import asyncio
import time

import pytest

from backend.connection import RawConnection
from shard.errors import ServerError


def texts(number):
    listed = ", ".join(f"'n{n}'" for n in range(number))
    return f"SELECT COUNT(*) FROM lab.Star WHERE name IN ({listed}, 'a b')"


def keys(number):
    return f"SELECT COUNT(*) FROM hip.Object WHERE objectId IN ({', '.join(map(str, range(1, number + 1)))})"


def terms(number):
    return f"SELECT COUNT(*) FROM hip.Object WHERE {' OR '.join(f'objectId = {n}' for n in range(1, number + 1))}"


async def beside(address, statement):
    """Return a statement's outcome, its seconds, and the longest seconds of a look-up beside it."""
    ours, others = await RawConnection.open(address, "hip"), await RawConnection.open(address, "hip")
    longest = 0.0
    try:
        await others.fetch("SELECT objectId FROM Object WHERE objectId = 5")
        started = time.monotonic()
        work = asyncio.create_task(ours.fetch(statement))
        while not work.done():
            before = time.monotonic()
            await others.fetch("SELECT objectId FROM Object WHERE objectId = 5")
            longest = max(longest, time.monotonic() - before)
        outcome = work.exception() or work.result()
        return outcome, time.monotonic() - started, longest
    finally:
        await ours.close()
        await others.close()


@pytest.mark.parametrize(
    ("make", "number"), [(texts, 10_000), (keys, 100_000), (terms, 3_000)], ids=["texts", "keys", "terms"]
)
async def test_a_long_statement_stalls_nobody(proxy, plain, make, number):
    address = proxy().address
    for _ in range(3):  # the machine itself may stall
        outcome, seconds, longest = await beside(address, make(number))
        if longest < max(0.5, 0.6 * seconds):
            break
    other = await RawConnection.open(plain.address)
    assert outcome == await other.fetch(make(number))
    await other.close()
    assert longest < max(0.5, 0.6 * seconds), f"a look-up took {longest:.2f} s of {seconds:.2f} s"


async def test_a_list_of_a_million_is_refused(proxy):
    address = proxy().address
    for _ in range(3):
        outcome, seconds, longest = await beside(address, keys(1_000_000))
        if longest < max(0.5, 0.6 * seconds):
            break
    assert isinstance(outcome, ServerError)
    assert outcome.errno == 1235
    assert "a table of your own" in outcome.message
    assert longest < max(0.5, 0.6 * seconds), f"a look-up took {longest:.2f} s of {seconds:.2f} s"
