"""The agent's data port: one job, load or request at a time on a connection.

A `Cancel` frame, or the loss of the connection, cancels the running job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from backend.connection import ConnectionLost
from backend.pool import Pool
from backend.tasks import ended
from shard.catalog.routines import create_htm_id
from shard.errors import ServerError
from shard.wire import frames, secret
from worker_agent import loader
from worker_agent.config import AgentConfig
from worker_agent.metrics import AgentMetrics
from worker_agent.quick import may_be_quick, quick
from worker_agent.runner import Floor, JobFailed, JobRun
from worker_agent.scheduler import Scheduler
from worker_agent.spool import SpoolSpace

log = logging.getLogger("skyshard.agent")


ALIVE_S = 2.0
"""Seconds between signs of life while a job has nothing to send."""
_WATCH_AFTER_S = 0.02
"""Seconds a job may take before its cancel is listened for, and signs of life are sent."""


_JOINED = 1 << 14
"""Bytes of a frame's body up to which header and body are one write."""


class Gone(Exception):  # noqa: N818 - it is what happened
    """The peer closed the connection or broke the protocol."""


class Peer:
    """Frames over one TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = frames.FrameDecoder()
        self._seen: tuple[frames.Header, bytes] | None = None

    async def send(self, header: frames.Header, body: bytes = b"") -> None:
        """Send one frame; waits while the peer does not read."""
        pieces = frames.encode(header, body)
        if len(body) < _JOINED:
            self._writer.write(b"".join(pieces))
        else:
            self._writer.writelines(pieces)
        await self._writer.drain()

    async def say_alive(self) -> None:
        """Send `Alive` now and then, whenever nothing else is on its way."""
        while True:
            await asyncio.sleep(ALIVE_S)
            if not self._writer.transport.get_write_buffer_size():
                self._writer.writelines(frames.encode(frames.Alive()))

    async def peek(self) -> frames.Header:
        """Wait for the next frame and return its header; `receive` returns the frame again."""
        self._seen = await self.receive()
        return self._seen[0]

    async def receive(self) -> tuple[frames.Header, bytes]:
        """Return the next frame."""
        if self._seen is not None:
            seen, self._seen = self._seen, None
            return seen
        while (found := self._decoder.next()) is None:
            data = await self._reader.read(1 << 18)
            if not data:
                raise Gone
            self._decoder.feed(data)
        return found


class _Watch:
    """Listens for the cancel of what the present task does, once that has taken a while."""

    def __init__(self, peer: Peer) -> None:
        self._peer, self._task = peer, asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._begin)
        self._watches: list[asyncio.Task[None]] = []
        self._cause: BaseException | frames.Cancel | None = None

    def _begin(self) -> None:
        self._watches = [
            asyncio.ensure_future(self._listen()),
            asyncio.ensure_future(self._peer.say_alive()),
        ]

    async def _listen(self) -> None:
        try:
            header = await self._peer.peek()
        except (Gone, ConnectionError, frames.FrameError) as error:
            self._stop(error)
            return
        if isinstance(header, frames.Cancel):
            await self._peer.receive()
            self._stop(header)

    def _stop(self, cause: BaseException | frames.Cancel) -> None:
        self._cause = cause
        if self._task is not None:
            self._task.cancel()

    def caused(self) -> bool:
        """Whether the task was cancelled because the peer said so; raises if the peer has left."""
        if isinstance(self._cause, BaseException):
            raise self._cause
        if self._cause is not None and self._task is not None:
            self._task.uncancel()
        return self._cause is not None

    async def end(self) -> None:
        """Listen no more."""
        self._timer.cancel()
        watches, self._watches = self._watches, []
        await ended(watches)


@contextlib.asynccontextmanager
async def _alive(peer: Peer) -> AsyncIterator[None]:
    """Send signs of life while something is done for a peer."""
    task = asyncio.ensure_future(peer.say_alive())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class AgentServer:
    """Accepts proxies and ingests."""

    def __init__(self, config: AgentConfig, secret: bytes, metrics: AgentMetrics) -> None:
        self.config, self._secret, self.metrics = config, secret, metrics
        self.pool = Pool(config.mariadb.address(), limit=64)
        self.scheduler = Scheduler(config.slots, config.interactive_slots)
        space = SpoolSpace(config.spool_memory_bytes, config.spool_disk_bytes, config.spool_dir)
        self.space = space
        self._floor = Floor(self.scheduler, self.pool, space, config.spool_job_bytes)
        self._load_dir = None if config.load_dir is None else Path(config.load_dir)
        if self._load_dir is not None:
            loader.remove_leftovers(self._load_dir)
        self._boot = secrets.token_hex(8)
        self._provided = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        peer = Peer(reader, writer)
        try:
            async with asyncio.timeout(10):
                await self._greet(peer)
            while True:
                header, body = await peer.receive()
                await self._serve(peer, header, body)
        except (Gone, ConnectionError, TimeoutError, frames.FrameError) as error:
            log.debug("connection ended: %s", error)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("connection failed")
        finally:
            if task is not None:
                self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, OSError):
                await writer.wait_closed()

    async def _greet(self, peer: Peer) -> None:
        nonce = secrets.token_bytes(secret.NONCE_BYTES)
        await peer.send(frames.Challenge(frames.VERSION, nonce))
        header, _ = await peer.receive()
        if not isinstance(header, frames.Answer) or header.version != frames.VERSION:
            raise Gone
        if not secret.same(secret.caller_proof(self._secret, nonce), header.proof):
            log.warning("a peer does not know the secret")
            await peer.send(frames.Failed(1045, "28000", "the agent refuses this secret"))
            raise Gone
        proof = secret.agent_proof(self._secret, nonce, header.nonce)
        await peer.send(frames.Welcome(self.config.worker, self._boot, proof))

    async def _serve(self, peer: Peer, header: frames.Header, body: bytes) -> None:
        del body
        if isinstance(header, frames.Job):
            await self._job(peer, header)
        elif isinstance(header, frames.LoadBegin):
            await self._load(peer, header)
        elif isinstance(header, frames.Admin):
            async with _alive(peer):
                answer = await loader.admin(self.pool, header)
            await peer.send(answer)
        elif isinstance(header, frames.Ping):
            await peer.send(
                frames.Pong(await self.mariadb_ok(), self.scheduler.running, self.scheduler.queued)
            )
        elif not isinstance(header, frames.Cancel):  # a late Cancel finds nothing to do
            raise Gone

    async def mariadb_ok(self) -> bool:
        """Whether the worker's MariaDB answers."""
        try:
            async with asyncio.timeout(3), self.pool.lease() as connection:
                await connection.run("SELECT 1")
        except (ConnectionLost, ServerError, TimeoutError, OSError):
            return False
        return True

    async def _provide(self) -> None:
        """Give the worker's MariaDB the function that fragments may call, once."""
        with contextlib.suppress(ConnectionLost, OSError):  # the job itself will say so
            async with self.pool.lease() as connection:
                await connection.run(create_htm_id())
            self._provided = True

    async def _job(self, peer: Peer, job: frames.Job) -> None:
        if not job.chunks:
            await peer.send(frames.JobEnd())
            return
        if not self._provided:
            await self._provide()
        if may_be_quick(job) and await self._quick_job(peer, job):
            return
        jobrun = JobRun(self._floor, job, peer.send)
        run = asyncio.ensure_future(jobrun.run())
        tasks: list[asyncio.Task[Any]] = [run]
        started, outcome = time.monotonic(), "lost"
        try:
            await asyncio.wait({run}, timeout=_WATCH_AFTER_S)
            if not run.done():
                watch = asyncio.ensure_future(peer.peek())
                tasks += [watch, asyncio.ensure_future(peer.say_alive())]
                await self._attend(run, watch)
            if not run.done():
                run.cancel()
                await asyncio.gather(run, return_exceptions=True)
                outcome = "cancelled"
                await peer.send(frames.Failed(1317, "70100", "Query execution was interrupted"))
                return
            run.result()
            outcome = "ok"
        except JobFailed as failed:
            outcome = f"error {failed.frame.errno}"
            await peer.send(failed.frame)
        finally:
            for task in tasks:
                task.cancel()
            if not run.done() or len(tasks) > 1:
                await asyncio.gather(*tasks, return_exceptions=True)
            self._note(job, outcome, jobrun.chunks_done, jobrun.bytes_sent, started)

    async def _attend(self, run: asyncio.Task[None], watch: asyncio.Task[frames.Header]) -> None:
        """Wait until a job has ended, or is not wanted any more."""
        await asyncio.wait({run, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not run.done() and not isinstance(watch.result(), frames.Cancel):
            await asyncio.wait({run})  # the peer has had the end and asks for the next: let it wait

    async def _quick_job(self, peer: Peer, job: frames.Job) -> bool:
        """Answer a job in this task, if that can be; its cancel is listened for only if it takes long."""
        started, outcome, size = time.monotonic(), "lost", 0
        watch = _Watch(peer)
        try:
            answer = await quick(self._floor, job)
            if answer is None:
                outcome = ""
                return False
            outcome, size = "ok", len(answer[1])
            await watch.end()
            await peer.send(*answer)
        except JobFailed as failed:
            outcome = f"error {failed.frame.errno}"
            await watch.end()
            await peer.send(failed.frame)
        except asyncio.CancelledError:
            if not watch.caused():
                raise
            outcome = "cancelled"
            await peer.send(frames.Failed(1317, "70100", "Query execution was interrupted"))
        finally:
            await watch.end()
            if outcome:
                self._note(job, outcome, 1 if outcome == "ok" else 0, size, started)
        return True

    def _note(self, job: frames.Job, outcome: str, chunks: int, size: int, started: float) -> None:
        """Account for a job that has ended."""
        self.metrics.job_done(outcome.split()[0], chunks, size)
        log.info(
            "query=%s chunks=%s/%s bytes=%s ms=%.1f outcome=%s",
            job.query_id, chunks, len(job.chunks), size, (time.monotonic() - started) * 1e3, outcome,
        )  # fmt: skip

    async def _load(self, peer: Peer, begin: frames.LoadBegin) -> None:
        sent = [0]
        ended = False

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal ended
            while True:
                header, body = await peer.receive()
                if isinstance(header, frames.LoadData):
                    yield body
                elif isinstance(header, frames.LoadEnd):
                    sent[0] = header.rows
                    ended = True
                    return
                else:
                    raise Gone

        async with _alive(peer):
            answer = await loader.load(self.pool, begin, pieces(), sent, self._load_dir)
        while not ended:  # the load failed early: read what is still coming
            header, _ = await peer.receive()
            ended = isinstance(header, frames.LoadEnd)
        self.metrics.loaded_rows.inc(sent[0])
        await peer.send(answer)

    async def close(self) -> None:
        """End all connections and what runs for them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._floor.warm.close()
        await self.pool.close()
        self.space.close()
