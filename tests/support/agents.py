"""An agent in this process, beside a real MariaDB server, and a client that sees its frames."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from backend.agent_link import AgentLink, AgentPool
from backend.connection import RawConnection
from shard.catalog.model import Worker
from shard.wire import frames, rows, secret
from worker_agent.config import AgentConfig, MariaDB
from worker_agent.metrics import AgentMetrics
from worker_agent.server import AgentServer

SECRET = b"a secret"


class LocalAgent:
    """An agent on a port of its own; `pool` knows it as worker 7, named worker7."""

    def __init__(self, server, caller_tls=None, **settings: object) -> None:
        self._caller_tls = caller_tls
        self.config = AgentConfig(
            worker="worker7",
            listen="127.0.0.1:0",
            secret_file="",
            mariadb=MariaDB(user="root", socket=server.socket),
            **settings,
        )
        self._links: list[AgentLink] = []

    async def __aenter__(self) -> "LocalAgent":
        self.agent = AgentServer(self.config, SECRET, AgentMetrics())
        context = None if self.config.tls is None else self.config.tls.for_agent()
        self._server = await asyncio.get_running_loop().create_server(
            self.agent.accept, "127.0.0.1", 0, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.worker = Worker(worker_id=7, name="worker7", host="127.0.0.1", port=self.port)
        self.pool = AgentPool({7: self.worker}, SECRET, tls=self._caller_tls)
        return self

    async def __aexit__(self, *_) -> None:
        for link in self._links:
            link.abort()
        await self.pool.close()
        self._server.close()
        await self.agent.close()
        await asyncio.sleep(0)  # lets the transports close

    async def link(self) -> AgentLink:
        """Return a connection that is closed when the agent is."""
        link = await self.pool.get(7)
        self._links.append(link)
        return link

    @property
    def space(self):
        return self.agent._floor.space

    async def ask(self, job: frames.Job, **how: bool) -> "Answer":
        """Run a job on a pooled connection and collect its answer."""
        async with self.pool.lease(7) as link:
            await link.send(job)
            return await collect(link, **how)


async def greet(reader, writer, known: bytes) -> frames.FrameDecoder:
    """Greet a caller as an agent that knows a secret; return the decoder of what follows."""
    decoder, nonce = frames.FrameDecoder(), b"n" * secret.NONCE_BYTES
    writer.writelines(frames.encode(frames.Challenge(frames.VERSION, nonce)))
    while (found := decoder.next()) is None:
        data = await reader.read(1 << 16)
        if not data:
            return decoder
        decoder.feed(data)
    proof = secret.agent_proof(known, nonce, found[0].nonce)
    writer.writelines(frames.encode(frames.Welcome("w", "b", proof)))
    return decoder


@dataclass
class Answer:
    """What a job answered: rows by batch, chunks in order of their ends, and the last frame."""

    rows: dict[int, list] = field(default_factory=dict)
    chunks: list[int] = field(default_factory=list)
    columns: tuple | None = None
    end: frames.JobEnd | frames.Failed | None = None
    warnings: int = 0
    raw: bool = False  # keep row packets as they are
    late: bool = False  # the columns were read before

    @property
    def all_rows(self) -> list:
        return [row for found in self.rows.values() for row in found]

    def take(self, header, body) -> bool:
        """Note a frame; return whether it was the last."""
        if isinstance(header, frames.Whole):  # the same in one frame
            self.take(frames.Columns(header.columns), b"")
            if header.rows:
                self.take(frames.Rows(0, header.rows), body)
            self.take(
                frames.BatchEnd(0, (header.chunk,), header.rows, len(body), header.warnings, header.notes),
                b"",
            )
            header = frames.JobEnd()
        if isinstance(header, frames.Columns):
            assert self.columns is None
            self.columns = header.columns
        elif isinstance(header, frames.Rows):
            assert self.columns is not None or self.late
            found = [body] if self.raw else rows.split(body)
            assert rows.count(body) == header.rows
            self.rows.setdefault(header.batch, []).extend(found)
        elif isinstance(header, frames.BatchEnd):
            found = self.rows.get(header.batch, [])
            assert header.rows == (sum(map(rows.count, found)) if self.raw else len(found))
            assert not set(header.chunks) & set(self.chunks)
            self.chunks += header.chunks
            self.warnings += header.warnings
        else:
            assert isinstance(header, (frames.JobEnd, frames.Failed)), header
            self.end = header
        return self.end is not None


async def collect(link: AgentLink, **how: bool) -> Answer:
    """Read a job's frames to its end."""
    answer = Answer(**how)
    while not answer.take(*await link.receive()):
        pass
    return answer


@contextlib.asynccontextmanager
async def serving(serve):
    """Yield a port on which `serve(reader, writer)` answers; leaving waits until its connections are closed."""
    tasks = set()

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


def job(sql: str, chunks: list[int], **more: object) -> frames.Job:
    """Return a job; `#` in the text stands for the chunk's number."""
    segments = tuple(part.encode() for part in sql.split("#"))
    return frames.Job(
        query_id=1, database=more.pop("database", "ag"), main=frames.Template(segments), chunks=chunks, **more
    )


@contextlib.asynccontextmanager
async def asking(server):
    """Yield a connection of the test's own to a server."""
    connection = await RawConnection.open(server.address)
    try:
        yield connection
    finally:
        await connection.close()


async def running(server, text: str) -> int:
    """Return how many statements that contain `text` the server runs."""
    async with asking(server) as connection:
        found = await connection.fetch(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
            # a server forgets a statement a moment after its answer: an earlier look may still be seen
            f"WHERE INFO LIKE '%{text}%' AND INFO NOT LIKE '%information_schema.PROCESSLIST%'"
        )
    return int(found[0][0])


async def until(condition, seconds: float = 20, pause: float = 0.002) -> None:
    """Wait until an async condition holds, looking again after `pause` seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(pause)  # lets others run; what is waited for is the condition


async def until_running(server, text: str, number: int) -> None:
    """Wait until the server runs that many statements that contain `text`."""
    async with asyncio.timeout(15):
        while await running(server, text) != number:
            pass
