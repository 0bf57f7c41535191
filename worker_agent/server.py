"""The agent's data port: one job, load or request at a time on a connection.

A `Cancel` frame, or the loss of the connection, cancels the running job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

from backend.connection import ConnectionLost
from backend.pool import Pool
from backend.tasks import ended, to_the_end
from shard.catalog.routines import create_htm_id
from shard.errors import SHUTDOWN, ServerError
from shard.wire import frames, secret
from worker_agent import loader
from worker_agent.config import AgentConfig
from worker_agent.damage import Damage
from worker_agent.disk import Disk
from worker_agent.flight import AFTER_S, Flight
from worker_agent.metrics import AgentMetrics
from worker_agent.peer import Gone, Peer, PeerWire, Watch, alive
from worker_agent.quick import Frame, may_be_quick, quick
from worker_agent.runner import Floor, JobFailed, JobRun
from worker_agent.scheduler import Scheduler
from worker_agent.sorted_job import SortedJob
from worker_agent.spool import SpoolSpace

log = logging.getLogger("skyshard.agent")


_WORK = (frames.Job, frames.LoadBegin, frames.Admin, frames.Settle)
"""What an agent that is to end does not begin."""
_LOOK_S = 0.05


class AgentServer:
    """Accepts proxies and ingests.

    Attributes
    ----------
    draining : bool
        This agent is to end, and takes no more work.
    """

    def __init__(self, config: AgentConfig, secret: bytes, metrics: AgentMetrics) -> None:
        self.config, self._secret, self.metrics = config, secret, metrics
        self.pool = Pool(config.mariadb.address(), limit=64)
        self._disk, self._damage = Disk(self.pool), Damage(self.pool)
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
        self._peers: set[Peer] = set()
        self.draining = False

    def accept(self) -> PeerWire:
        """Return the protocol of a new connection."""
        return PeerWire(self._accepted)

    def _accepted(self, wire: PeerWire) -> None:
        task = asyncio.ensure_future(self._handle(wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, wire: PeerWire) -> None:
        """Serve one connection to its end."""
        if wire.transport is None:
            return
        peer = Peer(wire, wire.transport, self.mariadb_ok)
        self._peers.add(peer)
        try:
            async with asyncio.timeout(10):
                await self._greet(peer)
            peer.swift = partial(self._swift, peer)
            while True:
                header, body = await peer.next()
                try:
                    peer.serving = True
                    await self._serve(peer, header, body)
                finally:
                    peer.serving = False
        except (Gone, ConnectionError, TimeoutError, frames.FrameError) as error:
            log.debug("connection ended: %s", error)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("connection failed")
        finally:
            peer.swift = None
            self._peers.discard(peer)
            for flight in (peer.flight, peer.begun):
                if flight is not None:
                    await to_the_end(flight.abandon())
            peer.close()

    def _swift(self, peer: Peer, header: frames.Header) -> bool:
        """Answer a look-up without the peer's task, if that can be."""
        if not isinstance(header, frames.Job) or not header.chunks or not self._provided or self.draining:
            return False

        def landed(flight: Flight, answer: Frame, seconds: float) -> None:
            peer.flight = None
            peer.post(*answer)
            self._note(flight.job, "ok", 1, len(answer[1]), seconds)

        peer.flight = Flight.begin(self._floor, header, landed, peer.adopt)
        return peer.flight is not None

    async def _greet(self, peer: Peer) -> None:
        nonce = secrets.token_bytes(secret.NONCE_BYTES)
        await peer.send(frames.Challenge(frames.VERSION, nonce))
        header, _ = await peer.receive()
        if not isinstance(header, frames.Answer):
            raise Gone
        if header.version != frames.VERSION:
            text = f"version {header.version} of the protocol; this agent speaks version {frames.VERSION}"
            log.warning("a peer speaks %s", text)
            await peer.send(frames.Failed(1105, "HY000", f"you speak {text}"))
            raise Gone
        if not secret.same(secret.caller_proof(self._secret, nonce), header.proof):
            log.warning("a peer does not know the secret")
            await peer.send(frames.Failed(1045, "28000", "the agent refuses this secret"))
            raise Gone
        proof = secret.agent_proof(self._secret, nonce, header.nonce)
        await peer.send(frames.Welcome(self.config.worker, self._boot, proof, self._disk.failures))

    async def _serve(self, peer: Peer, header: frames.Header, body: bytes | bytearray) -> None:
        del body
        if self.draining and peer.begun is None and isinstance(header, _WORK):
            await self._refuse(peer, header)
        elif isinstance(header, frames.Job):
            await self._job(peer, header)
        elif isinstance(header, frames.LoadBegin):
            await self._load(peer, header)
        elif isinstance(header, frames.Admin):
            await self._admin(peer, header)
        elif isinstance(header, frames.Settle):
            async with alive(peer):
                answer = await self._disk.settle(header.failures)
            await peer.send(answer)
        elif isinstance(header, frames.Ping):
            state = await self.mariadb_ok(), self.scheduler.running, self.scheduler.queued
            await peer.send(frames.Pong(*state, self.draining))
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
        try:
            async with self.pool.lease() as connection:
                await connection.run(create_htm_id())
            self._provided = True
        except (ConnectionLost, OSError):
            pass  # the job itself will say so
        except ServerError as error:  # most jobs do without
            log.warning("MariaDB lets no function be made: %s", error)

    async def _job(self, peer: Peer, job: frames.Job) -> None:
        if not job.chunks:
            await peer.send(frames.JobEnd())
            return
        if not self._provided:
            await self._provide()
        if may_be_quick(job) and await self._quick_job(peer, job):
            return
        jobrun = (SortedJob if job.order else JobRun)(self._floor, job, peer.send)
        run = asyncio.ensure_future(jobrun.run())
        tasks: list[asyncio.Task[Any]] = [run]
        started, outcome = time.monotonic(), "lost"
        try:
            await asyncio.wait({run}, timeout=AFTER_S)
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
            self._damage.noticed(job.database, failed.frame)
            await peer.send(failed.frame)
        finally:
            for task in tasks:
                task.cancel()
            if not run.done() or len(tasks) > 1:
                await asyncio.gather(*tasks, return_exceptions=True)
            self.metrics.joint.inc(jobrun.joint_chunks)
            self._note(job, outcome, jobrun.chunks_done, jobrun.bytes_sent, time.monotonic() - started)

    async def _attend(self, run: asyncio.Task[Any], watch: asyncio.Task[frames.Header]) -> None:
        """Wait until a job has ended, or is not wanted any more."""
        await asyncio.wait({run, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not run.done() and not isinstance(watch.result(), frames.Cancel):
            await asyncio.wait({run})  # the peer has had the end and asks for the next: let it wait

    async def _quick_job(self, peer: Peer, job: frames.Job) -> bool:
        """Answer a job in this task, if that can be; its cancel is listened for only if it takes long."""
        started, outcome, size = time.monotonic(), "lost", 0
        begun, peer.begun = peer.begun, None
        watch = Watch(peer)
        try:
            answer = await quick(self._floor, job, None if begun is None else begun.connection)
            if answer is None:
                outcome = ""
                return False
            outcome, size = "ok", len(answer[1])
            await watch.end()
            await peer.send(*answer)
        except JobFailed as failed:
            outcome = f"error {failed.frame.errno}"
            self._damage.noticed(job.database, failed.frame)
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
                self._note(job, outcome, 1 if outcome == "ok" else 0, size, time.monotonic() - started)
        return True

    def _note(self, job: frames.Job, outcome: str, chunks: int, size: int, seconds: float) -> None:
        """Account for a job that has ended."""
        self.metrics.job_done(outcome.split()[0], chunks, size)
        log.info(
            "query=%s chunks=%s/%s bytes=%s ms=%.1f outcome=%s",
            job.query_id, chunks, len(job.chunks), size, seconds * 1e3, outcome,
        )  # fmt: skip

    async def _admin(self, peer: Peer, request: frames.Admin) -> None:
        """Run statements for a command; once it is gone no more of them, since it may be running them again by then."""
        run = asyncio.ensure_future(loader.admin(self.pool, self.config.mariadb.address(), request))
        watch = asyncio.ensure_future(peer.peek())
        try:
            async with alive(peer):
                await self._attend(run, watch)
            answer = await run
        finally:
            await ended([run, watch])
        await peer.send(answer)

    async def _load(self, peer: Peer, begin: frames.LoadBegin) -> None:
        text = loader.Incoming(peer)
        async with alive(peer):
            answer = await loader.load(self.pool, begin, text, self._load_dir)
        await text.skip()  # of a load that failed early there is more to come
        self.metrics.loaded_rows.inc(text.rows)
        await peer.send(answer)

    # the end -------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more work, and return when there is none left, or after `drain_s`."""
        self.draining = True
        log.info("draining: work for %d peers", sum(peer.busy for peer in self._peers))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_s):
                while any(peer.busy for peer in self._peers):
                    await asyncio.sleep(_LOOK_S)

    async def _refuse(self, peer: Peer, header: frames.Header) -> None:
        """Let a job go elsewhere; whoever asks for more than that finds that the agent is away."""
        if not isinstance(header, frames.Job):
            raise Gone
        await peer.send(frames.Failed(SHUTDOWN.errno, SHUTDOWN.sqlstate, SHUTDOWN.text, retry=True))

    async def close(self) -> None:
        """End all connections and what runs for them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._damage.close()
        await self._floor.warm.close()
        await self.pool.close()
        self.space.close()
