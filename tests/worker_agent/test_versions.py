"""Agents and callers of releases with other protocols: each says so, and nobody takes the other for one that is away."""

import asyncio
import contextlib
import logging

import msgspec
import pytest

from backend.agent_link import AgentPool
from proxy.execute.budget import ByteBudget
from proxy.execute.dispatcher import Dispatcher
from proxy.execute.health import Health
from proxy.execute.work import Work
from shard.catalog.model import Worker
from shard.errors import WORKER_RELEASE, SkyError
from shard.wire import frames, secret
from skyshard.catalog.cluster import answering
from skyshard.home.workers import _health, _problem
from tests.support.agents import SECRET, LocalAgent, job, serving

SAID = (
    rf"worker7 \(id 7\) speaks version {frames.VERSION + 1} of the protocol, and this program version {frames.VERSION}: "
    "they are of two releases"
)


class Later(msgspec.Struct, tag="challenge"):
    """How a later release may ask for the secret."""

    version: int
    nonce: bytes
    more: tuple[str, ...] = ("more than we know",)


@contextlib.asynccontextmanager
async def later_release():
    """Yield a pool whose worker 7 has an agent of a later release."""

    async def serve(reader, writer):
        head = msgspec.msgpack.encode(Later(frames.VERSION + 1, b"n" * secret.NONCE_BYTES))
        writer.write((2 + len(head)).to_bytes(4, "little") + len(head).to_bytes(2, "little") + head)
        await reader.read()

    async with serving(serve) as port:
        pool = AgentPool({7: Worker(worker_id=7, name="worker7", host="127.0.0.1", port=port)}, SECRET)
        yield pool
        await pool.close()


async def rows_of(pool: AgentPool, workers: tuple[int, ...]) -> int:
    """Return how many rows a query of one chunk has."""
    asked = job("SELECT a FROM t_#", [])
    async with Dispatcher(pool, ByteBudget(1 << 20), Health(pool)).run(
        Work(1, asked, {3: workers})
    ) as stream:
        return sum([block.rows async for block in stream])


async def test_a_query_names_both_versions_or_is_answered_by_others(chunks):
    async with later_release() as pool, LocalAgent(chunks) as agent:
        with pytest.raises(SkyError, match=SAID) as caught:
            await rows_of(pool, (7,))
        assert caught.value.errno == 1429
        pool.workers[8] = msgspec.structs.replace(agent.worker, worker_id=8)
        assert await rows_of(pool, (7, 8)) == 100


async def test_no_command_takes_it_for_one_that_is_away():
    async with later_release() as pool:
        with pytest.raises(SkyError, match=SAID) as caught:
            await answering(pool, [7])
        assert caught.value.code is WORKER_RELEASE
        assert await _health(pool, 7) == "agent of another release"
        pool.workers[0] = pool.workers[7]
        assert "they are of two releases" in await _problem(pool, pool.workers[0])


async def test_a_proxy_logs_once_why_a_worker_is_not_asked(caplog):
    async with later_release() as pool:
        health = Health(pool)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await health._examine(7)
        assert not health.up(7)
        (said,) = [record.getMessage() for record in caplog.records]
        assert "two releases" in said


async def test_an_agent_tells_a_caller_of_another_release(chunks, caplog):
    async with LocalAgent(chunks) as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.writelines(frames.encode(frames.Answer(frames.VERSION - 1, b"", b"")))
        decoder, found = frames.FrameDecoder(), []
        while data := await reader.read(1 << 16):
            decoder.feed(data)
        while (frame := decoder.next()) is not None:
            found.append(frame[0])
        writer.close()
    text = f"version {frames.VERSION - 1} of the protocol; this agent speaks version {frames.VERSION}"
    assert isinstance(found[0], frames.Challenge)
    assert found[1:] == [frames.Failed(1105, "HY000", f"you speak {text}")]
    assert text in caplog.text
