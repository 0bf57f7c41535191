"""The first rows of a catalogue, or all new ones in the place of others: registered, loaded, checked and published.

They take the way of a transaction (a queue of files, batches that are loaded once, however often the command is killed),
but nothing is published beside them: their tables are swapped in whole (see staging).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from backend.connection import RawConnection
from shard.catalog.catalog_file import CatalogFile, SourceLines
from shard.catalog.model import Table
from shard.catalog.naming import (
    TEMPLATE_CHUNK,
    literal,
    namers,
    stage_name,
)
from skyshard.catalog.cluster import Cluster
from skyshard.errors import UserError
from skyshard.ingest import files, sources
from skyshard.ingest.held import Held
from skyshard.ingest.ledger import Ledger, in_turn
from skyshard.ingest.loading import Loader
from skyshard.ingest.queue import Queue
from skyshard.ingest.staging import Staging
from skyshard.ingest.transactions import META, ChunkRows, Published, Transaction, find, transactions

_Parts = Mapping[int, Mapping[str, ChunkRows]]
"""Chunk → table → rows."""
Stamped = Sequence[Sequence[tuple[files.DataFile, sources.Stamp]]]


class First(msgspec.Struct, frozen=True, kw_only=True):
    """What a first ingest was asked for, and the workers that get its chunks."""

    replace: bool
    replicas: int
    workers: tuple[int, ...]


def empty(database: str, file: CatalogFile, first: First) -> Published:
    """Return the database as a first ingest finds it."""
    return Published(0, database, file.grid(), first.replicas, (), {}, {})


async def asked(home: RawConnection, workers: Sequence[int], replicas: int | None, replace: bool) -> First:
    """Return how a first ingest is to be made: with how many copies, on which of the active workers.

    Raises
    ------
    UserError
        If more copies are wanted than there are workers.
    """
    if not workers:
        raise UserError("the cluster has no active worker")
    found = await home.fetch(f"SELECT value FROM {META}.cluster WHERE name = 'replicas'")
    wanted = replicas or (int(found[0][0] or b"1") if found else 1)
    if replicas is not None and replicas > len(workers):
        raise UserError(
            f"--replicas {wanted}: every copy of a chunk needs its own worker, and {len(workers)} are active"
        )
    return First(replace=replace, replicas=wanted, workers=tuple(workers))


async def same_files(home: RawConnection, number: int, stamped: Stamped) -> bool:
    """Whether the files of an ingest are these, as they are now."""
    now = sorted((one.name, stamp.size, stamp.checksum) for listed in stamped for one, stamp in listed)
    then = await Queue(home, number).files()
    return now == sorted((item.name, item.stamp.size, item.stamp.checksum) for item in then)


def check_not_begun(one: Transaction) -> None:
    """Refuse to abort an ingest whose tables are being swapped in, or are.

    Raises
    ------
    UserError
        Naming its state.
    """
    if one.state not in ("open", "running"):
        raise UserError(f"transaction {one.number} is {one.state}; only one that is open can be aborted")


class FirstIngest:
    """A first ingest on a cluster; the database's lock must be held.

    Parameters
    ----------
    cluster : Cluster
        The cluster.
    file : CatalogFile
        What is to be published.
    there : iterable of int
        Workers that answer.
    say : callable
        Takes one line of notes.
    """

    def __init__(
        self,
        cluster: Cluster,
        file: CatalogFile,
        there: Iterable[int],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._say = say
        self._cluster, self.file, self._there = cluster, file, set(there)
        workers = [number for number in cluster.workers if number in self._there]
        away = {one: cluster.agents.name(one) for one in cluster.workers if one not in self._there}
        self._stage = Staging(cluster.home, cluster.agents, workers, file.database, away)
        self._ledger = Ledger(cluster.home, cluster.agents, workers)

    @property
    def staging(self) -> Staging:
        """Its databases."""
        return self._stage

    async def published(self, fingerprint: str, stamped: Stamped) -> int | None:
        """Return the ingest that made what is published now, if it read these very files and nothing was added since."""
        for one in await transactions(
            self._cluster.home,
            f"i.db_name = {literal(self.file.database)} AND i.fingerprint = '{fingerprint}' AND i.state = 'published' "
            f"AND EXISTS (SELECT 1 FROM {META}.`databases` d WHERE d.name = i.db_name AND d.state = 'published' "
            "AND d.version = i.ingest_id AND d.revision = 0)",
        ):
            if await same_files(self._cluster.home, one.number, stamped):
                return one.number
        return None

    async def begun(self, fingerprint: str, first: First, stamped: Stamped, state: str) -> int | None:
        """Return the ingest of these files that was begun and can go on."""
        for one in await transactions(
            self._cluster.home,
            f"i.db_name = {literal(self.file.database)} AND i.fingerprint = '{fingerprint}' AND i.state = '{state}'",
        ):
            before = msgspec.json.decode(one.detail, type=_Order).first
            same = before is not None and (before.workers, before.replicas) == (first.workers, first.replicas)
            if same and await same_files(self._cluster.home, one.number, stamped):
                return one.number
        return None

    async def open(
        self, owner: str, detail: str, fingerprint: str, first: First, stamped: Stamped, state: str
    ) -> int:
        """Register an ingest and its files."""
        tables = [(spec.name, spec.kind) for spec in self.file.tables]
        name, home = self.file.database, self._cluster.home
        await home.run("START TRANSACTION")
        number = await self._ledger.open(name, owner, detail, fingerprint, tables, state)
        await self._stage.register(number, self.file.grid(), first.replicas)
        for spec, listed in zip(self.file.tables, stamped, strict=True):
            await Queue(home, number).add(spec.name, listed)
        await home.run("COMMIT")
        return number

    async def check(self, number: int, first: First, lines: SourceLines) -> list[Table]:
        """Make the chunk tables that got no row, and compare all tables on the workers with what was loaded; return the tables.

        Raises
        ------
        UserError
            Naming the first difference.
        """
        return (await self._checked(number, first, lines))[0]

    async def _checked(
        self, number: int, first: First, lines: SourceLines
    ) -> tuple[list[Table], dict[int, list[int]]]:
        """Do that; return the tables, and chunk → workers that have it."""
        learned = await self._ledger.loaded_tables(number)
        tables = []
        for spec in self.file.tables:
            facts = learned.get(spec.name)
            if facts is None or facts.table is None:
                raise UserError(f"{lines.name}: ingest {number}: table '{spec.name}' is not loaded")
            tables.append(facts.table)
        parts = (await self._ledger.parts([number])).get(number, {})
        placement = await self._placement(number, first, tables)
        held = {chunk: placement.of(chunk) for chunk in parts}
        loader = Loader(self._cluster.agents, placement, stage_name(number))
        for table in tables:
            if table.is_sharded:  # every chunk has every table, so that a missing one always means a fault
                await loader.chunk_tables(
                    table, {chunk for chunk, has in parts.items() if table.name not in has}
                )
        stored = {worker: await loader.stored(worker) for worker in placement.workers}
        return tables, self._right(number, tables, parts, held, stored)

    async def _placement(self, number: int, first: First, tables: Sequence[Table]) -> Held:
        """Return who has the chunks, of workers that answer, and that no table was loaded without."""
        agents, stage = self._cluster.agents, stage_name(number)
        wanted = {table.name for table in tables if not table.is_sharded}
        wanted |= {
            namer(table.name, TEMPLATE_CHUNK)
            for table in tables
            if table.is_sharded
            for namer in namers(table)
        }
        names = await self._ledger.tables(stage)
        whole = {
            worker for worker in self._there.intersection(first.workers) if wanted <= names[worker].keys()
        }
        holders = {
            chunk: tuple(worker for worker in ids if worker in whole or worker not in self._there)
            for chunk, ids in (await self._ledger.whole_holders(number)).items()
        }
        if lost := [chunk for chunk, ids in holders.items() if not ids]:
            raise UserError(in_turn(number, lost[0]))
        return Held(first.workers, first.replicas, holders, whole, agents.name)

    def _right(
        self,
        number: int,
        tables: Sequence[Table],
        parts: _Parts,
        held: Mapping[int, list[int]],
        stored: Mapping[int, Mapping[str, int]],
    ) -> dict[int, list[int]]:
        """Return chunk → workers of which all tables are right; a repair makes the copies of others anew.

        Raises
        ------
        UserError
            If no worker has all rows of a chunk, or of a replicated table: they will not come by themselves.
        """
        whole = [(table, table.name, table.rows) for table in tables if not table.is_sharded]
        useless = {worker: self._wrong(worker, whole, stored[worker]) for worker in stored}
        lost = next(iter(useless.values()), "") if stored and all(useless.values()) else ""
        out, told = dict[int, list[int]](), dict[int, str]()
        for chunk, ids in held.items():
            wanted = _wanted(tables, chunk, parts[chunk])
            faults = {
                one: useless[one] or self._wrong(one, wanted, stored[one]) for one in ids if one in stored
            }
            out[chunk] = [worker for worker in ids if not faults.get(worker)]
            lost = lost or ("" if out[chunk] else next(filter(None, faults.values()), ""))
            told = {one: text for one, text in faults.items() if text} | told
        if lost:
            raise UserError(
                f"{lost}, and no other that answers has them all; start those that are away, or abort it (skyshard ingest "
                f"--abort {number}) and begin anew"
            )
        for text in told.values():
            self._say(f"  note: {text}; its copies that are wrong are left out")
        return out

    def _wrong(self, worker: int, wanted: Sequence[tuple[Table, str, int]], stored: Mapping[str, int]) -> str:
        """Return the first of some tables of a worker that has not its rows; nothing if there is none."""
        for table, name, rows in wanted:
            if stored.get(name) != rows:
                return (
                    f"table '{table.name}': worker {self._cluster.workers[worker].name} has {stored.get(name, 'no')} "
                    f"of {rows} rows of {name}"
                )
        return ""

    async def publish(self, number: int, first: First, lines: SourceLines) -> list[Table]:
        """Check the loaded tables once more, and publish them in the place of what is published; return them."""
        await self._stage.check_closed(number)
        await self._stage.check_free(first.replace, [spec.name for spec in self.file.tables])
        tables, held = await self._checked(number, first, lines)
        parts = (await self._ledger.parts([number])).get(number, {})
        counts = {
            table.name: {chunk: has[table.name] for chunk, has in parts.items() if table.name in has}
            for table in tables
            if table.is_sharded
        }
        await self._stage.write(number, tables, counts, held)
        await self._stage.publish(number)
        return tables

    async def abandon(self, number: int, state: str) -> None:
        """Remove everything of an ingest that is not published."""
        one: Transaction = await find(self._cluster.home, number)
        check_not_begun(one)
        await self._stage.abandon(number, state)


def _wanted(
    tables: Sequence[Table], chunk: int, has: Mapping[str, ChunkRows]
) -> list[tuple[Table, str, int]]:
    """Return the tables of a chunk, what they are called and their rows."""
    out = []
    for table in tables:
        if table.is_sharded:
            counts = has.get(table.name, ChunkRows(0, 0))
            names = [namer(table.name, chunk) for namer in namers(table)]
            out += [(table, name, rows) for name, rows in zip(names, counts, strict=False)]
    return out


class _Order(msgspec.Struct, frozen=True):
    """What is of interest here of what an ingest was asked for (see steps)."""

    first: First | None = None
