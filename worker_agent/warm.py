"""Connections to MariaDB that keep their settings between jobs.

A job's session has a default database and some twenty settings. Setting them and taking them back costs
more than a small chunk query; a connection on which a job left nothing else behind is therefore lent
again, as it is, to the next job with the same ones. Any other is reset.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from shard.catalog.naming import quote
from shard.errors import ServerError
from shard.wire import frames

RESET_TIMEOUT_S = 5.0
"""Seconds MariaDB has for making a connection as new; a connection that takes longer is closed."""
MOST_WARM = 32
"""Idle connections that keep their settings."""
_CLOCK = "timestamp"

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Lent:
    """A connection that was idle, and what its session is like."""

    connection: RawConnection
    key: _Key


class WarmPool:
    """Lends connections with a job's settings.

    Parameters
    ----------
    pool : Pool
        Where connections without settings come from, and go to.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._idle: OrderedDict[RawConnection, _Key] = OrderedDict()
        self._by_key: dict[_Key, list[RawConnection]] = {}

    async def borrow(self, job: frames.Job) -> RawConnection:
        """Return a connection whose session is as the job wants it, its tables included."""
        connection = None if job.shipped else self._take(_key(job))
        if connection is not None:
            clock = job.settings.get(_CLOCK)
            if clock is not None:
                await _guarded(connection, f"SET SESSION {_CLOCK}={clock}")
            return connection
        connection = await self.pool.borrow()
        try:
            for table in job.shipped:
                await _receive(connection, table)
            if job.database:
                await connection.run(f"USE {quote(job.database)}")
            items = [f"SESSION {quote(name)}={value}" for name, value in job.settings.items()]
            if items:
                await connection.run("SET " + ", ".join(items))
        except BaseException:
            connection.abort()
            raise
        return connection

    def lend(self, job: frames.Job) -> Lent | None:
        """Return an idle connection whose session is as the job wants it already, if there is one.

        Only for jobs that leave nothing behind.
        """
        if _CLOCK in job.settings or not _leaves_nothing(job):
            return None
        key = _key(job)
        connection = self._take(key)
        return None if connection is None else Lent(connection, key)

    def take_back(self, lent: Lent) -> None:
        """Take back what `lend` has lent, its reply read to the end."""
        self._keep(lent.connection, lent.key)

    def _keep(self, connection: RawConnection, key: _Key) -> None:
        self._idle[connection] = key
        self._by_key.setdefault(key, []).append(connection)

    async def give(self, connection: RawConnection, job: frames.Job) -> None:
        """Take a connection back after a job; it is reset unless it can be lent as it is."""
        if connection.closed or connection.busy:
            await self.pool.put(connection)
        elif not _leaves_nothing(job):
            await self._reset(connection)
        else:
            self._keep(connection, _key(job))
            if len(self._idle) > MOST_WARM:
                oldest = next(iter(self._idle))
                self._forget(oldest)
                await self._reset(oldest)

    def _take(self, key: _Key) -> RawConnection | None:
        while key in self._by_key:
            connection = self._by_key[key][-1]
            self._forget(connection)
            if not connection.closed:
                return connection
            connection.abort()
        return None

    def _forget(self, connection: RawConnection) -> None:
        key = self._idle.pop(connection)
        same = self._by_key[key]
        same.remove(connection)
        if not same:
            del self._by_key[key]

    async def _reset(self, connection: RawConnection) -> None:
        try:
            async with asyncio.timeout(RESET_TIMEOUT_S):
                await connection.reset()
        except (ServerError, ConnectionLost, TimeoutError):
            connection.abort()
        await self.pool.put(connection)

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            connection, _ = self._idle.popitem()
            await connection.close()
        self._by_key.clear()


def _key(job: frames.Job) -> _Key:
    """Return what two jobs must have in common to use one session; only whether the clock is set, not to what."""
    settings = tuple(item for item in job.settings.items() if item[0] != _CLOCK)
    return job.database, _CLOCK in job.settings, settings


def _leaves_nothing(job: frames.Job) -> bool:
    """Whether nothing but its settings is left of a job: no table, and no variable that its text might set."""
    if job.shipped or job.setup or job.teardown:
        return False
    return not any(b"@" in piece for piece in job.main.segments)


async def _guarded(connection: RawConnection, statement: str) -> None:
    try:
        await connection.run(statement)
    except BaseException:
        connection.abort()
        raise


async def _receive(connection: RawConnection, table: frames.Shipped) -> None:
    """Make a user's table on a connection; every row must arrive unchanged."""

    async def whole() -> AsyncIterator[bytes]:
        yield table.data

    await connection.run(
        "SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', check_constraint_checks=0, time_zone='+00:00'"
    )
    await connection.run(table.create)
    ok = await connection.load(table.load, whole())
    if ok.affected_rows != table.data.count(b"\n") or ok.warnings:
        raise ServerError(1105, "HY000", "rows of your own table were changed on their way to a worker")
