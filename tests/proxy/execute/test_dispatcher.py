"""The dispatcher against agents that are not there or misbehave."""

import asyncio
import time

import pytest

from backend.agent_link import AgentPool
from proxy.execute.budget import ByteBudget
from proxy.execute.copies import Copies
from proxy.execute.dispatcher import Dispatcher, RowStream
from proxy.execute.health import Health
from proxy.execute.work import Work
from shard.catalog.model import Worker
from shard.errors import SkyError
from shard.wire import frames
from skyshard.cluster.local import free_port
from tests.support.agents import greet, serving

JOB = frames.Job(query_id=1, database="d", main=frames.Template((b"SELECT 1 FROM `Object_", b"`")), chunks=[])
ROW = b"\x02\x00\x00\x01\x011"


def pool(port, **more):
    worker = Worker(worker_id=7, name="worker7", host="127.0.0.1", port=port)
    return AgentPool({7: worker}, b"secret", timeout_s=2, **more)


async def ask(port, **more):
    agents = pool(port, **more)
    try:
        async with Dispatcher(agents, ByteBudget(1 << 20), Health(agents)).run(
            Work(1, JOB, {3: (7,)})
        ) as stream:
            return [block.rows async for block in stream]
    finally:
        await agents.close()
        await asyncio.sleep(0)  # lets the transports close


async def test_a_worker_that_is_down_is_named_within_seconds():
    started = time.monotonic()
    with pytest.raises(SkyError) as caught:
        await ask(free_port())
    assert time.monotonic() - started < 5
    assert caught.value.errno == 1429
    assert "worker7" in caught.value.message
    assert "127.0.0.1" not in caught.value.message


def misbehaving(answers, hang=False):
    """Start an agent that greets, takes a job and sends `answers`, then closes or says nothing more."""

    async def serve(reader, writer):
        decoder = await greet(reader, writer, b"secret")
        while decoder.next() is None:
            data = await reader.read(1 << 16)
            if not data:
                return
            decoder.feed(data)
        for header, body in answers:
            writer.writelines(frames.encode(header, body))
        await writer.drain()
        if hang:
            await reader.read()

    return serving(serve)


PIECE = b"\xff\xff\xff\x00" + b"\xfa" * 0xFFFFFF


async def test_nothing_comes_between_the_pieces_of_a_row():
    """One worker streams a long row; the other's rows, and what is held, wait until it is whole."""
    agents = AgentPool({}, b"secret")
    work = Work(1, frames.Job(**{**as_dict(JOB), "commit_bytes": 10}), {1: (7,), 2: (8,)})
    stream = RowStream(work, agents, ByteBudget(1 << 30), Health(agents), Copies())
    stream._core.start()
    long, other = 1, 2
    stream._rows(long, frames.Rows(0, 0, more=True), PIECE)
    stream._rows(other, frames.Rows(0, 1), ROW)
    stream._rows(other, frames.Rows(0, 0, more=True), PIECE)
    stream._rows(long, frames.Rows(0, 0, more=True), PIECE)
    stream._rows(long, frames.Rows(0, 1), ROW)
    stream._rows(long, frames.Rows(0, 2), ROW * 2)
    stream._rows(other, frames.Rows(0, 1), ROW * 1)
    taken = [stream._queue.get_nowait() for _ in range(stream._queue.qsize())]
    pieces = [[(len(block.data), block.rows) for block in taken]]
    big, small = len(PIECE), len(ROW)
    assert pieces == [
        [(big, 0), (big, 0), (small, 1), (small, 1), (big, 0), (small, 1), (2 * small, 2)]
    ] or pieces == [[(big, 0), (big, 0), (small, 1), (small, 1), (2 * small, 2), (big, 0), (small, 1)]]
    stream._rows(long, frames.Rows(1, 0, more=True), PIECE)
    with pytest.raises(SkyError):
        stream._rows(long, frames.Rows(2, 1), ROW)


def as_dict(job):
    return {name: getattr(job, name) for name in job.__struct_fields__}


COLUMNS = (frames.Columns((frames.ColumnType(3, False, 0, 63),)), b"")


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        (
            [
                COLUMNS,
                (frames.Rows(0, 1), ROW),
                (frames.BatchEnd(0, (3,), 1, 6), b""),
                (frames.JobEnd(), b""),
            ],
            [1],
        ),
        ([COLUMNS, (frames.Rows(0, 1), ROW)], None),
        ([COLUMNS, (frames.Rows(0, 1), ROW), (frames.JobEnd(), b"")], None),
        ([COLUMNS, (frames.BatchEnd(0, (4,), 0, 0), b""), (frames.JobEnd(), b"")], None),
        ([(frames.JobEnd(), b"")], None),
        (
            [COLUMNS, (frames.Rows(0, 0, more=True), PIECE), (frames.BatchEnd(0, (3,), 0, 0), b"")],
            None,
        ),
        (
            [
                COLUMNS,
                (frames.Rows(0, 0, more=True), PIECE),
                (frames.Alive(), b""),
                (frames.Rows(0, 1), ROW),
                (frames.BatchEnd(0, (3,), 1, 0), b""),
                (frames.JobEnd(), b""),
            ],
            [0, 1],
        ),
        ([(frames.Failed(1054, "42S22", "Unknown column in `Object_330`"), b"")], None),
    ],
)
async def test_only_complete_answers_are_answers(answers, rows):
    async with misbehaving(answers) as port:
        if rows is not None:
            assert await ask(port) == rows
            return
        with pytest.raises(SkyError) as caught:
            await ask(port)
        assert "_330" not in caught.value.message


async def test_a_connection_that_rests_is_read():
    """Its end must be noticed, and a look-up's answer comes without anybody asking for bytes."""
    answers = [
        COLUMNS,
        (frames.Rows(0, 1), ROW),
        (frames.BatchEnd(0, (3,), 1, len(ROW)), b""),
        (frames.JobEnd(), b""),
    ]
    async with misbehaving(answers, hang=True) as port:
        agents = pool(port)
        work = Work(1, JOB, {3: (7,)})
        async with Dispatcher(agents, ByteBudget(1 << 20), Health(agents)).run(work) as stream:
            assert [block.rows async for block in stream] == [1]
        link = agents.idle(7)
        assert link is not None
        assert link.wire.transport.is_reading()
        link.abort()
        await agents.close()
        await asyncio.sleep(0)


async def test_an_agent_that_says_nothing_more_is_given_up():
    async with misbehaving([COLUMNS], hang=True) as port:
        started = time.monotonic()
        with pytest.raises(SkyError) as caught:
            await ask(port, silence_s=0.3)
        assert time.monotonic() - started < 5
        assert (caught.value.errno, "worker7" in caught.value.message) == (1429, True)


def test_one_query_has_a_third_of_the_budget():
    budget, room = ByteBudget(900), asyncio.Event()
    budget.watch(room)
    budget.add(300)
    assert budget.full(own=300)
    assert not budget.full(own=299)
    assert not budget.full()
    budget.add(600)
    assert budget.full()
    budget.give(1)
    assert room.is_set()
    assert not budget.full()
