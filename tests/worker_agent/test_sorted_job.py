"""Jobs whose rows are wanted in their order: chunks are sorted, held and merged, within the agent's bounds."""

import asyncio

import pytest

from backend.connection import RawConnection
from shard.wire import frames, rows
from tests.support.agents import LocalAgent, job, running, until
from worker_agent.runs import Runs
from worker_agent.spool import SpoolFull, SpoolSpace

UP = (frames.SortKey(0, "integer", False),)


async def merged(link):
    """Return (columns frame, rows without their keys, batch end, last frame) of a job."""
    head = end = None
    out, within = bytearray(), False
    while True:
        header, body = await link.receive()
        if isinstance(header, frames.Columns):
            head = header
        elif isinstance(header, frames.Rows):
            data = bytes(body)
            at = 0
            while at < len(data):
                at += 0 if within else head.key
                size = int.from_bytes(data[at : at + 3], "little")
                out += data[at : at + 4 + size]
                at += 4 + size
                within = size == 0xFFFFFF
            assert within == header.more
        elif isinstance(header, frames.BatchEnd):
            end = header
        elif not isinstance(header, frames.Alive):
            return head, bytes(out), end, header


async def ask(agent, asked):
    link = await agent.link()
    await link.send(asked)
    head, data, end, last = await merged(link)
    return head, rows.split(data) if not asked.binary else data, end, last


def nothing_left(agent):
    return (agent.space.memory, agent.space.disk) == (0, 0)


@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("memory", [64 << 20, 3000, 0])
async def test_rows_of_all_chunks_come_in_order(chunks, tmp_path, memory, interactive):
    settings = {"spool_memory_bytes": memory, "spool_dir": str(tmp_path)}
    async with LocalAgent(chunks, slots=2, **settings) as agent:
        asked = job(
            "SELECT a % 7, a, b FROM t_# ORDER BY 1 DESC, 2", list(range(10)), interactive=interactive,
            order=(frames.SortKey(0, "integer", True), frames.SortKey(1, "integer", False)), hidden=1,
        )  # fmt: skip
        head, found, end, last = await ask(agent, asked)
        numbers = [c * 100 + n for c in range(10) for n in range(1, 101)]
        wanted = sorted(numbers, key=lambda n: (-(n % 7), n))
        assert found == [[b"%d" % n, b"x"] for n in wanted]
        assert (head.key, len(head.columns)) == (18, 2)
        assert (sorted(end.chunks), end.rows) == (list(range(10)), 1000)
        assert last == frames.JobEnd()
        assert nothing_left(agent)
        one = await ask(agent, job("SELECT a FROM t_# ORDER BY 1", [4], order=UP, interactive=interactive))
        assert [int(row[0]) for row in one[1]] == list(range(401, 501))
        none = await ask(agent, job("SELECT a FROM t_# WHERE a < 0 ORDER BY 1", [4, 5], order=UP))
        assert (none[1], none[2].rows, len(none[0].columns)) == ([], 0, 1)
    assert list(tmp_path.iterdir()) == []


async def test_the_first_rows_of_all(chunks):
    async with LocalAgent(chunks, slots=2) as agent:
        asked = job("SELECT a FROM t_# ORDER BY 1 LIMIT 130", [3, 1, 2], order=UP, row_limit=130)
        _, found, end, last = await ask(agent, asked)
        assert [int(row[0]) for row in found] == list(range(101, 231))
        assert (sorted(end.chunks), end.rows, last) == ([1, 2, 3], 130, frames.JobEnd())
        assert nothing_left(agent)


async def test_warnings_are_told_before_the_rows(chunks):
    async with LocalAgent(chunks, slots=1) as agent:
        asked = job(
            "SELECT a, CAST('x' AS SIGNED) FROM t_# WHERE a % 100 = 1 ORDER BY 1", [1, 2, 3], order=UP
        )
        head, found, end, _ = await ask(agent, asked)
        assert len(found) == head.warnings == len(head.notes) == 3
        assert (head.notes[0].code, end.warnings) == (1292, 0)


async def test_binary_rows_lose_what_is_hidden(chunks):
    async with LocalAgent(chunks, slots=2) as agent:
        asked = job(
            "SELECT a + 0e0, NULLIF(a % 3, 0), b FROM t_# WHERE a % 50 = 0 ORDER BY 1 DESC", [1, 2], binary=True,
            order=(frames.SortKey(0, "number", True),), hidden=1, wanted=(8, 253),
        )  # fmt: skip
        _, data, _, _ = await ask(agent, asked)
        packets = [
            b"\0" + (b"\0" + (n % 3).to_bytes(8, "little") if n % 3 else b"\4") + b"\1x"
            for n in (300, 250, 200, 150)
        ]
        assert data == b"".join(
            len(p).to_bytes(3, "little") + data[i : i + 1] + p
            for p, i in zip(packets, _seqs(data), strict=True)
        )


def _seqs(data):
    """Return where the packets' numbers stand, which mean nothing."""
    at = 0
    while at < len(data):
        yield at + 3
        at += 4 + int.from_bytes(data[at : at + 3], "little")


@pytest.mark.parametrize("memory", [512 << 20, 0])
async def test_rows_longer_than_blocks_and_packets(chunks, tmp_path, memory):
    settings = {"spool_memory_bytes": memory, "spool_dir": str(tmp_path)}
    async with LocalAgent(chunks, slots=1, **settings) as agent:
        text = "SELECT a, REPEAT('x', IF(a % 100 = 7, 17000000, 400000)) FROM t_# WHERE a % 100 IN (5, 7, 9) ORDER BY 1 DESC"
        asked = job(text, [1, 2], order=(frames.SortKey(0, "integer", True),))
        async with Lasting(chunks, "max_allowed_packet", 1 << 26):
            _, found, end, last = await ask(agent, asked)
        assert last == frames.JobEnd()
        assert [(int(a), len(b)) for a, b in found] == [
            (209, 400000), (207, 17000000), (205, 400000), (109, 400000), (107, 17000000), (105, 400000),
        ]  # fmt: skip
        assert end.rows == 6
        assert nothing_left(agent)


class Lasting:
    """Give a server's variable another value for new sessions."""

    def __init__(self, server, name, value):
        self._server, self._name, self._value = server, name, value

    async def __aenter__(self):
        self._before = await self._set(self._value)

    async def __aexit__(self, *_):
        await self._set(self._before)

    async def _set(self, value):
        connection = await RawConnection.open(self._server.address)
        ((before,),) = await connection.fetch(f"SELECT @@GLOBAL.{self._name}")
        await connection.run(f"SET GLOBAL {self._name} = {int(value)}")
        await connection.close()
        return before


async def test_a_spool_that_is_full_is_said(chunks, tmp_path):
    settings = {"spool_memory_bytes": 0, "spool_disk_bytes": 2000, "spool_dir": str(tmp_path)}
    async with LocalAgent(chunks, slots=2, **settings) as agent:
        *_, last = await ask(agent, job("SELECT a, b FROM t_# ORDER BY 1", list(range(10)), order=UP))
        assert (last.errno, last.retry) == (frames.SPOOL_FULL, True)
        assert "spool_disk_bytes" in last.message
        assert nothing_left(agent)


@pytest.mark.parametrize(
    "order",
    [
        (frames.SortKey(1, "integer", False),),
        (frames.SortKey(0, "number", False),),
        (frames.SortKey(2, "integer", False),),
    ],
)
async def test_a_column_of_another_type_is_no_key(chunks, order):
    async with LocalAgent(chunks) as agent:
        *_, last = await ask(agent, job("SELECT a, b FROM t_# ORDER BY 1", [1, 2], order=order))
        assert (last.errno, last.retry) == (1835, False)
        assert nothing_left(agent)


async def test_a_fragment_that_is_not_sorted_is_an_error_and_no_answer(chunks):
    async with LocalAgent(chunks) as agent:
        *_, last = await ask(agent, job("SELECT a FROM t_# ORDER BY 1 DESC", [1, 2], order=UP))
        assert isinstance(last, frames.Failed)
        assert nothing_left(agent)


@pytest.mark.parametrize("memory", [64 << 20, 0])
async def test_a_reader_that_stops_and_leaves_takes_nothing_with_it(chunks, tmp_path, memory):
    settings = {"spool_memory_bytes": memory, "spool_dir": str(tmp_path)}
    async with LocalAgent(chunks, slots=2, **settings) as agent:
        link = await agent.link()
        await link.send(job("SELECT a, REPEAT('y', 40000) FROM t_# ORDER BY 1", list(range(10)), order=UP))
        header, _ = await link.receive()
        assert isinstance(header, frames.Columns)  # all chunks have been run
        assert agent.space.memory + agent.space.disk > 30_000_000
        link.abort()
        await until(_empty(agent))
    assert list(tmp_path.iterdir()) == []


def _empty(agent):
    async def empty():
        return nothing_left(agent)

    return empty


async def test_a_cancel_in_the_middle_ends_the_statements(chunks, tmp_path):
    heavy = "SELECT a + SLEEP(0.05) FROM t_# ORDER BY 1 /* sorted */"
    async with LocalAgent(chunks, slots=2, spool_dir=str(tmp_path), spool_memory_bytes=0) as agent:
        link = await agent.link()
        await link.send(job(heavy, list(range(10)), order=UP))

        async def two():
            return await running(chunks, "sorted") == 2

        async def none():
            return not await running(chunks, "sorted")

        await until(two)
        await link.send(frames.Cancel())
        *_, last = await merged(link)
        assert last.errno == 1317
        await until(none)
        assert nothing_left(agent)
    assert list(tmp_path.iterdir()) == []


async def test_runs_that_are_closed_while_they_are_written_give_everything_back(tmp_path):
    space = SpoolSpace(memory_limit=0, disk_limit=1 << 30, directory=str(tmp_path))
    runs = Runs(space)
    task = asyncio.ensure_future(runs.put(1, b"x" * (64 << 20)))
    await asyncio.wait({task}, timeout=0)
    task.cancel()
    await asyncio.wait({task})
    runs.close()
    gone = SpoolSpace(memory_limit=0, disk_limit=10, directory=str(tmp_path / "none"))
    with pytest.raises(SpoolFull, match="cannot be written"):
        await Runs(gone).put(1, b"x")
    space.close()
    gone.close()
    assert (space.memory, space.disk) == (0, 0)
    assert list(tmp_path.iterdir()) == []
