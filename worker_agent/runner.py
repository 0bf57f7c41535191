"""Runs one job: its chunks in parallel under the scheduler, rows out as raw blocks.

Chunks are sent one after the other in the order in which they were started: the first streams, the
others fill their spools meanwhile. Every MariaDB connection of a job gets its settings once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from shard.catalog.naming import quote
from shard.errors import ServerError
from shard.wire import frames
from shard.wire.packets import ColumnDefinition, PacketError
from worker_agent.scheduler import Scheduler, Start
from worker_agent.spool import Spool, SpoolFull, SpoolSpace

Send = Callable[[frames.Header, bytes], Awaitable[None]]


class JobFailed(Exception):  # noqa: N818 - it is what happened
    """The job cannot go on; holds the frame that says why."""

    def __init__(self, frame: frames.Failed) -> None:
        self.frame = frame
        super().__init__(frame.message)


class Floor:
    """What all jobs of an agent share: scheduler, connections, spool space."""

    def __init__(self, scheduler: Scheduler, pool: Pool, space: SpoolSpace) -> None:
        self.scheduler, self.pool, self.space = scheduler, pool, space
        self._jobs: dict[int, Callable[[int], None]] = {}
        self._next = 0

    def number(self) -> int:
        """Return a new job number."""
        self._next += 1
        return self._next

    def enter(self, number: int, chunks: list[int], interactive: bool, start: Callable[[int], None]) -> None:
        """Queue a job's chunks; `start` is called for each when its turn comes."""
        self._jobs[number] = start
        self._begin(self.scheduler.submit(number, chunks, interactive))

    def _begin(self, starts: list[Start]) -> None:
        for start in starts:
            self._jobs[start.job](start.chunk)

    def chunk_done(self, number: int) -> None:
        """Give a slot back."""
        self._begin(self.scheduler.finished(number))

    def leave(self, number: int) -> None:
        """Drop a job's waiting chunks."""
        self.scheduler.remove(number)

    def forget(self, number: int) -> None:
        """Forget a job whose chunks have all ended."""
        self._jobs.pop(number, None)
        self.scheduler.forget(number)


class JobRun:
    """One job from start to end."""

    def __init__(self, floor: Floor, job: frames.Job, send: Send) -> None:
        self._floor, self._job, self._send = floor, job, send
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._order: asyncio.Queue[tuple[int, Spool]] = asyncio.Queue()
        self._spools: list[Spool] = []
        self._idle: list[RawConnection] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._columns: tuple[frames.ColumnType, ...] | None = None
        self._told = False
        self._number = 0
        self._rows = 0

    async def run(self) -> None:
        """Run the job to its end: rows, BatchEnds, JobEnd.

        Raises
        ------
        JobFailed
            With the frame to send.
        """
        number = self._number = self._floor.number()
        self._floor.enter(number, self._job.chunks, self._job.interactive, self._start)
        sender = asyncio.ensure_future(self._send_all())
        try:
            await asyncio.wait({sender, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            await sender
        finally:
            self._floor.leave(number)
            sender.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(sender, *self._tasks, return_exceptions=True)
            self._floor.forget(number)
            for spool in self._spools:
                spool.close()
            await self._give_back()
            if self._failure.done() and not self._failure.cancelled():
                self._failure.exception()

    def _start(self, chunk: int) -> None:
        spool = Spool(self._floor.space)
        self._spools.append(spool)
        self._order.put_nowait((chunk, spool))
        task = asyncio.ensure_future(self._chunk(chunk, spool))
        self._tasks[task] = chunk
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None and not self._failure.done():
            self._failure.set_exception(task.exception() or RuntimeError())
        self._floor.chunk_done(self._number)

    async def _send_all(self) -> None:
        for batch in range(len(self._job.chunks)):
            chunk, spool = await self._order.get()
            rows = size = 0
            async for block in spool.blocks():
                await self._send_columns()
                await self._send(frames.Rows(batch, block.rows), block.data)
                rows += block.rows
                size += len(block.data)
                self._rows += block.rows
                if self._job.row_limit is not None and self._rows >= self._job.row_limit:
                    await self._send(frames.JobEnd(limited=True), b"")
                    return
            await self._send_columns()
            await self._send(frames.BatchEnd(batch, (chunk,), rows, size, spool.warnings), b"")
        await self._send(frames.JobEnd(), b"")

    async def _send_columns(self) -> None:
        if self._columns is not None:
            columns, self._columns = self._columns, None
            await self._send(frames.Columns(columns), b"")

    async def _chunk(self, chunk: int, spool: Spool) -> None:
        job = self._job
        try:
            connection = await self._connection()
            try:
                for template in job.setup:
                    await self._statement(connection, template, chunk)
                await self._main(connection, chunk, spool)
                for template in job.teardown:
                    await self._statement(connection, template, chunk)
            except asyncio.CancelledError:
                await self._kill(connection)
                raise
            except BaseException:
                connection.abort()
                raise
            self._idle.append(connection)
        except ServerError as error:
            retry = error.errno in (1146, 1053, 1927)
            raise JobFailed(frames.Failed(error.errno, error.sqlstate, error.message, retry)) from error
        except ConnectionLost as error:
            text = "the worker's MariaDB server cannot be reached"
            raise JobFailed(frames.Failed(2013, "HY000", text, retry=True)) from error
        except SpoolFull as error:
            text = "spool limit reached (spool_disk_bytes of the agent)"
            raise JobFailed(frames.Failed(1104, "42000", text)) from error
        except PacketError as error:
            raise JobFailed(frames.Failed(1835, "HY000", str(error))) from error

    async def _main(self, connection: RawConnection, chunk: int, spool: Spool) -> None:
        job = self._job
        sql = job.main.fill(chunk)
        if job.binary:
            result = await connection.execute(sql, [job.parameters[index] for index in job.main.parameters])
        else:
            result = await connection.query(sql)
        if not self._told:
            self._told = True
            self._columns = tuple(_column_type(payload) for payload in result.columns)
        async for block in result.blocks():
            spool.put(block)
        spool.end(result.end.warnings if result.end is not None else 0)

    async def _statement(self, connection: RawConnection, template: frames.Template, chunk: int) -> None:
        sql = template.fill(chunk)
        if template.parameters:
            result = await connection.execute(
                sql, [self._job.parameters[index] for index in template.parameters]
            )
            await result.drain()
        else:
            await connection.run(sql)

    async def _connection(self) -> RawConnection:
        if self._idle:
            return self._idle.pop()
        connection = await self._floor.pool.borrow()
        job = self._job
        try:
            if job.database:
                await connection.run(f"USE {quote(job.database)}")
            items = [f"SESSION {quote(name)}={value}" for name, value in job.settings.items()]
            items += [f"@{quote(name)}={value}" for name, value in job.variables.items()]
            if items:
                await connection.run("SET " + ", ".join(items))
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _kill(self, connection: RawConnection) -> None:
        """Stop the statement that runs on a connection, and the connection."""
        if connection.busy or not connection.closed:
            with contextlib.suppress(ServerError, ConnectionLost, OSError):
                await asyncio.shield(connection.kill_query(self._floor.pool.address))
        connection.abort()

    async def _give_back(self) -> None:
        for connection in self._idle:
            with contextlib.suppress(ServerError, ConnectionLost):
                await connection.reset()
            await self._floor.pool.put(connection)
        self._idle.clear()


def _column_type(payload: bytes) -> frames.ColumnType:
    column = ColumnDefinition.decode(payload)
    return frames.ColumnType(column.type, bool(column.flags & 32), column.decimals, column.charset)
