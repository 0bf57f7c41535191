"""Connections to agents: frames over TCP, proved by the shared secret, pooled when idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from backend.agent_tls import SHUTDOWN_S
from backend.keepalive import keep_alive
from backend.wire import ConnectionLost, Wire
from shard.catalog.model import Worker
from shard.errors import (
    STATEMENT_TOO_LONG,
    WORKER_DOWN,
    WORKER_RELEASE,
    WORKER_RESTARTED,
    ServerError,
    SkyError,
)
from shard.wire import frames, secret

MOST_IDLE = 64
"""Connections kept per worker for the next jobs."""

PING_S = 2.0
"""Seconds that an agent has for the answer to a ping."""

_JOINED = 1 << 14
"""Bytes of a frame's body up to which header and body are one write."""

SILENCE_S = 30.0
"""Seconds without a sign of life after which an agent that loads or runs statements is given up."""

STUCK_S = 300.0
"""Seconds that a piece of a load may take to be read; the worker's server sets the pace."""

_READS = ("SELECT ", "SHOW ", "CHECK ", "CHECKSUM ")
"""How statements begin that leave nothing to be on disk."""

_READ_BYTES = 1 << 16
"""Bytes of one read, which is what a connection holds while nobody wants more; larger ones were no faster."""

_scratch = memoryview(bytearray(_READ_BYTES))
"""Where every connection's bytes arrive; they are copied before another's can."""

log = logging.getLogger("skyshard.agents")


class LinkLost(Exception):  # noqa: N818 - it is what happened
    """The agent closed the connection or broke the protocol."""


class LinkSilent(LinkLost):
    """The agent gave no sign of life for too long."""


class OtherVersion(LinkLost):
    """The agent is of a release with another protocol, of version `theirs`."""

    def __init__(self, theirs: int) -> None:
        super().__init__(f"version {theirs}")
        self.theirs = theirs


class LinkWire(Wire, asyncio.BufferedProtocol):
    """A connection's bytes, read in small pieces and only when they are wanted: there are many connections."""

    def __init__(self) -> None:
        super().__init__(high_water=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        del sizehint
        return _scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that have come."""
        self.data_received(bytes(_scratch[:nbytes]))


class AgentLink:
    """One connection to an agent."""

    def __init__(self, wire: Wire, transport: asyncio.Transport) -> None:
        self.wire, self._transport = wire, transport
        self._decoder = frames.FrameDecoder()
        self._seen: tuple[frames.Header, bytes | bytearray] | None = None
        self.worker = self.boot = ""
        self.where = ("", 0)

    def post(self, data: bytes) -> None:
        """Send the bytes of a small frame, and do not wait."""
        self._transport.write(data)

    def arrived(self, data: bytes) -> tuple[frames.Header, bytes | bytearray] | None:
        """Return the frame that received bytes complete; None if it is not whole, or a sign of life."""
        self._decoder.feed(data)
        try:
            found = self._decoder.next()
        except frames.FrameError as error:
            raise LinkLost(str(error)) from error
        return None if found is None or isinstance(found[0], frames.Alive) else found

    async def send(self, header: frames.Header, body: bytes | bytearray = b"") -> None:
        """Send one frame."""
        try:
            pieces = frames.encode(header, body)
        except frames.FrameTooLong as error:
            raise SkyError(STATEMENT_TOO_LONG, limit=frames.MAX_FRAME) from error
        try:
            if len(body) < _JOINED:
                self._transport.write(b"".join(pieces))
            else:
                self._transport.writelines(pieces)
            await self.wire.drain()
        except (ConnectionLost, ConnectionError, OSError) as error:
            raise LinkLost(str(error)) from error

    def unread(self, found: tuple[frames.Header, bytes | bytearray]) -> None:
        """Let `receive` return a frame that has arrived."""
        self._seen = found

    async def receive(self, silence_s: float | None = None) -> tuple[frames.Header, bytes | bytearray]:
        """Return the next frame but for signs of life; not reading is the backpressure.

        Parameters
        ----------
        silence_s : float or None
            Seconds without a byte after which the agent is given up.
        """
        if self._seen is not None:
            seen, self._seen = self._seen, None
            return seen
        try:
            while (found := self._decoder.next()) is None or isinstance(found[0], frames.Alive):
                if found is not None:
                    continue
                async with asyncio.timeout(silence_s):
                    self._decoder.feed(await self.wire.take())
        except TimeoutError as error:
            raise LinkSilent("silent") from error
        except (ConnectionLost, frames.FrameError) as error:
            raise LinkLost(str(error)) from error
        return found

    def abort(self) -> None:
        """Close at once; the agent cancels what it runs for us."""
        self._transport.abort()

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def closed(self) -> bool:
        """Whether the connection is closing."""
        return self.wire.lost is not None or self._transport.is_closing()


async def _within(seconds: float, sending: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await sending
    except TimeoutError as error:
        raise LinkLost("it does not read") from error


class AgentPool:
    """Idle connections per worker.

    Parameters
    ----------
    workers : mapping
        Worker id → worker, looked up at every use, so that it may change.
    secret : bytes
        The shared secret.
    timeout_s : float
        Seconds for connecting and greeting.
    silence_s : float
        Seconds without a sign of life after which a running job is given up.
    tls : ssl.SSLContext or None
        For connections; the agent's certificate must name the worker. None: not encrypted.
    """

    def __init__(
        self,
        workers: Mapping[int, Worker],
        secret: bytes,
        timeout_s: float = 5.0,
        silence_s: float = 8.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.workers, self.silence_s = workers, silence_s
        self._secret, self._timeout, self._tls = secret, timeout_s, tls
        self._idle: dict[tuple[str, int], list[AgentLink]] = {}
        self._failures: dict[str, int] = {}  # of disks, by agent's boot, before we wrote anything
        # By worker, the boots of its agent in which we wrote what may not be on disk → which of our writes was the last.
        self._written: dict[int, dict[str, int]] = {}
        self._writes = 0

    def name(self, worker_id: int) -> str:
        """Return what a worker is called in errors: its name and id."""
        worker = self.workers.get(worker_id)
        if worker_id < 0:
            return "(nobody has a copy)"
        return f"id {worker_id}" if worker is None else f"{worker.name} (id {worker_id})"

    async def get(self, worker_id: int) -> AgentLink:
        """Return a connection to a worker's agent.

        Raises
        ------
        SkyError
            WORKER_DOWN, naming the worker, or WORKER_RELEASE.
        """
        worker = self.workers.get(worker_id)
        if worker is None:  # removed meanwhile
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id))
        idle = self.idle(worker_id)
        if idle is not None:
            return idle
        try:
            async with asyncio.timeout(self._timeout):
                link = await self._connect(worker)
                try:
                    await self._greet(link)
                except BaseException:
                    link.abort()
                    raise
        except OtherVersion as error:
            raise SkyError(
                WORKER_RELEASE, worker=self.name(worker_id), theirs=error.theirs, ours=frames.VERSION
            ) from error
        except (OSError, TimeoutError, LinkLost) as error:
            log.info("worker %s: %s", worker.name, error or "no answer in time")
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id)) from error
        return link

    def idle(self, worker_id: int) -> AgentLink | None:
        """Return a connection to a worker's agent that is there already, if there is one."""
        worker = self.workers.get(worker_id)
        links = self._idle.get((worker.host, worker.port)) if worker is not None else None
        while links:
            link = links.pop()
            if not link.closed:
                return link
            link.abort()
        return None

    async def _connect(self, worker: Worker) -> AgentLink:
        secured: dict[str, Any] = {}
        if self._tls is not None:
            secured = {"ssl": self._tls, "server_hostname": worker.name, "ssl_shutdown_timeout": SHUTDOWN_S}
        transport, wire = await asyncio.get_running_loop().create_connection(
            LinkWire, worker.host, worker.port, **secured
        )
        keep_alive(transport)
        link = AgentLink(wire, transport)
        link.where = worker.host, worker.port
        return link

    async def _greet(self, link: AgentLink) -> None:
        header, _ = await link.receive()
        if not isinstance(header, frames.Challenge):
            raise LinkLost("no challenge")
        if header.version != frames.VERSION:
            raise OtherVersion(header.version)
        theirs, ours = header.nonce, secrets.token_bytes(secret.NONCE_BYTES)
        await link.send(frames.Answer(frames.VERSION, secret.caller_proof(self._secret, theirs), ours))
        header, _ = await link.receive()
        if isinstance(header, frames.Failed):
            raise LinkLost(header.message)
        if not isinstance(header, frames.Welcome):
            raise LinkLost("not welcome")
        if not secret.same(secret.agent_proof(self._secret, theirs, ours), header.proof):
            raise LinkLost("it does not know the secret")
        link.worker, link.boot = header.worker, header.boot_id
        self._failures.setdefault(link.boot, header.failures)

    def put(self, worker_id: int, link: AgentLink) -> None:
        """Keep a connection on which nothing runs, or close it if enough are idle."""
        worker = self.workers.get(worker_id)
        if worker is None or link.where != (worker.host, worker.port):  # removed or moved meanwhile
            link.abort()
            return
        idle = self._idle.setdefault(link.where, [])
        if len(idle) < MOST_IDLE and not link.closed:
            link.wire.resume()  # that it is closed is to be noticed, and what comes next
            idle.append(link)
        else:
            link.abort()

    @asynccontextmanager
    async def lease(self, worker_id: int) -> AsyncIterator[AgentLink]:
        """Lend a connection; it is kept only if the block ends without an error."""
        link = await self.get(worker_id)
        try:
            yield link
        except BaseException:
            link.abort()
            raise
        self.put(worker_id, link)

    async def ping(self, worker_id: int) -> frames.Pong | None:
        """Return how a worker is, or None if its agent does not answer in time.

        Raises
        ------
        SkyError
            WORKER_RELEASE: it is there, and must not be taken for one that is away.
        """
        try:
            async with self.lease(worker_id) as link:
                await link.send(frames.Ping())
                header, _ = await link.receive(PING_S)
                return header if isinstance(header, frames.Pong) else None
        except LinkLost:
            return None
        except SkyError as error:
            if error.code is WORKER_RELEASE:
                raise
            return None

    async def admin(
        self, worker_id: int, statements: Sequence[str], database: str = ""
    ) -> tuple[tuple[str | None, ...], ...]:
        """Run statements on a worker; return the last one's rows."""
        writes = not all(statement.startswith(_READS) for statement in statements)
        try:
            async with self.lease(worker_id) as link:
                if writes:
                    self._wrote(worker_id, link)
                await link.send(frames.Admin(tuple(statements), database))
                header, _ = await link.receive(SILENCE_S)
                if writes:
                    self._wrote(worker_id, link)
        except LinkLost as error:
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id)) from error
        if isinstance(header, frames.Failed):
            raise ServerError(header.errno, header.sqlstate, header.message)
        return header.rows if isinstance(header, frames.AdminDone) else ()

    async def settle(self, workers: Iterable[int]) -> None:
        """Wait until everything that workers' servers have written is on their disks.

        Raises
        ------
        SkyError
            If a worker does not answer, if its disk has failed since this pool first reached it, or if its agent, which
            knew of failures, has restarted since we wrote.
        """
        answers = await asyncio.gather(*map(self._settle, workers), return_exceptions=True)
        for answer in answers:
            if answer is not None:
                raise answer

    def _wrote(self, worker_id: int, link: AgentLink) -> None:
        """Note that a worker's server is about to write for us, or has written."""
        self._writes += 1
        self._written.setdefault(worker_id, {})[link.boot] = self._writes

    async def _settle(self, worker_id: int) -> None:
        before = dict(self._written.get(worker_id, {}))
        try:
            async with self.lease(worker_id) as link:
                if before.keys() - {
                    link.boot
                }:  # a failure may have been told to others, by an agent that is no more
                    raise SkyError(WORKER_RESTARTED, worker=self.name(worker_id))
                await link.send(frames.Settle(self._failures.get(link.boot, 0)))
                header, _ = await link.receive(SILENCE_S)
        except LinkLost as error:
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id)) from error
        if isinstance(header, frames.Failed):
            raise ServerError(header.errno, header.sqlstate, f"{self.name(worker_id)}: {header.message}")
        now = self._written.get(worker_id, {})
        for boot, last in before.items():
            if now.get(boot) == last:  # what was written meanwhile may not have been waited for
                del now[boot]

    async def load(
        self, worker_id: int, begin: frames.LoadBegin, pieces: AsyncIterator[bytes], rows: list[int]
    ) -> int:
        """Load text into a worker's table; `rows[0]` is the number of rows once `pieces` has ended."""
        link = await self.get(worker_id)
        self._wrote(worker_id, link)
        try:
            await link.send(begin)
            async for piece in pieces:
                await _within(STUCK_S, link.send(frames.LoadData(), piece))
            await link.send(frames.LoadEnd(rows[0]))
            header, _ = await link.receive(SILENCE_S)
        except LinkLost as error:
            link.abort()
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id)) from error
        except BaseException:
            link.abort()
            raise
        self._wrote(worker_id, link)
        self.put(worker_id, link)
        if isinstance(header, frames.Failed):
            raise ServerError(header.errno, header.sqlstate, header.message)
        if not isinstance(header, frames.Loaded):
            raise SkyError(WORKER_DOWN, worker=self.name(worker_id))
        return header.rows

    async def close(self) -> None:
        """Close the idle connections."""
        for links in self._idle.values():
            for link in links:
                with contextlib.suppress(OSError):
                    link.abort()
        self._idle.clear()
