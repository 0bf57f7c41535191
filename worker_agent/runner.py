"""Runs one job: its chunks in parallel under the scheduler, rows out as raw blocks.

Every chunk fills its spool. A chunk that has ended is sent before one that still runs, so that a slow
chunk holds nobody up; of those that run, the one that was begun first streams. A job whose rows nobody
takes begins no further chunk once its spools hold `job_bytes`. Every MariaDB connection of a job gets its
settings once.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection, Result, RowBlock
from backend.pool import Pool
from backend.tasks import to_the_end
from shard.errors import ServerError
from shard.wire import frames
from shard.wire.immediate import immediate
from shard.wire.packets import PacketError
from shard.wire.recode import Recoder
from worker_agent.scheduler import Scheduler, Start
from worker_agent.spool import Spool, SpoolFull, SpoolSpace
from worker_agent.warm import WarmPool

_FIXED = 13
"""Bytes at the end of a column definition whose places are fixed, their number included."""
_TAIL = struct.Struct("<HIBHB")
_UNSIGNED = 32
MOST_NOTES = 64
"""Warnings a job reports by text; the others are counted."""

ELSEWHERE = frozenset(
    {1016, 1017, 1021, 1026, 1030, 1033, 1034, 1035, 1040, 1053, 1146, 1194, 1195, 1927, 1932}
)
"""Errors that another replica need not have: the server goes down or is full, a table is missing or damaged."""

Send = Callable[[frames.Header, bytes], Awaitable[None]]


class JobFailed(Exception):  # noqa: N818 - it is what happened
    """The job cannot go on; holds the frame that says why."""

    def __init__(self, frame: frames.Failed) -> None:
        self.frame = frame
        super().__init__(frame.message)


class Floor:
    """What all jobs of an agent share: scheduler, connections, spool space.

    `job_bytes` is what the spools of one job may hold before it begins no further chunk.
    """

    def __init__(self, scheduler: Scheduler, pool: Pool, space: SpoolSpace, job_bytes: int) -> None:
        self.scheduler, self.pool, self.space, self.job_bytes = scheduler, pool, space, job_bytes
        self.warm = WarmPool(pool)
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

    def leave(self, number: int) -> list[int]:
        """Drop a job's waiting chunks and return them."""
        return self.scheduler.remove(number)

    def forget(self, number: int) -> None:
        """Forget a job whose chunks have all ended."""
        self._jobs.pop(number, None)
        self.scheduler.forget(number)


class JobRun:
    """One job from start to end."""

    def __init__(self, floor: Floor, job: frames.Job, send: Send) -> None:
        self._floor, self._job, self._send = floor, job, send
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._spools: dict[int, tuple[int, Spool]] = {}
        self._changed = asyncio.Event()
        self._idle: list[RawConnection] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._columns: tuple[frames.ColumnType, ...] | None = None
        self._told = False
        self._number = self._batches = self._rows = self._noted = self._spooled = 0
        self._paused: list[int] = []
        self._within: int | None = None  # the batch of which a row has been sent in part
        self.chunks_done = self.bytes_sent = 0

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
            await to_the_end(self._clean_up(sender))

    async def _clean_up(self, sender: asyncio.Future[None]) -> None:
        """Stop what still runs and give everything back."""
        self._floor.leave(self._number)
        sender.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(sender, *self._tasks, return_exceptions=True)
        self._floor.forget(self._number)
        for _, spool in self._spools.values():
            spool.close()
        await self._give_back()
        if self._failure.done() and not self._failure.cancelled():
            self._failure.exception()

    def _start(self, chunk: int) -> None:
        spool = Spool(self._floor.space, self._changed.set)
        self._spools[self._batches] = chunk, spool
        self._batches += 1
        task = asyncio.ensure_future(self._chunk(chunk, spool))
        self._tasks[task] = chunk
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None and not self._failure.done():
            self._failure.set_exception(task.exception() or RuntimeError())
        self._floor.chunk_done(self._number)

    async def _send_all(self) -> None:
        for _ in self._job.chunks:
            while not await self._send_batch():
                self._changed.clear()
                await self._changed.wait()
            if self._limited():
                await self._send(frames.JobEnd(limited=True), b"")
                return
        await self._send(frames.JobEnd(), b"")

    def _limited(self) -> bool:
        return self._job.row_limit is not None and self._rows >= self._job.row_limit

    async def _send_batch(self) -> bool:
        """Send what can be sent; return True once a chunk is complete or the job has rows enough."""
        while (batch := self._sendable()) is not None:
            chunk, spool = self._spools[batch]
            if spool.empty:  # and ended
                await self._send_columns()
                end = frames.BatchEnd(batch, (chunk,), spool.rows, spool.size, spool.warnings, spool.notes)
                await self._send(end, b"")
                del self._spools[batch]
                spool.close()
                self.chunks_done += 1
                return True
            await self._send_columns()
            block = await spool.get()
            self._note_spooled(-len(block.data))
            await self._send(frames.Rows(batch, block.rows, block.more), block.data)
            self._within = batch if block.more else None
            self._rows += block.rows
            self.bytes_sent += len(block.data)
            if self._limited():
                return True
        return False

    def _note_spooled(self, size: int) -> None:
        """Count what the spools hold; past the limit, begin no chunk until half of it has been taken."""
        self._spooled += size
        if self._spooled > self._floor.job_bytes:
            self._paused += self._floor.leave(self._number)
        elif self._paused and self._spooled <= self._floor.job_bytes // 2:
            chunks, self._paused = self._paused, []
            self._floor.enter(self._number, chunks, self._job.interactive, self._start)

    def _sendable(self) -> int | None:
        """Return the batch to send of: one that has ended, else the first to run if it has rows.

        A job with a row limit takes rows from wherever they are. A row that has been sent in part comes first.
        """
        if self._within is not None:
            return None if self._spools[self._within][1].empty else self._within
        found: int | None = None
        oldest = True
        for batch, (_, spool) in self._spools.items():
            if spool.ended:
                return batch
            if found is None and not spool.empty and (oldest or self._job.row_limit is not None):
                found = batch
            oldest = False
        return found

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
                await kill(connection, self._floor.pool.address)
                raise
            except BaseException:
                connection.abort()
                raise
            self._idle.append(connection)
        except Exception as error:
            raise refusal(error) from error

    async def _main(self, connection: RawConnection, chunk: int, spool: Spool) -> None:
        asked = await ask(connection, self._job, chunk)
        if not self._told:
            self._told = True
            self._columns = asked.types
        async for block in asked.result.blocks(pieces=asked.recoder is None):
            data = asked.recoded(block)
            await spool.put(data)
            self._note_spooled(len(data.data))
        warnings, notes = await notes_of(connection, asked.result, MOST_NOTES - self._noted)
        self._noted += len(notes)
        spool.end(warnings, notes)

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
        return await self._floor.warm.borrow(self._job)

    async def _give_back(self) -> None:
        while self._idle:
            await self._floor.warm.give(self._idle.pop(), self._job)


@dataclass(frozen=True, slots=True)
class Asked:
    """A chunk's answer before its rows: their types, and what gives them those the proxy wants."""

    result: Result
    types: tuple[frames.ColumnType, ...]
    recoder: Recoder | None

    def recoded(self, block: RowBlock) -> RowBlock:
        """Return a block in the types that the proxy wants."""
        return block if self.recoder is None else RowBlock(self.recoder.rows(block.data), block.rows)


async def ask(connection: RawConnection, job: frames.Job, chunk: int) -> Asked:
    """Run a job's main statement for a chunk."""
    sql = job.main.fill(chunk)
    picked = [job.parameters[index] for index in job.main.parameters]
    if job.binary:
        result = await connection.execute(sql, picked)
    else:
        result = await connection.query(immediate(sql, picked, job.charset) if picked else sql)
    types = tuple(_column_type(payload) for payload in result.columns)
    recoder = None
    if job.binary and job.wanted:
        recoder = Recoder([(column.type, column.unsigned) for column in types], job.wanted)
        types = tuple(
            msgspec.structs.replace(column, type=kind) for column, kind in zip(types, job.wanted, strict=True)
        )
    return Asked(result, types, recoder if recoder is not None and recoder.needed else None)


async def notes_of(
    connection: RawConnection, result: Result, most: int
) -> tuple[int, tuple[frames.Note, ...]]:
    """Return how many conditions a statement ended with, and the first of them."""
    warnings = result.end.warnings if result.end is not None else 0
    if not warnings or most <= 0:
        return warnings, ()
    found = await connection.fetch(f"SHOW WARNINGS LIMIT {most}")
    texts = [[(value or b"").decode("utf-8", "replace") for value in row] for row in found]
    return warnings, tuple(frames.Note(level, int(code), message) for level, code, message in texts)


async def kill(connection: RawConnection, address: Address) -> None:
    """Stop the statement that runs on a connection, and the connection."""
    try:
        if connection.busy:
            with contextlib.suppress(ServerError, ConnectionLost, OSError, TimeoutError):
                await to_the_end(connection.kill_query(address))
    finally:
        connection.abort()


def refusal(error: Exception) -> Exception:
    """Return what to tell the proxy of an error; what is none of a query's stays as it is."""
    if isinstance(error, ServerError):
        retry = error.errno in ELSEWHERE
        return JobFailed(frames.Failed(error.errno, error.sqlstate, error.message, retry))
    if isinstance(error, ConnectionLost):
        text = "the worker's MariaDB server cannot be reached"
        return JobFailed(frames.Failed(2013, "HY000", text, retry=True))
    if isinstance(error, SpoolFull):
        return JobFailed(frames.Failed(1104, "42000", str(error)))
    if isinstance(error, PacketError):
        return JobFailed(frames.Failed(1835, "HY000", str(error)))
    return error


def _column_type(payload: bytes) -> frames.ColumnType:
    """Read what is at a fixed place from a column definition's end; names and table are of no interest."""
    if len(payload) < _FIXED or payload[-_FIXED] != _FIXED - 1:
        raise PacketError("malformed column definition")
    charset, _, kind, flags, decimals = _TAIL.unpack_from(payload, len(payload) - _FIXED + 1)
    return frames.ColumnType(kind, bool(flags & _UNSIGNED), decimals, charset)
