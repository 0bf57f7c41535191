"""Marks chunk tables that a query found damaged, so that a repair finds them.

A table whose files were cut or spoilt (a disk that fails, a loss of power) still says in its header how many rows it
had, and that is what a repair counts. CHECK TABLE looks at the rest and marks what it finds; a table that is marked is
opened no more (`myisam_recover_options=OFF`), and has no rows to count. Queries have gone to another copy by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re

from backend.connection import ConnectionLost
from backend.pool import Pool
from backend.tasks import ended
from shard.catalog.naming import literal, quote
from shard.errors import ServerError
from shard.wire import frames

SIGNS = frozenset({1016, 1017, 1030, 1032, 1034, 1035, 1168, 1194, 1195})
"""Errors after which tables are looked at: a file is gone or cut, an index or a row wrong, a table marked already."""

_NAMED = re.compile(r"[Tt]able '(?:\./)?(?:[^'/]*[./])?([^'/.]+)(?:\.MY[ID])?'")

log = logging.getLogger("skyshard.agent")


class Damage:
    """Looks at the tables of chunks that failed, one chunk after the other."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._alone = asyncio.Lock()
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    def noticed(self, database: str, failed: frames.Failed) -> None:
        """Check the tables of the chunk that failed, in a task of its own, if its error can mean a damaged table."""
        if failed.errno not in SIGNS or failed.chunk is None or (database, failed.chunk) in self._tasks:
            return
        place = database, failed.chunk
        task = asyncio.ensure_future(self._look(database, failed.chunk, failed.message))
        self._tasks[place] = task
        task.add_done_callback(lambda _: self._tasks.pop(place, None))

    async def _look(self, database: str, chunk: int, message: str) -> None:
        named = _NAMED.search(message)
        other = f" OR TABLE_NAME = {literal(named[1])}" if named else ""
        tables = (
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE ENGINE = 'MyISAM' "
            f"AND (TABLE_SCHEMA = {literal(database)} OR LEFT(TABLE_SCHEMA, 15) = 'skyshard_stage_') "
            f"AND (SUBSTRING_INDEX(TABLE_NAME, '_', -1) = '{chunk}'{other})"
        )
        # Where this fails, the next query that fails asks again.
        with contextlib.suppress(ServerError, ConnectionLost, OSError):
            async with self._alone, self._pool.lease() as connection:
                for base, name in await connection.fetch_texts(tables):
                    place = f"{quote(base)}.{quote(name)}"
                    found = await connection.fetch(f"CHECK TABLE {place}")
                    if found[-1][3] != b"OK":
                        log.warning("table %s is damaged; 'skyshard repair' copies it anew", place)

    async def close(self) -> None:
        """End the checks that run."""
        await ended(self._tasks.values())
