"""Runs jobs: takes those that wait, or whose proxy is gone, and keeps their rows at home.

A job runs in a session of its own, as its CREATE TABLE … SELECT would in its user's: by a private socket into this
very process, under the settings of the session that submitted it. What it may read was checked when it was submitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from backend.tasks import to_the_end
from proxy.config import Jobs as Settings
from proxy.home.settings import encoding_of
from proxy.jobs.store import Job, Store
from proxy.registry import Registry, RunningQuery
from proxy.session.wire import ClientWire
from shard.catalog.naming import JOBS_DATABASE, literal, quote
from shard.errors import LIMIT_EXCEEDED, ServerError, SkyError

log = logging.getLogger("skyshard.jobs")
TICK_S = 1.0
EXPIRE_S = 60.0
_RETRIED = frozenset({1053, 1158, 1412, 1429, 1927, 2006, 2013})
"""Errors after which a job is tried again."""
_PAUSE_S = 1.0
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

    def __init__(self, pool: Pool, registry: Registry, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(pool, secrets.token_hex(8))
        self._service, self._registry = pool.address, registry
        self._directory: str | None = None
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._threads: dict[int, int] = {}
        self._owners: dict[int, str] = {}  # by session
        self._wake = asyncio.Event()
        self._noted: list[tuple[RunningQuery, float, str, int, str]] = []
        self._checked = 0.0

    async def start(self, accept: Callable[[ClientWire], None]) -> None:
        """Begin to take jobs; `accept` serves a ClientWire."""
        self._directory = tempfile.mkdtemp(prefix="skyshard-proxy-")
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: ClientWire(accept, private=True), str(self._path())
        )
        self._ticker = asyncio.create_task(self._tick(), name="jobs")

    def _path(self) -> Path:
        return Path(self._directory or "") / "s"

    async def close(self) -> None:
        """Stop; jobs that run here are begun anew by another proxy, or this one's successor."""
        tasks = [task for task in (self._ticker, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    def forget(self, number: int) -> None:
        """End a job that was cancelled."""
        task = self._running.get(number)
        if task is not None:
            task.cancel()

    def owner(self, session_id: int) -> str | None:
        """Return whose job a session runs; None if it is a client's."""
        return self._owners.get(session_id)

    def note(self, query: RunningQuery, seconds: float, outcome: str, size: int, error: str) -> None:
        """Remember a query for the history."""
        if seconds >= self.settings.history_min_s and self._ticker is not None:
            self._noted.append((query, seconds, outcome, size, error))

    async def _tick(self) -> None:
        while True:
            try:
                await self._turn()
            except (ServerError, ConnectionLost, OSError) as error:
                log.warning("jobs: %s", error)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def _turn(self) -> None:
        mine = await self.store.alive({number: self._progress(number) for number in self._running})
        for number in set(self._running) - mine:
            self.forget(number)  # cancelled, or taken over by another proxy
        for job in await self.store.claim(self.settings.running - len(self._running)):
            task = asyncio.create_task(self._run(job), name=f"job {job.id}")
            self._running[job.id] = task
            task.add_done_callback(partial(self._done, job.id))
        if self._noted:
            noted, self._noted = self._noted, []
            await self.store.note(noted)
        now = asyncio.get_running_loop().time()
        if now >= self._checked + EXPIRE_S:
            self._checked = now
            await self.store.expire(self.settings.keep_s, self.settings.history_s)

    def _done(self, number: int, _: asyncio.Task[None]) -> None:
        self._running.pop(number, None)
        self._owners.pop(self._threads.pop(number, -1), None)
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
                    lost = isinstance(error, ConnectionLost)
                    if attempt < _TRIES and (
                        lost or (isinstance(error, SkyError) and error.errno in _RETRIED)
                    ):
                        await asyncio.sleep(_PAUSE_S * attempt)
                        continue
                    await self.store.fail(
                        job, error.message if isinstance(error, SkyError) else "the home server was lost"
                    )
                return
        except asyncio.CancelledError:
            with contextlib.suppress(ServerError, ConnectionLost, OSError):
                await to_the_end(self.store.discard(job))
            raise
        except (ServerError, ConnectionLost, OSError):
            log.exception(
                "job %d: its end cannot be noted now", job.id
            )  # it is taken for lost, and run again
        except Exception:
            log.exception("job %d", job.id)
            await self.store.fail(job, f"internal error, job id {job.id}")

    async def _attempt(self, job: Job) -> tuple[int, int]:
        """Fill the job's table; return its rows and bytes."""
        service = self._service
        said = job.settings
        connection = await RawConnection.open(
            Address(service.user, service.password, socket=str(self._path()))
        )
        try:
            self._owners.pop(self._threads.get(job.id, -1), None)
            self._threads[job.id] = connection.thread_id
            self._owners[connection.thread_id] = job.user
            await connection.run(f"DROP TABLE IF EXISTS {job.unfinished}")
            if said.database is not None:
                await connection.run(f"USE {quote(said.database)}")
            await connection.run(
                "SET " + ", ".join(f"SESSION {name}={text}" for name, text in said.values.items())
            )
            sql = f"CREATE TABLE {job.running} ENGINE=Aria TRANSACTIONAL=0 AS {job.query}"
            ok = await connection.run(sql.encode(*encoding_of(said.charset)))
            await connection.run("SET NAMES utf8mb4")
            found = await connection.fetch(
                "SELECT CAST(DATA_LENGTH AS CHAR), CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA = {literal(JOBS_DATABASE)} AND TABLE_NAME = 'running_{job.id}_{job.attempts}'"
            )
            size = int(found[0][0] or b"0")
            self._allow(size)
        except BaseException:
            connection.abort()
            raise
        await connection.close()
        return ok.affected_rows, size

    def _allow(self, size: int) -> None:
        """Refuse a result that is too large; its table is dropped with the failed job."""
        if self.settings.user_bytes and size > self.settings.user_bytes:
            raise SkyError(
                LIMIT_EXCEEDED, limit="bytes of a result", value=size, setting="jobs.user_bytes of the proxy"
            )
