"""Loads the rows of a transaction: like an ingest, but into tables that are published already.

Columns, keys and the grid are those of the published tables. A table's rows are loaded whole or not at all: what a
killed run had loaded of one is dropped by the next run, which goes on behind the tables that are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backend.connection import RawConnection
from shard.catalog import types
from shard.catalog.catalog_file import CatalogFile, ColumnSpec, Places, TableSpec
from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    INDEX_DATABASE,
    index_table,
    literal,
    overlap_table,
    quote,
    split_chunk_name,
    stage_name,
)
from shard.catalog.placement import Placement
from shard.wire import rows as row_packets
from skyshard.cluster.connect import ClusterAddress, mistake
from skyshard.errors import UserError
from skyshard.ingest import loading, sources
from skyshard.ingest.ingest import Ingest, directors_of
from skyshard.ingest.keys import Ints, KeyIndex, array_of
from skyshard.ingest.layout import Field, Layout, layout_of
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.progress import Bars
from skyshard.ingest.queue import Queue, Queued
from skyshard.ingest.runs import Array
from skyshard.ingest.staging import Counts
from skyshard.ingest.transactions import LONGEST_NAME, Learned, Published, Transaction


class Held(Placement):
    """Where the rows of a transaction go: to all copies of their chunks, new chunks as in any ingest."""

    def __init__(self, active: Sequence[int], replicas: int, holders: Mapping[int, tuple[int, ...]]) -> None:
        super().__init__(active, replicas)
        self._holders = holders
        self.workers = sorted({*active, *(worker for ids in holders.values() for worker in ids)})
        self._active = Placement(active, replicas)

    def of(self, chunk: int) -> list[int]:
        """Return the workers that get a chunk's rows."""
        return list(self._holders.get(chunk) or self._active.of(chunk))


class Append(Ingest):
    """The rows of one transaction.

    Parameters
    ----------
    file, places, base, address, jobs, bars
        As of `Ingest`.
    published : Published
        The database.
    transaction : Transaction
        Of this database, open and locked.
    visible : sequence of int
        Transactions whose rows are visible.
    """

    def __init__(
        self,
        file: CatalogFile,
        places: Places,
        base: Path,
        address: ClusterAddress,
        *,
        published: Published,
        transaction: Transaction,
        visible: Sequence[int],
        jobs: int,
        bars: Bars,
    ) -> None:
        super().__init__(file, places, base, address, replace=False, jobs=jobs, bars=bars)
        self._to, self._transaction, self._visible = published, transaction, visible
        self._stage = stage_name(transaction.number)
        self._queued: dict[str, list[Queued]] = {}
        self._known: set[str] = set()  # directors whose published keys are in `_indexes`
        self._keys |= {t.name: t.key or "" for t in published.tables if t.kind is Kind.DIRECTOR}
        self._new: dict[str, Table] = {}  # tables that are not published, once they are loaded
        for table in published.tables:
            self._layouts[table.name] = _layout(table)

    async def load(self) -> None:
        """Load every table that is not loaded yet.

        Raises
        ------
        UserError
            If something is wrong with the files or the cluster; what was loaded stays for the next run.
        """
        home = await self._home()
        try:
            await self._cluster(home)
            active = [number for number, worker in self._workers.items() if worker.state == "active"]
            ledger = Ledger(home, self._agents, list(self._workers))
            queue = Queue(home, self._transaction.number)
            await ledger.prepare(self._transaction.number)
            await ledger.look(self._transaction.number)
            placement = Held(active, self._to.replicas, self._to.holders)
            await self._load_tables(home, ledger, queue, placement)
        finally:
            await home.close()
            await self._finish()

    async def _load_tables(
        self, home: RawConnection, ledger: Ledger, queue: Queue, placement: Placement
    ) -> None:
        number = self._transaction.number
        done = await ledger.loaded_tables(number)
        self._new |= {name: facts.table for name, facts in done.items() if facts.table is not None}
        for name, table in self._new.items():
            self._layouts[name] = _layout(table)
        for chunk, tables in (await ledger.parts([number])).get(number, {}).items():
            for name, (main, near) in tables.items():
                before = self._counts.setdefault(name, Counts({}, {}))
                self._counts[name] = Counts({**before.rows, chunk: main}, {**before.overlap, chunk: near})
        for item in await queue.files():
            self._queued.setdefault(item.table, []).append(item)
        loader = loading.Loader(self._agents, placement, self._stage)
        with self._temporary() as directory:
            for spec in self.in_order():
                if spec.name in done:
                    continue
                await self._clean(home, ledger, spec)
                await queue.begin(spec.name)
                try:
                    learned = await self._one(home, loader, spec, directory)
                except (UserError, ExceptionGroup) as error:
                    found = mistake(error)
                    if isinstance(found, UserError):
                        await queue.failed(spec.name, str(found))
                    raise found from error
                counts = self._counts.get(spec.name, Counts({}, {}))
                rows = {
                    chunk: (counts.rows.get(chunk, 0), counts.overlap.get(chunk, 0))
                    for chunk in {*counts.rows, *counts.overlap}
                }
                held = {chunk: placement.of(chunk) for chunk in rows}
                await ledger.loaded(number, spec.name, learned, rows, held)

    async def _one(
        self, home: RawConnection, loader: loading.Loader, spec: TableSpec, directory: Path
    ) -> Learned:
        """Load one table; return what its rows say."""
        listed = [item.data_file() for item in self._queued.get(spec.name, ())]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reader, self._unchanged, spec.name)
        for director in directors_of(spec):
            if director not in self._known:
                self._known.add(director)
                self._indexes[director] = await self._all_keys(home, loader, spec, director, directory)
        job = await self._job(home, spec, listed, directory)
        with self._temporary() as texts:
            await self._table(home, loader, self._stage, job, texts)
        await loop.run_in_executor(self._reader, self._unchanged, spec.name)
        new = None
        if self._to.table(spec.name) is None:
            new = self._new[spec.name] = self._tables[-1]
        return Learned(
            rows=job.rows,
            table=new,
            key_spans_chunks=job.spans_chunks,
            null_keys=job.null_keys,
            wide_pairs=job.wide_pairs,
        )

    def _unchanged(self, table: str) -> None:
        """Raise if a file is not what it was when it was queued."""
        for item in self._queued.get(table, ()):
            item.check()

    def _fetch(self, url: str, path: Path) -> None:
        known = next(item for items in self._queued.values() for item in items if item.name == url)
        sources.fetch(url, known.stamp, path)

    async def _clean(self, home: RawConnection, ledger: Ledger, spec: TableSpec) -> None:
        """Drop what an earlier run has loaded of a table."""
        jobs = {}
        for worker, names in (await ledger.tables(self._stage)).items():
            own = (name for name in names if (found := split_chunk_name(name)) and found[0] == spec.name)
            jobs[worker] = [f"DROP TABLE {quote(self._stage)}.{quote(name)}" for name in own]
            if spec.name in names:
                jobs[worker].append(f"DROP TABLE {quote(self._stage)}.{quote(spec.name)}")
        await ledger.run(jobs)
        await home.run(f"DROP TABLE IF EXISTS {quote(self._stage)}.{quote(spec.name)}")
        index = index_table(self._stage, spec.name)
        await home.run(f"DROP TABLE IF EXISTS {quote(INDEX_DATABASE)}.{quote(index)}")

    # what differs from an ingest -------------------------------------------------------------------

    async def _trap(self, home: RawConnection, stage: str, empty: Table) -> None:
        """Make none for a table that has one."""
        if self._to.table(empty.name) is None:
            await super()._trap(home, stage, empty)

    async def _layout(self, home: RawConnection, spec: TableSpec, typed_files: list[Path]) -> Layout:
        """Return the published columns, with the names that the files have for them."""
        table = self._to.table(spec.name)
        if table is None:
            return await super()._layout(home, spec, typed_files)
        place = self._place(spec)
        asked = spec
        if spec.schema is None and (typed_files or not spec.columns):
            own = {column.name: column.sql_type for column in table.columns}
            columns: dict[str, str | ColumnSpec] = {
                name: msgspec.structs.replace(spec.column(name), type=spec.column(name).type or kind)
                for name, kind in own.items()
            }
            columns |= {name: spec.column(name) for name in spec.columns if name not in own}
            asked = msgspec.structs.replace(spec, columns=columns)
        found = await layout_of(home, asked, place, self._places, self._base, typed_files)
        theirs = {field.column.name: field.column.sql_type for field in found.fields}
        ours = {column.name: column.sql_type for column in table.columns}
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise UserError(
                    f"{self._places.of(*place)}: table '{spec.name}': column '{name}' is "
                    f"{theirs.get(name, 'not here')}, and {ours.get(name, 'not')} in the published table"
                )
        return found

    async def _all_keys(
        self, home: RawConnection, loader: loading.Loader, spec: TableSpec, director: str, directory: Path
    ) -> KeyIndex:
        """Return where a director's keys lie: the published ones, and those of this transaction."""
        index = KeyIndex(directory / f"{director} for {spec.name}")
        table = self._to.table(director) or self._new.get(director)
        if table is None:
            raise UserError(f"there is no director table '{self._to.name}.{director}'")
        kind = self._layouts[director].kind(table.key or "")
        places = [self._to.name, *map(stage_name, self._visible), self._stage]
        names = [index_table(place, director) for place in places]
        listed = ", ".join(map(literal, names))
        there = await home.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} "
            f"AND TABLE_NAME IN ({listed})"
        )
        for (name,) in there:
            answer = await home.query(
                "SELECT directorKey, chunkId, subChunkId FROM "
                f"{quote(INDEX_DATABASE)}.{quote((name or b'').decode())}".encode()
            )
            async for block in answer.blocks():
                found = list(zip(*row_packets.split(block.data), strict=True))
                keys, _ = _keys(found[0], kind)
                index.add(keys, _numbers(found[1]), _numbers(found[2]))
        if spec.kind is Kind.MATCH or kind.family is not types.Family.INTEGER:
            await self._overlap_keys(loader, table, kind, index)
        index.finish()
        return index

    async def _overlap_keys(
        self, loader: loading.Loader, table: Table, kind: types.SqlType, index: KeyIndex
    ) -> None:
        """Add in whose overlap keys lie, as the workers have it."""
        wanted: dict[int, list[tuple[int, str]]] = {}
        for chunk, ids in self._to.holders.items() if table.name not in self._new else ():
            if not ids:
                raise UserError(
                    f"nobody has chunk {chunk} of database '{self._to.name}'; run skyshard repair"
                )
            name = overlap_table(table.name, chunk, self._to.states.get(chunk, 0))
            wanted.setdefault(ids[0], []).append((chunk, f"{quote(self._to.name)}.{quote(name)}"))
        for chunk in self._counts[table.name].overlap if table.name in self._counts else ():
            name = f"{quote(self._stage)}.{quote(overlap_table(table.name, chunk))}"
            wanted.setdefault(loader.holders(chunk)[0], []).append((chunk, name))

        async def read(worker: int, tables: list[tuple[int, str]]) -> None:
            for chunk, name in tables:
                answer = await self._agents.admin(worker, [f"SELECT {quote(table.key or '')} FROM {name}"])
                if answer:
                    keys, _ = _keys([(row[0] or "").encode() for row in answer], kind)
                    index.add_overlap(keys, np.full(len(keys), chunk, dtype=np.int32))

        async with asyncio.TaskGroup() as group:
            for worker, tables in wanted.items():
                group.create_task(read(worker, tables))


def _numbers(values: Sequence[bytes | None]) -> Ints:
    return np.array([int(value or b"0") for value in values], dtype=np.int32)


def _keys(values: Sequence[bytes | None], kind: types.SqlType) -> tuple[Array, npt.NDArray[np.bool_]]:
    texts = [(value or b"").decode() for value in values]
    if kind.family is not types.Family.INTEGER:
        return array_of(pa.array(texts, pa.string()), kind)
    return array_of(pa.array([int(text) for text in texts], kind.arrow), kind)


def _layout(table: Table) -> Layout:
    fields = tuple(Field(column, column.name, types.sql_type(column.sql_type)) for column in table.columns)
    return Layout(fields, tuple(field.source for field in fields))


def check_fits(file: CatalogFile, places: Places, base: Published) -> None:
    """Refuse a catalogue file that is not about tables as they are published.

    Raises
    ------
    UserError
        With file, line and what differs.
    """
    if file.grid() != base.partitioning:
        p = base.partitioning
        raise UserError(
            f"{places.of('partitioning')}: partitioning: database '{base.name}' has stripes {p.stripes}, "
            f"sub_stripes {p.sub_stripes}, overlap_deg {p.overlap_deg}"
        )
    for index, spec in enumerate(file.tables):
        where = f"{places.of('tables', index)}: table '{spec.name}': "
        table = base.table(spec.name)
        if table is None:
            _check_new(file, spec, where, base)
            continue
        if not table.is_sharded:
            raise UserError(
                f"{where}rows cannot be added to a replicated table; publish the database anew with --replace"
            )
        for field in ("kind", "key", "longitude", "latitude", "director", "director_key"):
            if getattr(spec, field) != getattr(table, field):
                raise UserError(
                    f"{where}{field}: '{getattr(spec, field)}' differs from the published '{getattr(table, field)}'"
                )
        if spec.sides() != table.sides:
            raise UserError(f"{where}directors: they differ from the published ones")
    names = [table.name for table in base.sharded]
    names += [spec.name for spec in file.tables if spec.kind is not Kind.REPLICATED]
    too_long = next((name for name in names if len(name) > LONGEST_NAME), None)
    if too_long is not None:
        raise UserError(
            f"table '{base.name}.{too_long}': rows can be added only to databases whose tables have names of "
            f"at most {LONGEST_NAME} characters"
        )


def _check_new(file: CatalogFile, spec: TableSpec, where: str, base: Published) -> None:
    """Refuse a new table that cannot stand beside the published ones."""
    if other := next((t.name for t in base.tables if t.name.lower() == spec.name.lower()), None):
        raise UserError(f"{where}the published table '{other}' differs from it only in case")
    known = {table.name for table in base.tables if table.kind is Kind.DIRECTOR}
    known |= {other.name for other in file.tables if other.kind is Kind.DIRECTOR}
    for director in directors_of(spec):
        if director not in known:
            raise UserError(
                f"{where}director: '{director}' is no director table of this file or of database '{base.name}'"
            )
