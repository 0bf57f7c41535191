"""The published catalogue as the proxy sees it: read from the metadata, polled for changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from shard.catalog.metadata import MIGRATIONS
from shard.catalog.model import Database, Partitioning, Table, Worker
from shard.catalog.naming import META_DATABASE, quote
from shard.catalog.timing import LEASE_S
from shard.errors import CATALOGUE_CHANGED, ServerError, SkyError

log = logging.getLogger("skyshard.catalogue")
POLL_S = 0.5
_META = quote(META_DATABASE)
_NO_METADATA = frozenset({1049, 1146})


class WrongMetadata(RuntimeError):  # noqa: N818 - it is what was found
    """The metadata are not those of this release; the text says what to do."""


@dataclass(frozen=True, slots=True)
class CatalogueSnapshot:
    """All that is published at one version; a query reads to its end what it was planned with.

    Attributes
    ----------
    replicas : mapping
        Database → chunk → workers that hold a good copy.
    states : mapping
        Database → chunk → the commit that made its present tables; of chunks that are not as they were published.
    indexes : mapping
        (database, director) → transactions whose rows have director indexes of their own.
    """

    version: int = -1
    databases: Mapping[str, Database] = field(default_factory=dict)
    replicas: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    states: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    indexes: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)

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

    def is_readable_in(self, now: CatalogueSnapshot) -> bool:
        """Whether the tables that were planned with these contents have the same rows in later ones."""
        later = ((database, now.databases.get(name)) for name, database in self.databases.items())
        return all(other is None or database.revision >= other.oldest for database, other in later)

    def table_rows(self, database: str, table: str) -> int:
        """Return a table's exact row count."""
        found = self.databases.get(database)
        known = None if found is None else found.table(table)
        return 0 if known is None else known.rows


class Catalogue:
    """What is published and the workers, replaced as a whole when the catalogue's version changes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._read_at = -math.inf
        self.contents = CatalogueSnapshot()
        self.workers: dict[int, Worker] = {}
        self.init_connect = False
        """Whether the home server begins users' sessions with statements of its own, as of the last look."""
        self.longest_packet = 0
        """Bytes of the longest command that the home server takes, as of the last look."""

    @property
    def version(self) -> int:
        """The version that is known."""
        return self.contents.version

    @property
    def databases(self) -> Mapping[str, Database]:
        """The published databases, by name."""
        return self.contents.databases

    async def start(self) -> None:
        """Load, then poll.

        Raises
        ------
        WrongMetadata
            If they are of another version than this proxy reads.
        """
        await self._check_version()
        await self.refresh()
        self._task = asyncio.create_task(self._poll(), name="catalogue poll")

    async def _check_version(self) -> None:
        try:
            async with self._pool.lease() as connection:
                found = await connection.fetch_texts(
                    f"SELECT COALESCE(MAX(version), 0) FROM {_META}.schema_migrations"
                )
        except ServerError as error:
            if error.errno not in _NO_METADATA:
                raise
            raise WrongMetadata(
                "the home server has no metadata of skyshard; run 'skyshard home init'"
            ) from error
        version, mine = int(found[0][0]), len(MIGRATIONS)
        if version < mine:
            raise WrongMetadata(
                f"the metadata have version {version}, this proxy reads {mine}; run 'skyshard home init' of this release"
            )
        if version > mine:
            raise WrongMetadata(
                f"the metadata have version {version}, this proxy reads {mine}; start one of their release"
            )

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
            version, self.init_connect, self.longest_packet = await _look(connection)
            if version != self.version:
                # One look at all tables: a commit in between is seen wholly or not at all.
                await connection.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                await connection.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                try:
                    await self._load(connection, (await _look(connection))[0])
                finally:
                    if not connection.busy and not connection.closed:
                        await connection.run("COMMIT")
            self._read_at = max(self._read_at, asked)

    async def _load(self, connection: RawConnection, version: int) -> None:
        workers = await _workers(connection)
        tables: dict[int, list[Table]] = {}
        for row in await connection.fetch_texts(
            f"SELECT db_id, definition FROM {_META}.`tables` ORDER BY table_id"
        ):
            table = msgspec.json.decode(row[1], type=Table)
            tables.setdefault(int(row[0]), []).append(table)
        databases: dict[str, Database] = {}
        replicas: dict[str, Mapping[int, tuple[int, ...]]] = {}
        states: dict[str, Mapping[int, int]] = {}
        for row in await connection.fetch_texts(
            f"SELECT db_id, name, stripes, sub_stripes, overlap_deg, version, revision, oldest FROM {_META}.`databases` "
            "WHERE state = 'published'"
        ):
            number, name = int(row[0]), row[1]
            partitioning = Partitioning(
                stripes=int(row[2]), sub_stripes=int(row[3]), overlap_deg=float(row[4])
            )
            databases[name] = Database(
                name=name,
                partitioning=partitioning,
                tables=tuple(tables.get(number, ())),
                version=int(row[5]),
                revision=int(row[6]),
                oldest=int(row[7]),
            )
            replicas[name] = await _replicas(connection, number)
            states[name] = await _states(connection, number)
        indexes = await _indexes(connection)
        self.workers.clear()
        self.workers.update(workers)
        self.contents = CatalogueSnapshot(version, databases, replicas, states, indexes)


async def _look(connection: RawConnection) -> tuple[int, bool, int]:
    """Return the catalogue's version, whether sessions begin with statements of the server's own, its longest command."""
    found = await connection.fetch_texts(
        f"SELECT (SELECT value FROM {_META}.cluster WHERE name = 'catalogue_version'), @@GLOBAL.init_connect <> '', "
        "@@GLOBAL.max_allowed_packet - 1"
    )
    return int(found[0][0] or "0"), found[0][1] == "1", int(found[0][2] or "0")


async def _workers(connection: RawConnection) -> dict[int, Worker]:
    rows = await connection.fetch_texts(
        f"SELECT worker_id, name, host, port, state FROM {_META}.workers WHERE state <> 'removed'"
    )
    return {
        int(row[0]): Worker(
            worker_id=int(row[0]),
            name=row[1],
            host=row[2],
            port=int(row[3]),
            state=row[4],
        )
        for row in rows
    }


async def _replicas(connection: RawConnection, db_id: int) -> dict[int, tuple[int, ...]]:
    held: dict[int, list[int]] = {}
    for chunk, worker, state in await connection.fetch_texts(
        f"SELECT chunk_id, worker_id, state FROM {_META}.chunk_replicas WHERE db_id = {db_id} "
        "ORDER BY chunk_id, worker_id"
    ):
        ids = held.setdefault(int(chunk), [])  # one without any good copy is known all the same
        if state == "ok":
            ids.append(int(worker))
    return {chunk: tuple(ids) for chunk, ids in held.items()}


async def _states(connection: RawConnection, db_id: int) -> dict[int, int]:
    rows = await connection.fetch_texts(
        f"SELECT chunk_id, state_no FROM {_META}.chunk_states WHERE db_id = {db_id}"
    )
    return {int(chunk): int(state) for chunk, state in rows}


async def _indexes(connection: RawConnection) -> dict[tuple[str, str], tuple[int, ...]]:
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for number, database, table in await connection.fetch_texts(
        f"SELECT i.ingest_id, i.db_name, t.name FROM {_META}.ingests i JOIN {_META}.ingest_tables t USING (ingest_id) "
        "WHERE (i.state = 'committed' OR i.state = 'consolidating' AND NOT i.merged) AND t.kind = 'director' ORDER BY i.commit_no"
    ):
        place = database, table
        found[place] = (*found.get(place, ()), int(number))
    return found
