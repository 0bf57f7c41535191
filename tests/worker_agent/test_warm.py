"""Connections that keep their settings between jobs, and the short way of small jobs."""

import asyncio

import msgspec
import pytest

from shard.wire import frames
from shard.wire import rows as packets
from tests.support.agents import LocalAgent, collect, job, until_running
from worker_agent import quick, warm

SLEEP = "SELECT SLEEP(300) /* nap # */"


async def one(agent, sql, **more):
    answer = await agent.ask(job(sql, [1], **more))
    assert isinstance(answer.end, frames.JobEnd), answer.end
    return answer.all_rows[0]


async def test_a_connection_is_lent_again_with_its_settings(chunks):
    east, west = {"time_zone": "'+07:00'"}, {"time_zone": "'-03:00'"}
    async with LocalAgent(chunks) as agent:
        first = await one(agent, "SELECT CONNECTION_ID(), FROM_UNIXTIME(0)", settings=east)
        other = await one(agent, "SELECT CONNECTION_ID(), FROM_UNIXTIME(0)", settings=west)
        again = await one(agent, "SELECT CONNECTION_ID(), FROM_UNIXTIME(0)", settings=east)
        assert (first[1], other[1]) == (b"1970-01-01 07:00:00", b"1969-12-31 21:00:00")
        assert first[0] != other[0]
        assert again == first
        elsewhere = await one(agent, "SELECT CONNECTION_ID(), DATABASE()", settings=east, database="")
        assert elsewhere[0] not in (first[0], other[0])


async def test_the_clock_is_every_jobs_own(chunks):
    async with LocalAgent(chunks) as agent:
        for clock in ("1000000001.5", "1000000002.5"):
            (seen,) = await one(agent, "SELECT UNIX_TIMESTAMP(NOW(6))", settings={"timestamp": clock})
            assert float(seen) == float(clock)
        assert float((await one(agent, "SELECT UNIX_TIMESTAMP()", settings={}))[0]) > 1_600_000_000


async def test_variables_do_not_outlive_their_job(chunks):
    async with LocalAgent(chunks) as agent:
        assert await one(agent, "SELECT @kept := 5") == [b"5"]
        assert await one(agent, "SELECT @kept") == [None]


async def test_idle_connections_with_settings_are_bounded(chunks):
    async with LocalAgent(chunks) as agent:
        for number in range(2 * warm.MOST_WARM):
            await one(
                agent,
                "SELECT 1",
                settings={
                    "div_precision_increment": str(number % 30),
                    "group_concat_max_len": str(1000 + number),
                },
            )
        pool = agent.agent._floor.warm
        assert len(pool._idle) == warm.MOST_WARM
        assert sum(map(len, pool._by_key.values())) == warm.MOST_WARM


async def test_a_closed_connection_is_not_lent_again(chunks):
    async with LocalAgent(chunks) as agent:
        (before,) = await one(agent, "SELECT CONNECTION_ID()")
        (connection,) = agent.agent._floor.warm._idle
        async with agent.agent.pool.lease() as other:
            await other.run(f"KILL {int(before)}")
        while not connection.closed:
            await asyncio.sleep(0)
        assert (await one(agent, "SELECT CONNECTION_ID()"))[0] != before


async def test_a_long_answer_of_one_chunk_comes_whole(chunks):
    text = f"SELECT REPEAT('x', {quick.QUICK_BYTES // 50}), a FROM t_#"
    async with LocalAgent(chunks) as agent:
        answer = await agent.ask(job(text, [2]))
        assert [int(row[1]) for row in answer.all_rows] == list(range(201, 301))
        assert answer.chunks == [2]
        assert (agent.agent.scheduler.running, agent.agent.scheduler.queued) == (0, 0)


async def test_a_small_job_waits_for_a_slot_and_can_be_cancelled(chunks):
    async with LocalAgent(chunks, slots=1, interactive_slots=0) as agent:
        first, second = await agent.link(), await agent.link()
        await first.send(job(SLEEP, [1]))
        await until_running(chunks, "nap", 1)
        await second.send(job("SELECT a FROM t_#", [3]))
        while agent.agent.scheduler.queued != 1:
            await asyncio.sleep(0)
        await first.send(frames.Cancel())
        assert (await collect(first)).end.errno == 1317
        assert len((await collect(second)).all_rows) == 100
        await until_running(chunks, "nap", 0)


@pytest.mark.parametrize(
    ("text", "wanted", "rows"),
    [
        ("SELECT a, ? FROM t_# ORDER BY a LIMIT 2", (3, 8), 2),
        ("SELECT a, ? FROM t_# ORDER BY a LIMIT 2", (8, 3), 2),  # integers of another width are rewritten
        ("SELECT a, ? FROM t_# WHERE a < 0", (), 0),
        ("SELECT CAST('x' AS INT), ? FROM t_# LIMIT 1", (), 1),
        (f"SELECT ?, REPEAT('x', {quick.QUICK_BYTES // 50}) FROM t_#", (), 100),
        ("SELECT POW(?, 1000) FROM t_#", (), 1690),
        ("SELECT nothing, ? FROM t_#", (), 1054),
    ],
)
async def test_prepared_jobs_have_one_answer_with_a_task_and_without(chunks, text, wanted, rows):
    five = (frames.Parameter(8, False, (5).to_bytes(8, "little")),)
    asked = job(text, [2], binary=True, parameters=five, wanted=wanted)
    asked = msgspec.structs.replace(asked, main=msgspec.structs.replace(asked.main, parameters=(0,)))
    seen = []
    async with LocalAgent(chunks) as agent:
        for _ in range(3):  # the first has no warm connection
            answer = await agent.ask(asked, raw=True)
            block = bytearray(b"".join(answer.all_rows))
            packets.renumber(block, 0)
            told = answer.end.errno if isinstance(answer.end, frames.Failed) else packets.count(block)
            seen.append((told, block, answer.columns, answer.warnings))
            await one(agent, "SELECT 1")
        assert (agent.agent.scheduler.running, agent.agent.scheduler.queued) == (0, 0)
        prepared = await one(agent, "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")
    assert seen[0][0] == rows
    assert seen[1:] == seen[:1] * 2
    assert prepared[1] == b"0"
