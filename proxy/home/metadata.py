"""The published catalogue as the proxy sees it: read from the metadata, polled for changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping

import msgspec

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from shard.catalog.model import Database, Partitioning, Table, Worker
from shard.catalog.naming import META_DATABASE, quote
from shard.errors import CATALOGUE_CHANGED, ServerError, SkyError

log = logging.getLogger("skyshard.catalogue")
POLL_S = 0.5
LEASE_S = 1.0
"""Seconds for which what was read of the catalogue holds: whoever swaps a database says so first, and then
waits for longer than this (`skyshard.ingest.staging.GRACE_S`) before it touches a table."""
_META = quote(META_DATABASE)


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


class Catalogue:
    """Databases, workers and replicas, replaced as a whole when the catalogue's version changes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._read_at = -math.inf
        self.version = -1
        self.databases: Mapping[str, Database] = {}
        self.workers: dict[int, Worker] = {}
        self._replicas: dict[str, dict[int, tuple[int, ...]]] = {}
        self._rows: dict[tuple[str, str], int] = {}

    async def start(self) -> None:
        """Load, then poll."""
        await self.refresh()
        self._task = asyncio.create_task(self._poll(), name="catalogue poll")

    async def close(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
            except (ServerError, ConnectionLost, OSError) as error:
                log.warning("the metadata cannot be read: %s", type(error).__name__)

    def database(self, name: str) -> Database:
        """Return a published database that a statement was planned for.

        Raises
        ------
        SkyError
            CATALOGUE_CHANGED, if it is published no more.
        """
        found = self.databases.get(name)
        if found is None:
            raise SkyError(CATALOGUE_CHANGED, database=name)
        return found

    def replicas(self, database: str) -> dict[int, tuple[int, ...]]:
        """Return chunk → workers that hold a live copy."""
        return self._replicas.get(database, {})

    def table_rows(self, database: str, table: str) -> int:
        """Return a table's exact row count."""
        return self._rows.get((database, table), 0)

    def holds(self, versions: Mapping[str, int]) -> bool:
        """Whether databases are known to be published, in these versions, at this moment."""
        if time.monotonic() >= self._read_at + LEASE_S:
            return False
        found = (self.databases.get(name) for name in versions)
        return all(
            database is not None and database.version == version
            for database, version in zip(found, versions.values(), strict=True)
        )

    async def refresh(self) -> None:
        """Read the metadata if its version has changed."""
        async with self._one, self._pool.lease() as connection:
            asked = time.monotonic()
            found = await connection.fetch(
                f"SELECT value FROM {_META}.cluster WHERE name = 'catalogue_version'"
            )
            version = int(_text(found[0][0])) if found else 0
            if version != self.version:
                await self._load(connection)
                self.version = version
            self._read_at = max(self._read_at, asked)

    async def _load(self, connection: RawConnection) -> None:
        workers = {
            int(_text(r[0])): Worker(
                worker_id=int(_text(r[0])),
                name=_text(r[1]),
                host=_text(r[2]),
                port=int(_text(r[3])),
                state=_text(r[4]),
            )
            for r in await connection.fetch(
                f"SELECT worker_id, name, host, port, state FROM {_META}.workers WHERE state <> 'removed'"
            )
        }
        tables: dict[int, list[Table]] = {}
        rows: dict[tuple[str, str], int] = {}
        databases: dict[str, Database] = {}
        listed = await connection.fetch(
            f"SELECT db_id, name, stripes, sub_stripes, overlap_deg, version FROM {_META}.`databases` "
            "WHERE state = 'published'"
        )
        for row in await connection.fetch(
            f"SELECT db_id, definition, row_count FROM {_META}.`tables` ORDER BY table_id"
        ):
            table = msgspec.json.decode(row[1] or b"", type=Table)
            tables.setdefault(int(_text(row[0])), []).append(table)
        replicas: dict[str, dict[int, tuple[int, ...]]] = {}
        for row in listed:
            number, name = int(_text(row[0])), _text(row[1])
            partitioning = Partitioning(
                stripes=int(_text(row[2])), sub_stripes=int(_text(row[3])), overlap_deg=float(_text(row[4]))
            )
            mine = tuple(tables.get(number, ()))
            databases[name] = Database(
                name=name, partitioning=partitioning, tables=mine, version=int(_text(row[5]))
            )
            rows.update({(name, table.name): table.rows for table in mine})
            held: dict[int, list[int]] = {}
            for chunk, worker, state in await connection.fetch(
                f"SELECT chunk_id, worker_id, state FROM {_META}.chunk_replicas WHERE db_id = {number} "
                "ORDER BY chunk_id, worker_id"
            ):
                ids = held.setdefault(
                    int(_text(chunk)), []
                )  # one without any good copy is known all the same
                if state == b"ok":
                    ids.append(int(_text(worker)))
            replicas[name] = {chunk: tuple(ids) for chunk, ids in held.items()}
        self.workers.clear()
        self.workers.update(workers)
        self.databases, self._replicas, self._rows = databases, replicas, rows
