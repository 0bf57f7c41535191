"""Runs one job: its chunks in parallel under the scheduler, rows out as raw blocks.

Chunks that take little time are run several at once: a batch's statements are sent together. Every batch
fills its spool. A batch that has ended is sent before one that still runs, so that a slow chunk holds
nobody up; of those that run, the one that was begun first streams. A job whose rows nobody takes begins no
further batch once its spools hold `job_bytes`. Every MariaDB connection of a job gets its settings once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection, RowBlock
from backend.pool import Pool
from backend.tasks import to_the_end
from shard.errors import ServerError
from shard.wire import frames
from shard.wire.packets import PacketError
from worker_agent.batch import Batch, together
from worker_agent.joint import may_be_joint
from worker_agent.scheduler import Scheduler, Start
from worker_agent.spool import Spool, SpoolFull, SpoolSpace
from worker_agent.warm import WarmPool

MOST_NOTES = 64
"""Warnings a job reports by text; the others are counted."""
BATCH_S = 0.02
"""Seconds that a batch of chunks should take whose rows may be wanted soon."""
JOINT_S = 0.5
"""Seconds that one statement over the tables of several chunks should take: its rows are merged when all are there."""
JOINT_LONG_S = 2.0
"""The same where chunks have many groups each: the more of them meet in one statement, the fewer rows are merged."""
MANY_BYTES = 1 << 15
"""Bytes of a chunk's rows, by now, that are many groups."""
JOINT_WORTH_S = 0.01
"""Seconds that chunks should take for a joint statement to be worth its union's: some 0.8 ms, and 24 µs a chunk."""
END_S = 0.05
"""Seconds that a job with rows enough waits to hear whether its last statements end with warnings."""
BATCH_BYTES = 1 << 20
"""Bytes of a batch's statements."""
MOST_CHUNKS = 200
"""Chunks of a batch; more of them together take no less time."""

_TABLE_FULL = 1114
ELSEWHERE = frozenset(
    {1016, 1017, 1021, 1026, 1030, 1032, 1033, 1034, 1035, 1040, 1053, 1146, 1168, 1194, 1195, 1927, 1932}
)
"""Errors that another replica need not have: the server goes down or is full, a table is missing or damaged."""

Send = Callable[[frames.Header, bytes | bytearray], Awaitable[None]]


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
        self._jobs: dict[int, Callable[[tuple[int, ...]], None]] = {}
        self._next = 0

    def number(self) -> int:
        """Return a new job number."""
        self._next += 1
        return self._next

    def enter(
        self, number: int, job: frames.Job, chunks: Sequence[int], start: Callable[[tuple[int, ...]], None]
    ) -> None:
        """Queue chunks of a job; `start` is called with each batch of them when its turn comes."""
        self._jobs[number] = start
        self._begin(self.scheduler.submit(number, chunks, job.interactive, job.user))

    def _begin(self, starts: list[Start]) -> None:
        for start in starts:
            self._jobs[start.job](start.chunks)

    def end_one(self) -> None:
        """Give the slot of a look-up back (`Scheduler.begin_one`)."""
        self._begin(self.scheduler.end_one())

    def batch_done(self, number: int, seconds: float) -> None:
        """Give a slot back after so many seconds."""
        self._begin(self.scheduler.finished(number, seconds))

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
        self._tasks: set[asyncio.Task[None]] = set()
        self._spools: dict[int, tuple[tuple[int, ...], Spool]] = {}
        self._left = len(job.chunks)
        self._width = 1
        self._changed = asyncio.Event()
        self._idle: list[RawConnection] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._columns: tuple[frames.ColumnType, ...] | None = None
        self._told = False
        self._number = self._batches = self._rows = self._noted = self._spooled = self._found = 0
        self._seconds, self._measured = 0.0, 0  # of batches that have ended, and their chunks
        self._paused: list[int] = []
        self._within: int | None = None  # the batch of which a row has been sent in part
        self._joint, self._took = may_be_joint(job), 0.0
        self.chunks_done = self.joint_chunks = self.bytes_sent = 0

    async def run(self) -> None:
        """Run the job to its end: rows, BatchEnds, JobEnd.

        Raises
        ------
        JobFailed
            With the frame to send.
        """
        number = self._number = self._floor.number()
        self._floor.enter(number, self._job, self._job.chunks, self._start)
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

    def _start(self, chunks: tuple[int, ...]) -> None:
        spool = Spool(self._floor.space, self._changed.set)
        self._spools[self._batches] = chunks, spool
        self._batches += 1
        self._left -= len(chunks)
        task = asyncio.ensure_future(self._batch(chunks, spool))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, time.monotonic()))

    def _done(self, started: float, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failure.done():
            self._failure.set_exception(task.exception() or RuntimeError())
        self._floor.batch_done(self._number, time.monotonic() - started)

    async def _send_all(self) -> None:
        while self.chunks_done < len(self._job.chunks):
            while not await self._send_batch():
                self._changed.clear()
                await self._changed.wait()
            if self._limited():
                await self._send(await self._early_end(), b"")
                return
        await self._send(frames.JobEnd(), b"")

    async def _early_end(self) -> frames.JobEnd:
        """Return the end of a job that has sent rows enough, with what the batches of these rows had to say.

        Their statements have the limit, too, and end with the last row: that is waited for, but not for long.
        """
        taken = [spool for _, spool in self._spools.values() if spool.rows]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while not all(spool.ended for spool in taken):
                    self._changed.clear()
                    await self._changed.wait()
        said = tuple(note for spool in taken for note in spool.notes)
        return frames.JobEnd(limited=True, warnings=sum(spool.warnings for spool in taken), notes=said)

    def _limited(self) -> bool:
        return self._job.row_limit is not None and self._rows >= self._job.row_limit

    async def _send_batch(self) -> bool:
        """Send what can be sent; return True once a batch is complete or the job has rows enough."""
        while (batch := self._sendable()) is not None:
            chunks, spool = self._spools[batch]
            if spool.empty:  # and ended
                await self._send_columns()
                end = frames.BatchEnd(batch, chunks, spool.rows, spool.size, spool.warnings, spool.notes)
                await self._send(end, b"")
                del self._spools[batch]
                spool.close()
                self.chunks_done += len(chunks)
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

    def _note_found(self, rows: int) -> None:
        """Begin no further batch once there are as many rows as are wanted, though they wait to be sent."""
        self._found += rows
        if self._job.row_limit is not None and self._found >= self._job.row_limit:
            self._floor.leave(self._number)

    def _note_spooled(self, size: int) -> None:
        """Count what the spools hold; past the limit, begin no chunk until half of it has been taken."""
        self._spooled += size
        if self._spooled > self._floor.job_bytes:
            self._paused += self._floor.leave(self._number)
        elif self._paused and self._spooled <= self._floor.job_bytes // 2:
            chunks, self._paused = self._paused, []
            self._floor.enter(self._number, self._job, chunks, self._start)

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

    async def _batch(self, chunks: tuple[int, ...], spool: Spool) -> None:
        started = time.monotonic()
        warnings = size = 0
        notes: list[frames.Note] = []
        left = chunks
        while left:
            job = self._job
            worth = self._took * len(left) >= JOINT_WORTH_S
            batch = Batch(job, left, MOST_NOTES - self._noted, self._joint and worth)
            try:
                await self._run_batch(batch, job, spool)
                left = ()
            except Exception as error:
                if not _fills_memory(error, batch, job):
                    raise refusal(error, batch.at_fault) from error
                left = left[left.index(batch.chunk) :]
                await self._use_disk(job)
            warnings += batch.warnings
            notes += batch.notes
            self._noted += len(batch.notes)
            size += batch.size
            self._joint = self._joint and not batch.refused
            self.joint_chunks += batch.joint_chunks
        try:
            self._tell(batch)
        except PacketError as error:
            raise refusal(error, batch.chunk) from error
        seconds = time.monotonic() - started
        self._measure(seconds, len(chunks))
        if together(self._job):
            self._widen(seconds / len(chunks), size // len(chunks))
        spool.end(warnings, tuple(notes))

    async def _run_batch(self, batch: Batch, job: frames.Job, spool: Spool) -> None:
        connection = await self._connection()
        try:
            async for block in batch.run(connection):
                self._tell(batch)
                await self._keep(batch, spool, block)
        except BaseException:
            await kill(connection, self._floor.pool.address)
            raise
        if job is self._job:
            self._idle.append(connection)
        else:  # it has other settings than the job has now
            await self._floor.warm.give(connection, job)

    async def _keep(self, batch: Batch, spool: Spool, block: RowBlock) -> None:
        """Hold rows of the chunk that a batch is at until they can be sent."""
        await spool.put(block)
        batch.size += len(block.data)
        self._note_spooled(len(block.data))
        self._note_found(block.rows)

    async def _use_disk(self, job: frames.Job) -> None:
        """Make the temporary tables of all further chunks on disk."""
        if job is self._job:
            settings = job.settings | {frames.ENGINE_SETTING: frames.ON_DISK}
            self._job = msgspec.structs.replace(job, settings=settings)
            idle, self._idle = self._idle, []
            for connection in idle:
                await self._floor.warm.give(connection, job)

    def _tell(self, batch: Batch) -> None:
        """Send the types of the rows, once, before any row."""
        if not self._told:
            self._told, self._columns = True, batch.types

    def _measure(self, seconds: float, chunks: int) -> None:
        """Tell the scheduler the average: a single chunk that had to wait for something says little."""
        self._seconds += seconds
        self._measured += chunks
        self._floor.scheduler.pace(self._number, self._seconds / self._measured)

    def _widen(self, took: float, size: int) -> None:
        """Choose how many chunks the next batch has, now that one has shown what seconds a chunk takes, and bytes it has.

        Up to `commit_bytes` of a batch can be had from another replica, should this worker fail.
        """
        self._took = took
        seconds = BATCH_S
        if self._joint:
            seconds = JOINT_LONG_S if size >= MANY_BYTES else JOINT_S
        best = int(seconds / max(took, 1e-6))
        best = min(best, self._job.commit_bytes // 2 // max(1, size))
        share = self._left // self._floor.scheduler.slots
        share = share if self._joint else share // 2
        length = BATCH_BYTES // _chunk_bytes(self._job)
        grown = self._width * (16 if self._joint else 4)
        self._width = max(1, min(best, grown, MOST_CHUNKS, share, length))
        self._floor.scheduler.widen(self._number, self._width)

    async def _connection(self) -> RawConnection:
        if self._idle:
            return self._idle.pop()
        return await self._floor.warm.borrow(self._job)

    async def _give_back(self) -> None:
        while self._idle:
            await self._floor.warm.give(self._idle.pop(), self._job)


def _fills_memory(error: Exception, batch: Batch, job: frames.Job) -> bool:
    """Whether a chunk has failed because its temporary tables do not fit into memory, before it had a row."""
    full = isinstance(error, ServerError) and error.errno == _TABLE_FULL and not batch.answers
    return full and job.settings.get(frames.ENGINE_SETTING) == frames.IN_MEMORY


def _chunk_bytes(job: frames.Job) -> int:
    """Return about how many bytes one chunk adds to what a batch sends: statements, and their parameters each time."""
    templates = (*job.setup, job.main, *job.teardown)
    texts = sum(len(segment) for template in templates for segment in template.segments)
    values = sum(
        len(job.parameters[index].value or b"") for template in templates for index in template.parameters
    )
    lists = sum(len(template.lists) for template in templates)
    keys = lists * max(map(len, job.keys.values()), default=0)
    return max(1, texts + keys + 2 * values)  # a value written as text may need twice its bytes


async def kill(connection: RawConnection, address: Address) -> None:
    """End a connection, and what it has been asked to run, at the server too."""
    try:
        if connection.busy and not connection.closed:
            with contextlib.suppress(ServerError, ConnectionLost, OSError, TimeoutError):
                await to_the_end(connection.kill(address))
    finally:
        connection.abort()


def refusal(error: Exception, chunk: int | None) -> Exception:
    """Return what to tell the proxy of an error in a chunk; what is none of a query's stays as it is."""
    if isinstance(error, ServerError):
        retry = error.errno in ELSEWHERE
        return JobFailed(frames.Failed(error.errno, error.sqlstate, error.message, retry, chunk))
    if isinstance(error, ConnectionLost):
        text = "the worker's MariaDB server cannot be reached"
        return JobFailed(frames.Failed(2013, "HY000", text, True, chunk))
    if isinstance(error, SpoolFull):
        return JobFailed(frames.Failed(frames.SPOOL_FULL, "42000", str(error), True, chunk))
    if isinstance(error, PacketError):
        return JobFailed(frames.Failed(1835, "HY000", str(error), chunk=chunk))
    return error
