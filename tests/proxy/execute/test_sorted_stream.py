"""Sorted streams against agents that leave, misbehave, or send faster than anybody reads."""

import asyncio
import contextlib

import pytest

from backend.agent_link import AgentPool
from proxy.execute.budget import ByteBudget
from proxy.execute.dispatcher import Dispatcher
from proxy.execute.health import Health
from proxy.execute.sorted_stream import AHEAD_BYTES, SortedStream
from proxy.execute.work import Work
from shard.catalog.model import Worker
from shard.errors import SkyError
from shard.wire import frames
from shard.wire.packets import packet
from tests.support.agents import greet, serving, until

WIDTH = 9
JOB = frames.Job(
    query_id=1, database="d", main=frames.Template((b"SELECT 1 FROM `Object_", b"`")), chunks=[],
    order=(frames.SortKey(0, "integer", False),),
)  # fmt: skip
TYPES = (frames.ColumnType(3, False, 0, 63),)
HEAD = (frames.Columns(TYPES, WIDTH, 1, (frames.Note("Warning", 1, "n"),)), b"")


def keyed(*numbers, size=1):
    return b"".join(n.to_bytes(WIDTH, "big") + packet(bytes((n % 200,)) * size, 0) for n in numbers)


def whole(chunks, *numbers):
    """Return a whole answer."""
    data = keyed(*numbers)
    return [
        HEAD, (frames.Rows(0, len(numbers)), data),
        (frames.BatchEnd(0, tuple(chunks), len(numbers), len(data)), b""), (frames.JobEnd(), b""),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def workers(*plays):
    """Start agents, numbered from 7; each play is told the job and yields frames, and closes by its end."""
    async with contextlib.AsyncExitStack() as stack:
        known = {}
        for number, play in enumerate(plays, 7):

            async def serve(reader, writer, play=play):
                decoder = await greet(reader, writer, b"secret")
                while True:
                    while (found := decoder.next()) is None:
                        data = await reader.read(1 << 16)
                        if not data:
                            return
                        decoder.feed(data)
                    async for header, body in play(found[0]):
                        if header is None:
                            return
                        writer.writelines(frames.encode(header, body))
                        await writer.drain()

            port = await stack.enter_async_context(serving(serve))
            known[number] = Worker(worker_id=number, name=f"worker{number}", host="127.0.0.1", port=port)
        pool = AgentPool(known, b"secret", timeout_s=2)
        try:
            yield pool
        finally:
            await pool.close()
            await asyncio.sleep(0)  # lets the transports close


@contextlib.asynccontextmanager
async def stream_of(pool, placement, limit=None, budget=None):
    budget = budget or ByteBudget(64 << 20)
    work = Work(1, JOB, placement, limit)
    async with Dispatcher(pool, budget, Health(pool)).run(work, SortedStream) as stream:
        yield stream
    assert budget.used == 0


def numbers(data):
    out, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "little")
        out.append(data[at + 4])
        at += 4 + size
    return out


async def all_of(stream):
    return [number async for block in stream for number in numbers(block.data)]


async def test_streams_of_workers_are_one():
    async def seven(job):
        for frame in whole(job.chunks, 1, 4, 4, 9):
            yield frame

    async def eight(job):
        for frame in whole(job.chunks, 2, 4, 10, 11):
            yield frame

    async with workers(seven, eight) as pool:
        async with stream_of(pool, {3: (7,), 4: (8,)}) as stream:
            assert await all_of(stream) == [1, 2, 4, 4, 4, 9, 10, 11]
            assert (stream.warnings, len(stream.notes)) == (2, 2)
        async with stream_of(pool, {3: (7,), 4: (8,)}, limit=3) as stream:
            assert await all_of(stream) == [1, 2, 4]
        async with stream_of(pool, {}) as stream:
            assert await all_of(stream) == []


@pytest.mark.parametrize("ending", [[HEAD], [HEAD, (frames.Rows(0, 2), keyed(1, 5))], []])
async def test_a_stream_of_which_nothing_has_gone_on_is_had_from_others(ending):
    """Its rows are not sent twice, nor are its warnings told twice; nothing goes on before its chunks are there again."""
    again = asyncio.Event()

    async def seven(job):
        for frame in ending:
            yield frame
        yield None, b""

    async def eight(job):
        if job.chunks == [4]:
            await again.wait()
            for frame in whole([4], 2, 6):
                yield frame
        else:
            again.set()
            for frame in whole(job.chunks, 1, 5):
                yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7, 8), 4: (8,)}) as stream:
        assert await all_of(stream) == [1, 2, 5, 6]
        assert again.is_set()
        assert stream.warnings == 2


async def test_no_row_of_a_stream_that_is_given_up_goes_on():
    """Not even in the moment between the decision and the end of its connection."""

    async def seven(job):
        yield HEAD
        yield frames.Rows(0, 1), keyed(1)
        await asyncio.Event().wait()

    async def eight(job):
        for frame in whole([4], 2, 6) if job.chunks == [4] else whole(job.chunks, 1, 5):
            yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7, 8), 4: (8,)}) as stream:

        async def all_came():
            return stream.bytes == len(keyed(1)) + len(keyed(2, 6))

        await until(all_came)
        stream._suspected(7)
        assert stream._next(-1) is None
        assert await all_of(stream) == [1, 2, 5, 6]


@pytest.mark.parametrize("first", [1, 9])
async def test_a_stream_that_is_lost_behind_its_last_row_stays(first):
    """Its rows are there, whether some of them have gone on or none."""
    ended = asyncio.Event()

    async def seven(job):
        for frame in whole(job.chunks, first, 10)[:-1]:
            yield frame
        ended.set()
        yield None, b""

    async def eight(job):
        await ended.wait()
        for frame in whole(job.chunks, 2, 11):
            yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7,), 4: (8,)}) as stream:
        assert await all_of(stream) == sorted((first, 10, 2, 11))


async def test_rows_of_others_may_have_gone_on():
    taken, again = asyncio.Event(), asyncio.Event()

    async def seven(job):
        yield HEAD
        yield frames.Rows(0, 1), keyed(5)
        await taken.wait()
        yield None, b""

    async def eight(job):
        if job.chunks == [4]:
            yield HEAD
            yield frames.Rows(0, 1), keyed(2)
            await again.wait()
            yield frames.Rows(0, 1), keyed(6)
            yield frames.BatchEnd(0, (4,), 2, 0), b""
            yield frames.JobEnd(), b""
        else:
            again.set()
            for frame in whole(job.chunks, 5, 7):
                yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7, 8), 4: (8,)}) as stream:
        blocks = aiter(stream)
        assert numbers((await anext(blocks)).data) == [2]
        taken.set()
        assert [n async for block in blocks for n in numbers(block.data)] == [5, 6, 7]


async def test_a_stream_of_which_rows_have_gone_on_cannot_be_had_again():
    taken = asyncio.Event()

    async def seven(job):
        yield HEAD
        yield frames.Rows(0, 2), keyed(1, 5)
        await taken.wait()
        yield None, b""

    async def eight(job):
        for frame in whole(job.chunks, 9):
            yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7, 8), 4: (8, 7)}) as stream:
        blocks = aiter(stream)
        assert numbers((await anext(blocks)).data) == [1, 5]
        taken.set()
        with pytest.raises(SkyError, match=r"worker worker7 \(id 7\) was lost") as caught:
            await anext(blocks)
        assert caught.value.errno == 1158


async def test_a_stream_that_shows_its_next_row_late_holds_up_the_others():
    late = asyncio.Event()

    async def seven(job):
        for frame in whole(job.chunks, 5, 6):
            yield frame

    async def eight(job):
        yield HEAD
        await late.wait()
        for frame in whole(job.chunks, 1)[1:]:
            yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7,), 4: (8,)}) as stream:
        first = asyncio.ensure_future(anext(aiter(stream)))
        await asyncio.wait({first}, timeout=0.2)
        assert not first.done()
        late.set()
        assert numbers((await first).data)[0] == 1


@pytest.mark.parametrize(
    "answers",
    [
        [(frames.Rows(0, 1), keyed(1))],
        [(frames.Columns(TYPES, 10), b""), (frames.Rows(0, 1), keyed(1))],
        [HEAD, (frames.Rows(0, 2), keyed(5, 1))],
        [HEAD, (frames.Rows(0, 1), keyed(5)[:-1])],
        [HEAD, (frames.Rows(0, 1), keyed(5)), (frames.BatchEnd(0, (3,), 2, 0), b"")],
        [HEAD, (frames.Rows(0, 1), keyed(5)), (frames.JobEnd(), b"")],
        [(frames.Whole(3, TYPES, 0), b"")],
    ],
)
async def test_what_is_no_sorted_stream_is_an_error(answers):
    async def seven(job):
        for frame in answers:
            yield frame
        yield None, b""

    async def eight(job):
        for frame in whole(job.chunks, 2):
            yield frame

    async with workers(seven, eight) as pool, stream_of(pool, {3: (7,), 4: (8,)}) as stream:
        with pytest.raises(SkyError):
            await all_of(stream)


async def test_no_more_is_read_than_is_wanted_soon():
    sent = [0, 0]

    def long(which):
        async def play(job):
            yield HEAD
            for start in range(0, 200, 2):
                data = keyed(start, size=120_000)
                yield frames.Rows(0, 1), data
                sent[which] += len(data)
            yield frames.BatchEnd(0, tuple(job.chunks), 100, 0), b""
            yield frames.JobEnd(), b""

        return play

    budget = ByteBudget(64 << 20)
    async with (
        workers(long(0), long(1)) as pool,
        stream_of(pool, {3: (7,), 4: (8,)}, budget=budget) as stream,
    ):
        blocks = aiter(stream)
        found = numbers((await anext(blocks)).data)
        before = -1
        while before != sum(sent):  # until both are held up
            before = sum(sent)
            await asyncio.sleep(0.2)
        assert budget.used <= 2 * (AHEAD_BYTES + 130_000) + (260 << 10)
        async for block in blocks:
            found += numbers(block.data)
        assert found == [n for n in range(0, 200, 2) for _ in range(2)]
