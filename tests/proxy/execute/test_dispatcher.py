"""The dispatcher against agents that are not there or misbehave."""

import asyncio
import time

import pytest

from backend.agent_link import AgentPool
from proxy.execute.budget import ByteBudget
from proxy.execute.dispatcher import Dispatcher, Work
from shard.catalog.model import Worker
from shard.errors import SkyError
from shard.wire import frames
from skyshard.cluster.local import free_port

JOB = frames.Job(query_id=1, database="d", main=frames.Template((b"SELECT 1",)), chunks=[])
ROW = b"\x02\x00\x00\x01\x011"


def pool(port):
    worker = Worker(worker_id=7, name="worker7", host="127.0.0.1", port=port)
    return AgentPool({7: worker}, b"secret", timeout_s=2)


async def ask(port):
    agents = pool(port)
    try:
        async with Dispatcher(agents, ByteBudget(1 << 20)).run(Work(1, JOB, {3: (7,)})) as stream:
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


async def misbehaving(answers):
    """Start an agent that greets, takes a job and sends `answers`, then closes."""

    async def serve(reader, writer):
        decoder = frames.FrameDecoder()
        writer.writelines(frames.encode(frames.Challenge(frames.VERSION, b"n")))
        for reply in ([frames.Welcome("w", "b")], None):
            while decoder.next() is None:
                data = await reader.read(1 << 16)
                if not data:
                    writer.close()
                    return
                decoder.feed(data)
            for header in reply or []:
                writer.writelines(frames.encode(header))
        for header, body in answers:
            writer.writelines(frames.encode(header, body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


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
        ([(frames.Failed(1054, "42S22", "Unknown column in `Object_330`"), b"")], None),
    ],
)
async def test_only_complete_answers_are_answers(answers, rows):
    server, port = await misbehaving(answers)
    async with server:
        if rows is not None:
            assert await ask(port) == rows
            return
        with pytest.raises(SkyError) as caught:
            await ask(port)
        assert "_330" not in caught.value.message
