"""`skyshard catalog restore` and `copy`: a catalogue from a backup or another one, published as an ingest publishes.

Everything goes into a staged database first (see ingest.staging): traps, templates and chunk tables, the rows, and of
the rows the director indexes. A table is good when as many rows have been stored as are counted, without a warning, and
when CHECKSUM TABLE gives what it gave where the rows come from. Only then all of it is published at once. A run that was
killed has published nothing, or is finished by the next one.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress

from backend.connection import ConnectionLost
from shard.catalog import ddl
from shard.catalog.catalog_file import can_be_catalogue
from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    CHUNK_COLUMN,
    INDEX_DATABASE,
    SUB_CHUNK_COLUMN,
    chunk_table,
    index_table,
    literal,
    quote,
    stage_name,
)
from shard.catalog.placement import Placement
from shard.errors import ServerError, SkyError
from shard.wire.frames import LoadBegin
from skyshard.catalog.backup import servers_of
from skyshard.catalog.cluster import META, Cluster, opened, parted
from skyshard.catalog.drop import Drop
from skyshard.catalog.manifest import Description, Part
from skyshard.catalog.sources import Source
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.ingest import loading, staging
from skyshard.ingest.loading import LOADS_PER_WORKER, Loader, Target
from skyshard.ingest.transactions import ChunkRows, lock_database
from skyshard.replicas.stream import checksums, read_rows


class Restore:
    """One run.

    Parameters
    ----------
    address : ClusterAddress
        The cluster, once more, for cleaning up if the connection of `cluster` cannot do it.
    cluster : Cluster
        Where the catalogue comes to be.
    source : Source
        Its description and rows.
    name : str
        What it is called.
    replicas : int or None
        Copies of every chunk; None: the cluster's default.
    replace : bool
        Take the place of a published catalogue of this name, which answers until then.
    say : callable
        Takes one line of progress.
    """

    def __init__(
        self,
        address: ClusterAddress,
        cluster: Cluster,
        source: Source,
        name: str,
        replicas: int | None,
        replace: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address, self._cluster, self._source = address, cluster, source
        self._name, self._replicas, self._say = name, replicas, say
        self._stage = staging.Staging(cluster.home, cluster.agents, list(cluster.workers), name)
        self._compare, self._replace = True, replace

    @property
    def _what(self) -> Description:
        return self._source.description

    @property
    def compares(self) -> bool:
        """Whether checksums could be compared: the servers are of one version."""
        return self._compare

    async def run(self) -> None:
        """Do it all.

        Raises
        ------
        UserError
            If the name is taken, or something is not as it should be; nothing was published then.
        """
        directors = [table.name for table in self._what.tables if table.kind is Kind.DIRECTOR]
        if not can_be_catalogue(self._name, directors):
            raise UserError(f"'{self._name}' cannot be the name of this catalogue")
        there, away = await parted(self._cluster)
        placement, wanted = await self._placement(set(there))
        self._stage = staging.Staging(self._cluster.home, self._cluster.agents, there, self._name, away)
        await lock_database(self._cluster.home, self._name)
        finished = await self._stage.recover()
        await Drop(
            self._cluster.home, self._cluster.agents, self._cluster.workers.values(), self._name
        ).finish()
        if finished and await self._is_this():
            return
        await self._stage.check_closed()
        if self._replace:
            await self._stage.check_free(True, [table.name for table in self._what.tables])
        else:
            await self._refuse_taken()
        owner = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"
        number = await self._stage.begin(owner, self._source.detail, self._what.partitioning, wanted)
        try:
            await self._check_workers(placement)
            await self._load(number, placement)
            await self._source.unchanged()
        except BaseException:
            with suppress(UserError, SkyError, ConnectionLost, ExceptionGroup):
                await self._abandon(number)
            raise
        there, away = await parted(self._cluster)  # loading may have taken long
        self._stage = staging.Staging(self._cluster.home, self._cluster.agents, there, self._name, away)
        await self._stage.publish(number)

    async def _placement(self, there: set[int]) -> tuple[Placement, int]:
        """Return where chunks go, of the workers that answer, and how many copies are wanted."""
        workers = self._cluster.workers
        active = [number for number, worker in workers.items() if worker.state == "active"]
        fit = [number for number in active if number in there]
        if not fit:
            raise UserError("the cluster has no active worker that answers")
        found = await self._cluster.home.fetch(f"SELECT value FROM {META}.cluster WHERE name = 'replicas'")
        if self._replicas is not None and self._replicas > len(active):
            raise UserError(
                f"--replicas {self._replicas}: every copy of a chunk needs its own worker, and {len(active)} are active"
            )
        versions = {*self._source.servers, *await servers_of(self._cluster, there)}
        self._compare = len(versions) == 1
        wanted = min(self._replicas or (int(found[0][0] or b"1") if found else 1), len(active))
        return Placement(fit, wanted), wanted

    async def _check_workers(self, placement: Placement) -> None:
        """Refuse to go on with a worker that has been drained or removed since this looked, now that nobody can any more."""
        found = await self._cluster.home.fetch(
            f"SELECT name FROM {META}.workers WHERE worker_id IN ({', '.join(map(str, placement.workers))}) "
            "AND state <> 'active' LIMIT 1 LOCK IN SHARE MODE"
        )
        if found:
            raise UserError(f"worker '{(found[0][0] or b'').decode()}' is active no more; run this again")

    async def _is_this(self) -> bool:
        """Whether what is published now is what an earlier run of this was about to publish."""
        found = await self._cluster.home.fetch(
            f"SELECT i.detail FROM {META}.ingests i JOIN {META}.`databases` d ON d.version = i.ingest_id "
            f"WHERE d.name = {literal(self._name)} AND d.state = 'published'"
        )
        return bool(found) and (found[0][0] or b"").decode() == self._source.detail

    async def _refuse_taken(self) -> None:
        name = literal(self._name)
        rows = await self._cluster.home.fetch(
            f"SELECT 1 FROM {META}.`databases` WHERE name = {name} UNION ALL "
            f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}"
        )
        if rows:
            raise UserError(
                f"there is a database '{self._name}' already; drop it, choose another name, or say --replace"
            )

    async def _abandon(self, number: int) -> None:
        """Remove what was staged; if this cannot be done now, the next run of the same name does it."""
        home = self._cluster.home
        if not home.busy and not home.closed:
            await self._stage.abandon(number, "failed")
            return
        home.abort()  # what failed, or Ctrl-C, came amid a statement
        async with opened(self._address) as fresh:
            there, away = await parted(fresh)
            again = staging.Staging(fresh.home, fresh.agents, there, self._name, away)
            await lock_database(fresh.home, self._name)
            await again.abandon(number, "failed")

    # loading -----------------------------------------------------------------------------------------

    async def _load(self, number: int, placement: Placement) -> None:
        stage = stage_name(number)
        loader = Loader(self._cluster.agents, placement, stage)
        for table in self._what.tables:
            await self._tables(loader, stage, table)
        await self._rows(stage, placement)
        for table in self._what.tables:
            if table.kind is Kind.DIRECTOR:
                await self._director_index(stage, table, placement)
        await self._check(loader, placement)
        counts = {table.name: self._counts(table.name) for table in self._what.tables if table.is_sharded}
        replicas = {chunk: placement.of(chunk) for chunk in self._what.chunks}
        await self._stage.write(number, self._what.tables, counts, replicas)

    def _counts(self, name: str) -> dict[int, ChunkRows]:
        found = self._what.content.rows
        return {
            chunk: ChunkRows(*found[name, chunk]) for chunk in self._what.chunks if (name, chunk) in found
        }

    async def _tables(self, loader: Loader, stage: str, table: Table) -> None:
        """Make a table's empty tables everywhere."""
        home = self._cluster.home
        if table.is_sharded:
            for statement in staging.traps(stage, table):
                await home.run(statement)
            await loader.templates(table)
            await loader.chunk_tables(table, self._what.chunks)
            return
        await home.run(ddl.physical(table.ddl, table.name, stage, table.name, ddl.home_engine(table)))
        await loader.everywhere([ddl.physical(table.ddl, table.name, stage, table.name)])

    async def _rows(self, stage: str, placement: Placement) -> None:
        """Load all rows, a few tables of each worker at once."""
        jobs: dict[int, list[Part]] = defaultdict(list)
        whole = []
        for part in self._what.parts():
            for worker in placement.workers if part.chunk is None else placement.of(part.chunk):
                jobs[worker].append(part)
            whole += [part] if part.chunk is None else []
        total, done = sum(map(len, jobs.values())), 0

        async def some(worker: int, shared: Iterator[Part]) -> None:
            nonlocal done
            for part in shared:
                await self._part(worker, stage, part)
                done += 1
                self._say(f"{done:,} of {total:,} tables")

        async with asyncio.TaskGroup() as group:
            for worker, parts in jobs.items():
                shared = iter(parts)
                for _ in range(LOADS_PER_WORKER):
                    group.create_task(some(worker, shared))
        for part in whole:
            await self._home_rows(stage, part)

    async def _part(self, worker: int, stage: str, part: Part) -> None:
        """Load one table of one worker, and compare it with where it comes from."""
        way, agents = self._what.content.routes[part.table], self._cluster.agents
        begin = LoadBegin(database=stage, table=part.name, columns=way.columns, expressions=way.expressions)
        try:
            async with aclosing(self._source.read(part)) as pieces:
                await agents.load(worker, begin, pieces, [part.rows])
            if not self._compare:
                return
            have = (await checksums(agents, worker, stage, [part.name]))[part.name]
        except ServerError as error:
            raise UserError(f"table {part.name}: {agents.name(worker)}: {error.message}") from error
        if have != await self._source.checksum(part):
            raise UserError(f"table {part.name}: its rows have another checksum at {agents.name(worker)}")

    async def _home_rows(self, stage: str, part: Part) -> None:
        """Load a replicated table at home."""
        way, home = self._what.content.routes[part.table], self._cluster.home
        target = Target(way.columns, dict(way.expressions))
        try:
            async with aclosing(self._source.read(part)) as pieces:
                await loading.load_home(home, stage, part.table, target, pieces, part.rows)
        except (ServerError, loading.BadRow) as error:
            raise UserError(f"table {part.table}: the home server: {error}") from error
        if not self._compare:
            return
        rows = await home.fetch(f"CHECKSUM TABLE {quote(stage)}.{quote(part.table)} EXTENDED")
        if (rows[0][1] or b"").decode() != await self._source.checksum(part):
            raise UserError(f"table {part.table}: its rows have another checksum at home")

    async def _director_index(self, stage: str, table: Table, placement: Placement) -> None:
        """Fill a director's index from its chunks."""
        name = index_table(stage, table.name)
        await self._cluster.home.run(ddl.director_index(name, table.columns, table.key))
        target = Target(ddl.INDEX_COLUMNS, {})
        self._say(f"the index of {table.name}")
        async with aclosing(self._places(stage, table, placement)) as pieces:
            await loading.load_home(self._cluster.home, INDEX_DATABASE, name, target, pieces, table.rows)
        await self._cluster.home.run(f"FLUSH TABLES {quote(INDEX_DATABASE)}.{quote(name)}")

    async def _places(self, stage: str, table: Table, placement: Placement) -> AsyncGenerator[bytes, None]:
        select = ", ".join(map(quote, (table.key or "", CHUNK_COLUMN, SUB_CHUNK_COLUMN)))
        for chunk in self._what.chunks:
            if not self._what.content.rows.get((table.name, chunk), (0, 0))[0]:
                continue
            pieces = read_rows(
                self._cluster.agents,
                placement.of(chunk)[0],
                stage,
                chunk_table(table.name, chunk),
                select,
                [0],
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    async def _check(self, loader: Loader, placement: Placement) -> None:
        """Compare the tables of every worker with what is counted."""
        for worker in placement.workers:
            stored = await loader.stored(worker)
            wanted = {table.name: table.rows for table in self._what.tables if not table.is_sharded}
            for chunk in self._what.chunks:
                if worker in placement.of(chunk):
                    wanted |= {item.name: item.rows for item in self._what.content.items(chunk)}
            for name, rows in wanted.items():
                if stored.get(name) != rows:
                    raise UserError(
                        f"worker {self._cluster.workers[worker].name} has {stored.get(name, 'no')} of {rows} rows of "
                        f"{name}; run it again"
                    )
