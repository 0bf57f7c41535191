"""Runs jobs: takes those that wait, or whose proxy is gone, and keeps their rows at home.

A job runs in a session of its own, as its CREATE TABLE … SELECT would in its user's: by a private socket into this
very process, with the rights of who submitted it (accounts.py) and the settings of that session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from backend.scratch import Scratch
from backend.tasks import ended, to_the_end
from proxy.config import Jobs as JobSettings
from proxy.home.ending import end_at_home
from proxy.home.settings import encoding_of
from proxy.jobs import accounts
from proxy.jobs.accounts import Lent
from proxy.jobs.history import HistoryEntry
from proxy.jobs.job import Job
from proxy.jobs.store import DEADLOCKS, Store
from proxy.registry import Registry, RunningQuery
from proxy.session.limits import Limits
from proxy.session.wire import ClientWire
from shard.catalog.naming import quote
from shard.errors import (
    CATALOGUE_CHANGED,
    LIMIT_EXCEEDED,
    SERVER_GONE,
    WORKER_DOWN,
    WORKER_LOST,
    ServerError,
    SkyError,
)

log = logging.getLogger("skyshard.jobs")
TICK_S = 1.0
EXPIRE_S = 60.0
_RETRIED = DEADLOCKS | SERVER_GONE | {WORKER_LOST.errno, WORKER_DOWN.errno, CATALOGUE_CHANGED.errno}
"""Errors after which a job is tried again."""
_PAUSE_S = 1.0
MOST_NOTED = 1000
"""Queries that wait for the home server to be written to the history."""
MOST_REFUSED = 20
"""Refused queries of one user that are noted within `EXPIRE_S`: a program may ask for the impossible without end."""
_TRIES = 3


class Jobs:
    """The jobs of one proxy process.

    Parameters
    ----------
    pool : Pool
        Service connections.
    registry : Registry
        Where the progress of running queries is seen.
    settings : config.Jobs
        Limits and times.
    """

    def __init__(self, pool: Pool, registry: Registry, settings: JobSettings) -> None:
        self.settings = settings
        self.store = Store(pool, secrets.token_hex(8))
        self._pool, self._registry = pool, registry
        self._directory: Scratch | None = None
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._threads: dict[int, int] = {}
        self._lent: dict[str, Lent] = {}  # by the account's name
        self._wake = asyncio.Event()
        self._noted: list[HistoryEntry] = []
        self._refused: Counter[str] = Counter()  # by user, since the last look at what has expired
        self._checked = 0.0
        self._resting = False

    async def start(self, accept: Callable[[ClientWire], None]) -> None:
        """Begin to take jobs; `accept` serves a ClientWire."""
        self._directory = Scratch("skyshard-jobs-")
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: ClientWire(accept, private=True), str(self._path())
        )
        self._ticker = asyncio.create_task(self._tick(), name="jobs")

    def _path(self) -> Path:
        if self._directory is None:
            raise RuntimeError("not started")
        return self._directory.path / "s"

    async def give_back(self) -> None:
        """Let others begin the jobs anew that run here, and begin none; queries are still noted."""
        self._resting = True
        await self._end()
        self._ticker = asyncio.create_task(self._tick(), name="jobs")

    async def _end(self) -> None:
        await ended([task for task in (self._ticker, *self._running.values()) if task is not None])

    async def close(self) -> None:
        """Stop; jobs that run here are begun anew by another proxy, or this one's successor."""
        await self._end()
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(ServerError, ConnectionLost, OSError, TimeoutError):
            async with asyncio.timeout(_PAUSE_S):
                await self._write_history()
        if self._directory is not None:
            self._directory.close()

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    def forget(self, number: int) -> None:
        """End a job that was cancelled."""
        task = self._running.get(number)
        if task is not None:
            task.cancel()

    def lent(self, name: str) -> Lent | None:
        """Return what was lent to an account of a job that runs here; None if it is none."""
        return self._lent.get(name)

    def note(self, query: RunningQuery, seconds: float, outcome: str, size: int, error: str) -> None:
        """Remember a query for the history if it took long, or was refused before any chunk was answered."""
        if self._ticker is None:
            return
        if seconds < self.settings.history_min_s:
            if outcome != "error" or query.chunks_done or self._refused[query.user] >= MOST_REFUSED:
                return
            self._refused[query.user] += 1
        self._noted.append(HistoryEntry(query, seconds, outcome, size, error))

    async def _tick(self) -> None:
        while True:
            try:
                await self._turn()
            except (ServerError, ConnectionLost, OSError) as error:
                log.warning("jobs: %s", error)
            except Exception:  # or no job would run here any more, without a word
                log.exception("jobs")
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def _turn(self) -> None:
        mine = await self.store.alive({number: self._progress(number) for number in self._running})
        for number in set(self._running) - mine:
            self.forget(number)  # cancelled, or taken over by another proxy
        free = 0 if self._resting else self.settings.running - len(self._running)
        for job in await self.store.claim(free, self.settings.running_per_user):
            task = asyncio.create_task(self._run(job), name=f"job {job.id}")
            self._running[job.id] = task
            task.add_done_callback(partial(self._done, job.id))
        await self._write_history()
        now = asyncio.get_running_loop().time()
        if now >= self._checked + EXPIRE_S:
            self._checked = now
            self._refused.clear()
            await self.store.expire(self.settings.keep_s, self.settings.history_s)

    async def _write_history(self) -> None:
        """Write what was noted; what cannot be written now stays, the newest of it."""
        noted = self._noted[:]
        if noted:
            try:
                await self.store.note(noted)
            except (ServerError, ConnectionLost, OSError):
                del self._noted[:-MOST_NOTED]
                raise
            del self._noted[: len(noted)]

    def _done(self, number: int, _: asyncio.Task[None]) -> None:
        self._running.pop(number, None)
        self._threads.pop(number, None)
        self._wake.set()

    def _progress(self, number: int) -> tuple[int, int]:
        query = self._registry.queries.get(self._threads.get(number, -1))
        return (0, 0) if query is None else (query.chunks_total, query.chunks_done)

    async def _run(self, job: Job) -> None:
        """Run a job to its end, whatever it is."""
        try:
            for attempt in range(1, _TRIES + 1):
                try:
                    rows, size = await self._attempt(job)
                    await self.store.finish(job, rows, size)
                except (SkyError, ConnectionLost) as error:
                    again = error.errno in _RETRIED if isinstance(error, SkyError) else True
                    if again and attempt < _TRIES:
                        await asyncio.sleep(_PAUSE_S * attempt)
                        continue
                    said = error.message if isinstance(error, SkyError) else "the home server was lost"
                    await self.store.fail(job, said)
                return
        except asyncio.CancelledError:
            with contextlib.suppress(ServerError, ConnectionLost, OSError):
                await to_the_end(self.store.discard(job))
            raise
        except (ServerError, ConnectionLost, OSError):
            # It is taken for lost, and run again.
            log.exception("job %d: its end cannot be noted now", job.id)
        except Exception:
            log.exception("job %d", job.id)
            await self.store.fail(job, f"internal error, job id {job.id}")

    async def _attempt(self, job: Job) -> tuple[int, int]:
        """Fill the job's table; return its rows and bytes."""
        await self.store.drop_unfinished(job)
        left = await self._left(job)
        async with accounts.lent(
            self._pool, job, Limits(result_bytes=left, statement_s=self.settings.statement_s)
        ) as lent:
            self._lent[lent.name] = lent
            try:
                rows = await self._fill(job, lent)
            finally:
                del self._lent[lent.name]
        size = await self.store.size(job)
        if left and size > left:
            raise _too_large(size)
        return rows, size

    async def _left(self, job: Job) -> int:
        """Return the bytes that a result may have; 0 is any number."""
        if not self.settings.user_bytes:
            return 0
        _, kept = await self.store.usage(job.user)
        if kept >= self.settings.user_bytes:
            raise _too_large(kept)
        return self.settings.user_bytes - kept

    async def _fill(self, job: Job, lent: Lent) -> int:
        """Run a job's statement; return its rows."""
        said = job.settings
        connection = await RawConnection.open(Address(lent.name, lent.password, socket=str(self._path())))
        try:
            self._threads[job.id] = connection.thread_id
            if said.database is not None:
                await connection.run(f"USE {quote(said.database)}")
            for name, value in said.own.items():
                await connection.run(f"SET {name} = {value}")
            values = {**said.values, "max_statement_time": f"{said.max_seconds:.6f}"}
            await connection.run(
                "SET " + ", ".join(f"SESSION {name}={text}" for name, text in values.items())
            )
            sql = f"CREATE TABLE {job.running} ENGINE=Aria TRANSACTIONAL=0 AS {job.query}"
            ok = await connection.run(sql.encode(*encoding_of(said.charset)))
        except BaseException:
            await to_the_end(end_at_home(self._pool, connection.thread_id))
            connection.abort()
            raise
        await connection.close()
        return ok.affected_rows


def _too_large(size: int) -> SkyError:
    return SkyError(
        LIMIT_EXCEEDED, limit="bytes of results", value=size, setting="jobs.user_bytes of the proxy"
    )
