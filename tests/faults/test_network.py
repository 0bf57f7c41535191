"""Connections between any two parts are cut, held and slowed while queries run; `make chaos N= SEED=` does more."""

import asyncio
import time

import pytest

from backend.connection import ConnectionLost
from shard.errors import ServerError
from tests.faults.field import QUICKLY, ask
from tests.faults.network import play, report
from tests.faults.relay import FREE, Way, wired
from tests.support.agents import until


async def test_a_bad_network(field, tmp_path):
    tally = await play(field, tmp_path, 8, seed=3, longest_s=1.0)
    print(report(tally))
    assert (tally.wrong, tally.failed) == ([], [])
    assert tally.right > 10


async def test_nobody_waits_for_ever_for_a_silent_home_server(field, tmp_path):
    async with wired(field, tmp_path, home_silence_s=3.0) as wires, field.client(wires.port) as client:
        wanted = await ask(client, QUICKLY)
        wires.paths["home"].set(Way(open=False))
        began = time.monotonic()
        async with asyncio.timeout(20):
            with pytest.raises((ServerError, ConnectionLost)) as caught:
                await ask(client, QUICKLY)
            assert getattr(caught.value, "errno", 1429) == 1429
            assert time.monotonic() - began < 10
            with pytest.raises((ServerError, ConnectionLost), match="home server cannot be reached"):
                async with field.client(wires.port):
                    raise AssertionError("it was let in")
        wires.paths["home"].set(FREE)

        async def answers():
            try:
                async with field.client(wires.port) as again:
                    return await ask(again, QUICKLY) == wanted
            except (ServerError, ConnectionLost):
                return False

        await until(answers, 10, pause=0.1)
