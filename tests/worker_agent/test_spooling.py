"""Readers that are slow, rows that are long, servers that go away: what the agent does with its spools."""

import asyncio
import time

import pytest

from backend.agent_link import AgentPool
from backend.connection import RowBlock
from shard.catalog.model import Worker
from shard.wire import frames, rows
from tests.support.agents import LocalAgent, collect, greet, job, running, serving, until, until_running
from tests.support.servers import PlainMariaDB
from worker_agent.spool import Spool, SpoolFull, SpoolSpace

MEGABYTE = "SELECT REPEAT('#', 1000000) FROM mysql.seq_1_to_10"
HEAVY = "SELECT SUM(x.seq ^ y.seq) FROM mysql.seq_1_to_10000000 x, mysql.seq_1_to_10000000 y /* gone # */"


def blocks(number):
    return [RowBlock(bytes([n]) * (n + 1), n, more=n % 3 == 0) for n in range(number)]


async def test_a_spool_gives_back_what_it_got_in_order(tmp_path):
    space = SpoolSpace(memory_limit=100, disk_limit=10_000, directory=str(tmp_path))
    told = []
    spool = Spool(space, lambda: told.append(1))
    given, got = blocks(60), []
    for number, block in enumerate(given):
        await spool.put(block)
        if number % 4 == 0:
            got.append(await spool.get())
    assert space.memory <= 100
    assert space.disk > 0
    spool.end(warnings=3)
    assert len(told) == 61
    while not spool.empty:
        got.append(await spool.get())
    assert got == given
    assert (spool.rows, spool.size) == (sum(b.rows for b in given), sum(len(b.data) for b in given))
    assert (space.memory, space.disk) == (0, 0)
    await spool.put(given[-1])
    spool.close()
    assert (space.memory, space.disk) == (0, 0)
    space.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_full_spool_says_what_is_full(tmp_path):
    space = SpoolSpace(memory_limit=0, disk_limit=10, directory=str(tmp_path))
    spool = Spool(space, lambda: None)
    await spool.put(RowBlock(b"x" * 10, 1))
    with pytest.raises(SpoolFull, match="spool_disk_bytes"):
        await spool.put(RowBlock(b"x", 1))
    spool.close()
    gone = SpoolSpace(memory_limit=0, disk_limit=10, directory=str(tmp_path / "none"))
    with pytest.raises(SpoolFull, match="cannot be written"):
        await Spool(gone, lambda: None).put(RowBlock(b"x", 1))
    space.close()
    gone.close()


async def test_spools_of_one_agent_share_the_thread_and_keep_their_own_order(tmp_path):
    space = SpoolSpace(memory_limit=50, disk_limit=1 << 20, directory=str(tmp_path))

    async def carry(number):
        changed = asyncio.Event()
        spool = Spool(space, changed.set)
        given, got = blocks(60 + number), []

        async def write():
            for block in given:
                await spool.put(block)
            spool.end(0)

        async def read():
            while not (spool.ended and spool.empty):
                while spool.empty and not spool.ended:
                    changed.clear()
                    await changed.wait()
                if not spool.empty:
                    got.append(await spool.get())

        await asyncio.gather(write(), read())
        spool.close()
        return got == given

    assert all(await asyncio.gather(*(carry(number) for number in range(8))))
    assert (space.memory, space.disk) == (0, 0)
    space.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_spool_that_is_closed_while_it_is_written_gives_everything_back(tmp_path):
    space = SpoolSpace(memory_limit=0, disk_limit=1 << 30, directory=str(tmp_path))
    spool = Spool(space, lambda: None)
    task = asyncio.ensure_future(spool.put(RowBlock(b"x" * (64 << 20), 1)))
    await asyncio.wait({task}, timeout=0)
    task.cancel()
    await asyncio.wait({task})
    spool.close()
    space.close()
    assert (space.memory, space.disk) == (0, 0)
    assert list(tmp_path.iterdir()) == []


async def test_a_reader_that_waits_holds_no_statement(chunks, tmp_path):
    settings = {"spool_memory_bytes": 5 << 20, "spool_dir": str(tmp_path)}
    async with LocalAgent(chunks, slots=2, interactive_slots=0, **settings) as agent:
        link = await agent.link()
        await link.send(job(MEGABYTE, [1, 2, 3, 4]))

        async def all_spooled():
            return agent.space.disk >= 15_000_000 and not await running(chunks, "REPEAT")

        await until(all_spooled)
        assert agent.space.memory <= 5 << 20
        answer = await collect(link, raw=True)
        assert sorted(answer.chunks) == [1, 2, 3, 4]
        seen = [[row[0] for row in rows.split(b"".join(pieces))] for pieces in answer.rows.values()]
        wanted = [[str(chunk).encode() * 1_000_000] * 10 for chunk in (1, 2, 3, 4)]
        assert sorted(seen) == wanted
        assert (agent.space.memory, agent.space.disk) == (0, 0)


async def test_a_job_nobody_reads_begins_no_further_chunk(chunks):
    """Its rows stay bounded by the chunks that run, others pass it, and it goes on when it is read."""
    async with LocalAgent(chunks, slots=1, interactive_slots=0, spool_job_bytes=5_000_000) as agent:
        link = await agent.link()
        await link.send(job(MEGABYTE, list(range(1, 9)), interactive=False))

        async def paused():
            return agent.space.memory >= 5_000_000 and not await running(chunks, "REPEAT")

        await until(paused)
        assert len((await agent.ask(job("SELECT a FROM t_#", [5], interactive=False))).all_rows) == 100
        assert agent.space.memory <= 21_000_000
        answer = await collect(link, raw=True)
        assert sorted(answer.chunks) == list(range(1, 9))
        assert agent.space.memory == 0


async def test_a_full_disk_is_an_error_that_names_the_setting(chunks):
    settings = {"spool_memory_bytes": 0, "spool_disk_bytes": 2_000_000}
    async with LocalAgent(chunks, slots=1, **settings) as agent:
        link = await agent.link()
        await link.send(job(MEGABYTE, [1, 2]))
        failed = (await collect(link)).end
        assert (failed.errno, failed.sqlstate) == (1104, "42000")
        assert "spool_disk_bytes" in failed.message
        assert (agent.space.memory, agent.space.disk) == (0, 0)
        assert len((await agent.ask(job("SELECT a FROM t_#", [1]))).all_rows) == 100


@pytest.mark.parametrize("memory", [0, 1 << 30])
async def test_rows_longer_than_a_frame(chunks, memory):
    """70 MB and 20 MB rows between short ones pass exact, the pieces of each together."""
    sql = "SELECT a, REPEAT(CHAR(64 + a), CASE a WHEN 101 THEN 70000000 WHEN 103 THEN 20000000 ELSE 3 END) "
    async with LocalAgent(chunks, slots=2, spool_memory_bytes=memory) as agent:
        answer = await agent.ask(job(sql + "FROM t_# WHERE a <= 104", [1, 0]), raw=True)
        assert answer.end == frames.JobEnd()
        assert sorted(answer.chunks) == [0, 1]
        found = [row for pieces in answer.rows.values() for row in rows.split(b"".join(pieces))]
        assert len(found) == 104
        for a, text in found:
            length = {101: 70_000_000, 103: 20_000_000}.get(int(a), 3)
            assert text == bytes([64 + int(a)]) * length


async def test_an_agent_that_works_says_that_it_is_there(chunks, monkeypatch):
    monkeypatch.setattr("worker_agent.peer.ALIVE_S", 0.05)
    async with LocalAgent(chunks) as agent:
        link = await agent.link()
        await link.send(job("SELECT a, SLEEP(0.03) FROM t_#", [1]))
        async with asyncio.timeout(10):
            while True:
                header, _ = await link.receive(silence_s=2)  # the whole takes longer
                if isinstance(header, (frames.Whole, frames.JobEnd, frames.Failed)):
                    break
        assert isinstance(header, frames.Whole)
        assert header.rows == 100


async def test_cancelled_statements_end_within_a_second(chunks):
    async with LocalAgent(chunks, slots=2, interactive_slots=0) as agent:
        for how in ("cancel", "lost"):
            link = await agent.link()
            await link.send(job(HEAVY, [1, 2, 3]))
            await until_running(chunks, "gone", 2)
            began = time.monotonic()
            if how == "cancel":
                await link.send(frames.Cancel())
            else:
                link.abort()
            await until_running(chunks, "gone", 0)
            assert time.monotonic() - began < 1


async def test_mariadb_goes_and_comes_back(tmp_path):
    """What runs then fails and says that another replica may succeed; what comes later finds the new server."""
    server = PlainMariaDB(tmp_path / "server")
    try:
        async with LocalAgent(server, slots=2) as agent:
            assert (await agent.ask(job("SELECT #", [3], database=""))).all_rows == [[b"3"]]
            link = await agent.link()
            await link.send(job(HEAVY, [1, 2], database=""))
            await until_running(server, "gone", 2)
            server.process.kill()
            server.process.wait()
            failed = (await collect(link)).end
            assert (failed.errno, failed.retry) == (2013, True)
            assert await agent.pool.ping(7) == frames.Pong(False, 0, 0)
            down = (await agent.ask(job("SELECT #", [3], database=""))).end
            assert (down.errno, down.retry) == (2013, True)
            server.start()
            assert await agent.pool.ping(7) == frames.Pong(True, 0, 0)
            assert (await agent.ask(job("SELECT #", [4, 5], database=""))).end == frames.JobEnd()
    finally:
        server.stop()


async def test_an_agent_that_hangs_is_given_up():
    async def greet_and_hang(reader, writer):
        await greet(reader, writer, b"s")
        await reader.read()

    async with serving(greet_and_hang) as port:
        pool = AgentPool({7: Worker(worker_id=7, name="w", host="127.0.0.1", port=port)}, b"s", timeout_s=0.2)
        assert await pool.ping(7) is None
        await pool.close()
