"""The shell around the dispatch core: agents' sockets in, released rows out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

from backend.agent_link import AgentLink, AgentPool, LinkLost, LinkSilent
from backend.connection import RowBlock
from proxy.execute.budget import ByteBudget
from proxy.execute.copies import Copies
from proxy.execute.core import (
    Abort,
    Discard,
    DispatchCore,
    Fail,
    Failure,
    Finish,
    Forward,
    Instruction,
    Loss,
    Park,
    StartJob,
)
from proxy.execute.health import Health
from proxy.execute.memory import Trimmer
from proxy.execute.work import Work, chunk_tables, scrubbed
from shard.errors import (
    FRAGMENT_FAILED,
    INTERNAL,
    INTERRUPTED,
    SERVER_GONE,
    SERVER_LOST,
    SPOOL_FULL,
    TOO_MANY_CONNECTIONS,
    WORKER_DOWN,
    WORKER_LOST,
    WORKER_RELEASE,
    ServerError,
    SkyError,
)
from shard.wire import frames, rows
from shard.wire.packets import same_encoding

log = logging.getLogger("skyshard.query")
_GONE = SERVER_GONE | {TOO_MANY_CONNECTIONS.errno, INTERRUPTED.errno}
"""Errors of a worker whose server is gone. Others that are worth another try are about its tables."""
_FULL = frozenset({1021, frames.SPOOL_FULL})
"""What a worker says whose disk or spool is full; its copy is good."""


RETURN_S = 5.0
"""Seconds that a query waits for a worker to come back when all that have a chunk are away."""
_LOOK_S = 0.1


class _Lacking(Exception):  # noqa: N818 - it is what happened
    """The worker is missing chunks of the job, or its copies are damaged."""


@dataclass(frozen=True, slots=True)
class Said:
    """How many warnings came with the rows that follow in the queue, and the first of them."""

    warnings: int
    notes: tuple[frames.Note, ...]


class End:
    """Ends the queue of released blocks."""


class RowStream:
    """Released rows of one query, as blocks."""

    def __init__(
        self, work: Work, agents: AgentPool, budget: ByteBudget, health: Health, copies: Copies
    ) -> None:
        self._work, self._agents, self._budget, self._health = work, agents, budget, health
        self._copies = copies
        bad = copies.bad(work.job.database, work.version, work.placement)
        self._core = DispatchCore(work.placement, work.job.commit_bytes, health.suspects(), bad)
        self._queue: asyncio.Queue[RowBlock | Said | End | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[int, dict[int, list[RowBlock]]] = {}
        self._scopes: dict[int, asyncio.Timeout] = {}  # of jobs that run; expiring one gives its job up
        self._given_up: set[int] = set()
        self._unreachable: dict[int, SkyError] = {}  # by worker: why
        self._complaints: dict[int, frames.Failed] = {}  # by worker: why it could not do its last job
        self._trouble: dict[int, float] = {}  # by worker: since when it has been away
        self._came: dict[tuple[int, int], int] = {}  # (job, batch) → rows
        self._open: dict[int, int] = {}  # jobs whose last block ends within a row, and its batch
        self._within: int | None = None  # the job of which the queue's end holds a row in part
        self._deferred: dict[int, list[RowBlock]] = {}  # other jobs' blocks meanwhile
        self._counted = 0
        self._chunk_tables = chunk_tables(work.job)
        self._moved = asyncio.Event()
        self._hungry = True  # nothing is queued, and what was taken has been sent
        self.columns: tuple[frames.ColumnType, ...] | None = None
        self.warnings = 0
        self.notes: list[frames.Note] = []
        self.bytes = 0

    def begin(self) -> None:
        """Start the jobs."""
        self._budget.watch(self._moved)
        self._health.watch(self._suspected, self._returned)
        self._obey(self._core.start())

    def _suspected(self, worker: int) -> None:
        self._obey(self._core.suspected(worker))

    def _returned(self, worker: int) -> None:
        self._obey(self._core.returned(worker))

    def _obey(self, instructions: list[Instruction]) -> None:
        for item in instructions:
            if isinstance(item, StartJob):
                self._begin(self._job(item))
            elif isinstance(item, Forward):
                self._put(item.job, self._held.get(item.job, {}).pop(item.batch, []))
            elif isinstance(item, Discard):
                for blocks in self._held.pop(item.job, {}).values():
                    self._release(sum(len(block.data) for block in blocks))
            elif isinstance(item, Park):
                self._begin(self._wait_for(item.park, frozenset(item.workers)))
            elif isinstance(item, Abort):
                self._given_up.add(item.job)
                if (scope := self._scopes.get(item.job)) is not None:
                    scope.reschedule(0)
            elif isinstance(item, Finish):
                self._queue.put_nowait(End())
            elif isinstance(item, Fail):
                self._queue.put_nowait(self._error(item))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait_for(self, park: int, workers: frozenset[int]) -> None:
        """Wait until one of these workers answers, or for so long that the query must fail."""
        loop = asyncio.get_running_loop()
        deadline = RETURN_S + max(
            (self._trouble[one] for one in workers & set(self._trouble)), default=loop.time()
        )
        while not (back := workers - self._health.suspects()):
            if loop.time() >= deadline:
                break
            await asyncio.sleep(_LOOK_S)
        for worker in back:
            self._trouble.pop(worker, None)
        self._obey(self._core.resume(park, back))

    def _put(self, job: int, blocks: list[RowBlock]) -> None:
        """Release a job's blocks; nothing comes between the pieces of a row."""
        for block in blocks:
            if self._within not in (None, job):
                self._deferred.setdefault(job, []).append(block)
                continue
            self._queue.put_nowait(block)
            self._hungry = False
            self._within = job if block.more else None
        while self._within is None and self._deferred:
            other = next(iter(self._deferred))
            self._put(other, self._deferred.pop(other))

    def _name(self, worker: int) -> str:
        return self._agents.name(worker)

    def _error(self, fail: Fail) -> SkyError:
        if fail.reason is Failure.PROTOCOL:
            return SkyError(INTERNAL, query_id=self._work.query_id)
        said = self._complaints.get(fail.worker)
        if said is not None and said.retry and said.errno == frames.SPOOL_FULL:
            return SkyError(SPOOL_FULL, worker=self._name(fail.worker), message=self._scrubbed(said.message))
        if fail.reason is Failure.DOWN and said is not None and said.errno not in _GONE:
            text = self._scrubbed(said.message)
            return SkyError(FRAGMENT_FAILED, worker=self._name(fail.worker), message=text)
        if fail.reason is not Failure.LOST and fail.worker in self._unreachable:
            return self._unreachable[fail.worker]
        code = WORKER_LOST if fail.reason is Failure.LOST else WORKER_DOWN
        return SkyError(code, worker=self._name(fail.worker))

    def _release(self, size: int) -> None:
        self._counted -= size
        self._budget.give(size)

    async def _job(self, start: StartJob) -> None:
        try:
            loss = await self._attempt(start)
        except SkyError as error:
            self._queue.put_nowait(error)
        except asyncio.CancelledError:
            return  # only `close` cancels jobs; a task that keeps the exception keeps the blocks of its frames
        except BaseException as error:
            self._queue.put_nowait(error)
        else:
            if loss is not None:
                self._obey(self._core.job_lost(start.job, loss))

    async def _attempt(self, start: StartJob) -> Loss | None:
        """Run a job; return why it did not come to its end, if another replica may do better."""
        link: AgentLink | None = None
        if start.job in self._given_up:
            return Loss.LOST
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self._budget.enter()
        try:
            async with asyncio.timeout(None) as scope:
                self._scopes[start.job] = scope
                link = await self._agents.get(start.worker)
                await link.send(self._work.share(start.chunks))
                if await self._read(start, link):
                    self._agents.put(start.worker, link)
                    link = None
        except _Lacking:
            return Loss.LACKING
        except LinkLost as error:
            silent = isinstance(error, LinkSilent)
            self._trouble.setdefault(start.worker, loop.time() - (self._agents.silence_s if silent else 0.0))
            self._health.doubt(start.worker)
            return Loss.DOWN if silent else Loss.LOST
        except TimeoutError:
            if start.job not in self._given_up:
                raise
            return Loss.LOST
        except SkyError as error:
            if error.code not in (WORKER_DOWN, WORKER_RELEASE):
                raise
            self._unreachable[start.worker] = error
            self._trouble.setdefault(start.worker, asked)
            self._health.doubt(start.worker)
            return Loss.DOWN
        finally:
            self._scopes.pop(start.job, None)
            self._budget.leave()
            if link is not None:
                link.abort()
        return None

    async def _read(self, start: StartJob, link: AgentLink) -> bool:
        """Read a job's frames to its end; return whether the connection can be used again."""
        while True:
            while self._must_wait(start.job):
                self._moved.clear()
                await self._moved.wait()
            header, body = await link.receive(self._agents.silence_s)
            if start.job in self._given_up:  # its chunks go to others: what it still says must not count
                raise TimeoutError
            if start.job in self._open and isinstance(header, (frames.BatchEnd, frames.JobEnd)):
                raise SkyError(INTERNAL, query_id=self._work.query_id)
            if isinstance(header, frames.Rows):
                self._rows(start.job, header, body)
            elif isinstance(header, frames.BatchEnd):
                self._end_batch(start.job, header)
            elif isinstance(header, frames.Columns):
                self._columns(start.job, header)
            elif isinstance(header, frames.JobEnd):
                self._note(header.warnings, header.notes)
                if header.limited:
                    self._obey(self._core.job_limited(start.job))
                    return True
                self._obey(self._core.job_end(start.job))
                return True
            elif isinstance(header, frames.Whole):
                self._whole(start.job, header, body)
                return True
            elif isinstance(header, frames.Failed):
                self._complaints[start.worker] = header
                if header.retry and header.errno in _GONE:
                    raise LinkLost(header.message)
                if header.retry:
                    self._note_bad(header, start.worker)
                    raise _Lacking
                raise self._failure(header, start.worker)
            else:
                raise LinkLost("unexpected frame")

    def _note_bad(self, failed: frames.Failed, worker: int) -> None:
        """Let later queries ask others for a copy that is missing or damaged."""
        if failed.chunk is not None and failed.errno not in _FULL:
            self._copies.note(self._work.job.database, self._work.version, failed.chunk, worker)
            log.warning(
                "query %s: worker %s, chunk %s: error %s; the copy is asked last from now on",
                self._work.query_id, self._name(worker), failed.chunk, failed.errno,
            )  # fmt: skip

    def _whole(self, job: int, header: frames.Whole, body: bytes | bytearray) -> None:
        """Take a job's answer in one frame apart."""
        self._columns(job, frames.Columns(header.columns))
        if header.rows:
            self._rows(job, frames.Rows(0, header.rows), body)
        self._end_batch(
            job, frames.BatchEnd(0, (header.chunk,), header.rows, len(body), header.warnings, header.notes)
        )
        self._obey(self._core.job_end(job))

    def _end_batch(self, job: int, header: frames.BatchEnd) -> None:
        if self._came.pop((job, header.batch), 0) != header.rows:
            raise SkyError(INTERNAL, query_id=self._work.query_id)
        self._note(header.warnings, header.notes)
        self._obey(self._core.batch_end(job, header.batch, header.chunks))
        self._work.on_progress(self._progress())

    def _progress(self) -> int:
        """Return how many chunks have been run."""
        return self._core.done

    def _note(self, warnings: int, notes: tuple[frames.Note, ...]) -> None:
        """Queue warnings before their rows: of a query that stops early, those of rows that it took count."""
        if warnings:
            self._queue.put_nowait(Said(warnings, notes))

    def _must_wait(self, job: int) -> bool:
        """Whether a job must not be read on: too many bytes are held, and the query's client has rows to read meanwhile."""
        return self._full() and (not self._hungry or self._within not in (None, job))

    def _full(self) -> bool:
        return self._budget.full(self._counted)

    def _rows(self, job: int, header: frames.Rows, body: bytes | bytearray) -> None:
        self._count(job, header, len(body))
        held = self._held.setdefault(job, {})
        held.setdefault(header.batch, []).append(RowBlock(body, header.rows, header.more))
        crowded = self._full() and self._hungry
        answer = self._core.rows(job, header.batch, len(body), must_stream=crowded)
        if isinstance(answer, Forward):
            self._obey([answer])

    def _count(self, job: int, header: frames.Rows, size: int) -> None:
        """Count rows that have come, and check that no row is cut."""
        self._budget.add(size)
        self._counted += size
        self.bytes += size
        self._came[job, header.batch] = self._came.get((job, header.batch), 0) + header.rows
        if self._open.pop(job, header.batch) != header.batch:
            raise SkyError(INTERNAL, query_id=self._work.query_id)
        if header.more:
            self._open[job] = header.batch

    def _columns(self, job: int, header: frames.Columns) -> None:
        del job
        if self.columns is None:
            self.columns = header.columns
        elif len(self.columns) != len(header.columns) or not all(
            same_encoding(mine.type, theirs.type, self._work.job.binary)
            for mine, theirs in zip(self.columns, header.columns, strict=True)
        ):
            raise SkyError(INTERNAL, query_id=self._work.query_id)

    def _failure(self, failed: frames.Failed, worker: int) -> SkyError:
        text = self._scrubbed(failed.message)
        log.info(
            "query %s: worker %s, chunk %s: error %s",
            self._work.query_id, self._name(worker), failed.chunk, failed.errno,
        )  # fmt: skip
        if failed.errno in (SERVER_LOST, WORKER_DOWN.errno):
            return SkyError(FRAGMENT_FAILED, worker=self._name(worker), message=text)
        return ServerError(failed.errno, failed.sqlstate, text)

    def _scrubbed(self, text: str) -> str:
        return scrubbed(text, self._chunk_tables)

    def __aiter__(self) -> AsyncIterator[RowBlock]:
        return self._blocks()

    async def _blocks(self) -> AsyncIterator[RowBlock]:
        left = self._work.limit_rows
        if left == 0:
            return
        while True:
            if not self._queue.qsize():
                self._hungry = True
                self._moved.set()
            item = await self._queue.get()
            if isinstance(item, End):
                return
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Said):
                self._said(item.warnings, item.notes)
                continue
            if left is not None and item.rows >= left:
                yield RowBlock(item.data[: rows.take(item.data, left)], left)
                return
            if left is not None:
                left -= item.rows
            size = len(item.data)
            yield item
            del item
            self._release(size)  # now that the client has it

    def _said(self, warnings: int, notes: tuple[frames.Note, ...]) -> None:
        """Add a batch's warnings, now that its rows are being delivered."""
        self.warnings = min(65535, self.warnings + warnings)
        self.notes += [frames.Note(n.level, n.code, self._scrubbed(n.message)) for n in notes]

    async def close(self) -> None:
        """Cancel what still runs: closing a connection cancels its job at the agent."""
        self._budget.unwatch(self._moved)
        self._health.unwatch(self._suspected)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._budget.give(self._counted)
        self._counted = 0


class Dispatcher:
    """Runs work on agents."""

    def __init__(self, agents: AgentPool, budget: ByteBudget, health: Health) -> None:
        self.agents, self.budget, self.health = agents, budget, health
        self.copies = Copies()
        self._trimmer = Trimmer()

    @asynccontextmanager
    async def run(self, work: Work, kind: type[RowStream] = RowStream) -> AsyncIterator[RowStream]:
        """Yield the stream of released rows, of some kind; leaving the block cancels what still runs."""
        stream = kind(work, self.agents, self.budget, self.health, self.copies)
        stream.begin()
        try:
            yield stream
        finally:
            await stream.close()
            self._trimmer.after(stream.bytes)
