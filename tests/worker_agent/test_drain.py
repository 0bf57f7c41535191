"""An agent that is to end: what runs comes to its end, what comes goes elsewhere, and proxies know before they ask."""

import asyncio
import time

import pytest

from proxy.execute.health import Health
from shard.errors import SkyError
from shard.wire import frames
from tests.support.agents import LocalAgent, asking, collect, job, until, until_running

HELD = "SELECT a /* held # */ FROM t_# LIMIT 1"


@pytest.mark.parametrize("quick", [False, True])
async def test_what_runs_ends_and_what_comes_goes_elsewhere(chunks, quick):
    async with LocalAgent(chunks, slots=2) as agent:
        await agent.ask(job("SELECT a FROM t_#", [1]))  # a connection is ready: a look-up needs no task
        first, second, third = [await agent.link() for _ in range(3)]
        async with asking(chunks) as locking:
            await locking.run("LOCK TABLES ag.t_3 WRITE, ag.t_4 WRITE")
            await first.send(job(HELD, [3] if quick else [3, 4], interactive=quick))
            await until_running(chunks, "held", 1 if quick else 2)
            ending = asyncio.ensure_future(agent.agent.drain())
            await second.send(job("SELECT a FROM t_#", [1]))
            refused = (await collect(second)).end
            assert (refused.errno, refused.sqlstate, refused.retry) == (1053, "08S01", True)
            assert (await agent.pool.ping(7)).draining
            with pytest.raises(SkyError) as caught:
                await agent.pool.admin(7, ("SELECT 1",))
            assert caught.value.errno == 1429
            assert not ending.done()
        answer = await collect(first)
        assert (answer.end, len(answer.all_rows)) == (frames.JobEnd(), 1 if quick else 2)
        async with asyncio.timeout(2):
            await ending
        await third.send(frames.Ping())
        assert (await third.receive())[0] == frames.Pong(True, 0, 0, True)


async def test_it_does_not_wait_for_ever_and_not_for_nothing(chunks):
    async with LocalAgent(chunks, drain_s=30) as agent:
        began = time.monotonic()
        await agent.agent.drain()
        assert time.monotonic() - began < 5
    async with LocalAgent(chunks, drain_s=0.3) as agent:
        link = await agent.link()
        await link.send(job("SELECT SLEEP(30) /* for long # */ FROM t_# LIMIT 1", [1], interactive=False))
        await until_running(chunks, "for long", 1)
        began = time.monotonic()
        await agent.agent.drain()
        assert 0.3 <= time.monotonic() - began < 5
        link.abort()
        await until_running(chunks, "for long", 0)


async def test_proxies_ask_others_first_and_leave_it_what_it_has(chunks):
    """Nobody is told that it is down: jobs that it runs are not begun anew elsewhere."""
    async with LocalAgent(chunks) as agent:
        told: list[tuple[str, int]] = []
        health = Health(agent.pool, every_s=0.05)
        health.watch(lambda one: told.append(("down", one)), lambda one: told.append(("back", one)))
        health.start()
        try:
            await agent.agent.drain()

            async def suspected():
                return health.suspects() == {7}

            await until(suspected, 5)
            assert health.up(7)
            assert told == []
            agent.agent.draining = False  # its successor answers

            async def trusted():
                return not health.suspects()

            await until(trusted, 5)
            assert told == [("back", 7)]
        finally:
            await health.close()
