"""Looks from time to time whether the trap tables at home still fail every read.

Who may DROP can TRUNCATE a trap at the home server itself, or by dynamic SQL in a routine: then it is an empty
table, and what slips past the proxy's classification (a routine, a view) would read no rows instead of failing.
Such a table's tablespace is discarded again, which is all that makes a trap (see `skyshard.home.guard`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from proxy.home.metadata import Catalogue
from shard.catalog.model import Database
from shard.catalog.naming import literal, quote
from shard.catalog.traps import INGEST_LOCK, is_trap_error
from shard.errors import ServerError, SkyError

log = logging.getLogger("skyshard.traps")


async def close_open(connection: RawConnection, databases: Iterable[Database]) -> list[str]:
    """Make traps again of sharded tables that can be read; return their names.

    A database that an ingest works on is left for the next time.
    """
    mended = []
    for database in databases:
        lock = literal(INGEST_LOCK.format(database=database.name)[:64])
        if (await connection.fetch(f"SELECT GET_LOCK({lock}, 0)"))[0][0] != b"1":
            continue
        try:
            for table in database.tables:
                name = f"{quote(database.name)}.{quote(table.name)}"
                if table.is_sharded and await _is_open(connection, name) and await _closed(connection, name):
                    mended.append(f"{database.name}.{table.name}")
                    log.error(
                        "table %s.%s could be read at home and is a trap again", database.name, table.name
                    )
        finally:
            # The lock goes with a connection that is cut off.
            if not connection.busy and not connection.closed:
                await connection.run(f"DO RELEASE_LOCK({lock})")
    return mended


async def _is_open(connection: RawConnection, name: str) -> bool:
    try:
        await connection.fetch(f"SELECT 1 FROM {name} LIMIT 1")
    except ServerError as error:
        if not is_trap_error(error.errno, error.message):
            log.exception("the trap of %s is not as it should be", name)
        return False
    return True


async def _closed(connection: RawConnection, name: str) -> bool:
    """Make a table a trap again; return whether that was possible."""
    try:
        # A reader's open transaction must not hold up everybody who comes after the ALTER.
        await connection.run(f"SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE {name} DISCARD TABLESPACE")
    except ServerError as error:
        log.error("%s can be read at home and is in use: error %s", name, error.errno)  # noqa: TRY400
        return False
    return True


class TrapWatch:
    """Calls `close_open` every `seconds`."""

    def __init__(self, pool: Pool, catalogue: Catalogue, seconds: float) -> None:
        self._pool, self._catalogue, self._seconds = pool, catalogue, seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._watch(), name="trap watch")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                async with self._pool.lease() as connection:
                    await close_open(connection, list(self._catalogue.databases.values()))
            except (SkyError, ConnectionLost, OSError) as error:
                log.warning("the traps cannot be looked at: %s", type(error).__name__)
