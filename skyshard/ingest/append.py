"""Loads the rows of a transaction: like an ingest, but into tables that are published already.

Columns, keys and the grid are those of the published tables. A first ingest is one to which no table is published. A
batch of files is loaded whole or not at all: what a killed run had loaded of one is dropped by whoever takes it next,
and nothing that is there is loaded again.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from backend.connection import RawConnection
from backend.scratch import scratch
from shard.catalog import types
from shard.catalog.catalog_file import CatalogFile, ColumnSpec, SourceLines, TableSpec
from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    INDEX_DATABASE,
    index_table,
    quote,
    split_chunk_name,
    stage_name,
)
from shard.catalog.placement import Placement
from skyshard.catalog.cluster import PATIENCE, answering, read_workers
from skyshard.cluster.connect import ClusterAddress, mistake
from skyshard.errors import UserError
from skyshard.home.watched import watched
from skyshard.ingest import loading, sources, staging, typed
from skyshard.ingest.contributions import (
    BATCH_BYTES,
    Batch,
    Claims,
    Contribution,
    Contributions,
    batches,
    together,
)
from skyshard.ingest.held import Held
from skyshard.ingest.ingest import Ingest, directors_of
from skyshard.ingest.keys import KeyIndex
from skyshard.ingest.layout import Field, Layout, layout_of
from skyshard.ingest.ledger import Ledger, in_turn
from skyshard.ingest.progress import Bars
from skyshard.ingest.published_keys import PublishedKeys
from skyshard.ingest.queue import Queue, Queued
from skyshard.ingest.spill import SCRATCH
from skyshard.ingest.transactions import Learned, Published, Transaction, find


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run works with."""

    home: RawConnection
    ledger: Ledger
    queue: Queue
    claims: Claims
    loader: loading.Loader
    placement: Placement


class Append(Ingest):
    """The rows of one transaction.

    Parameters
    ----------
    file, lines, base, address, jobs, bars
        As of `Ingest`.
    published : Published
        The database.
    transaction : Transaction
        Of this database, open and locked.
    visible : sequence of int
        Transactions whose rows are visible.
    only : sequence of int
        The workers of a first ingest, which builds on nothing; None: those that are active.
    batch_bytes : int
        Bytes of a table's files that are loaded at once.
    """

    def __init__(
        self,
        file: CatalogFile,
        lines: SourceLines,
        base: Path,
        address: ClusterAddress,
        *,
        published: Published,
        transaction: Transaction,
        visible: Sequence[int],
        only: Sequence[int] | None = None,
        batch_bytes: int = BATCH_BYTES,
        jobs: int,
        bars: Bars,
    ) -> None:
        super().__init__(file, lines, base, address, jobs=jobs, bars=bars)
        self._only, self._batch_bytes = only, batch_bytes
        self._to, self._transaction, self._visible = published, transaction, visible
        self._stage = stage_name(transaction.number)
        self._queued: dict[str, list[Queued]] = {}
        self._known: set[str] = set()  # directors whose published keys are in `_indexes`
        self._keys |= {t.name: t.key or "" for t in published.tables if t.kind is Kind.DIRECTOR}
        self._new: dict[str, Table] = {}  # tables that are not published, once they are loaded
        for table in published.tables:
            self._layouts[table.name] = _layout(table)

    async def load(self) -> None:
        """Load every table that is not loaded yet, beside other processes that do so.

        Raises
        ------
        UserError
            If something is wrong with the files or the cluster; what was loaded stays for the next run.
        """
        home = await self._home()
        try:
            async with watched(home):  # with it its claims are gone, and others take the batches
                await self._load_all(home)
        finally:
            await home.close()
            await self._finish()

    async def _load_all(self, home: RawConnection) -> None:
        number = self._transaction.number
        self._workers.update(await read_workers(home))
        there = await self._answering()
        ledger = Ledger(home, self._agents, sorted(there))
        placed = {**await ledger.holders(number), **self._to.holders}
        placement = Held(self._targets(), self._to.replicas, placed, there, self._agents.name)
        loader = loading.Loader(self._agents, placement, self._stage)
        work = _Work(home, ledger, Queue(home, number), Claims(home, number), loader, placement)
        with scratch(SCRATCH) as directory:
            for spec in self.in_order():
                while not await self._is_loaded(work, spec.name):
                    await self._pull(work, spec, directory)

    async def _answering(self) -> set[int]:
        """Return the workers that answer; what the others miss is given to them by a repair."""
        there = await answering(self._agents, self._workers, PATIENCE)
        for number in (number for number in self._workers if number not in there):
            self._bars.say(
                f"  note: {self._agents.name(number)} does not answer; 'skyshard repair' will make its copies"
            )
        return there

    def _targets(self) -> list[int]:
        """Return the workers that get chunks which nobody has."""
        active = [number for number, worker in self._workers.items() if worker.state == "active"]
        if not active:
            raise UserError("the cluster has no active worker")
        if self._to.replicas > len(active):
            self._bars.say(
                f"  note: {self._to.replicas} copies of every chunk are wanted, and {len(active)} workers are active"
            )
        if self._only is None:
            return active
        lost = [number for number in self._only if number not in self._workers]
        if lost:
            raise UserError(
                f"ingest {self._transaction.number} was begun on {len(self._only)} workers, of which {len(lost)} are gone; "
                f"abort it (skyshard ingest --abort {self._transaction.number}) and begin anew"
            )
        return list(self._only)

    async def _is_loaded(self, work: _Work, name: str) -> bool:
        """Whether a table is loaded; learns what others have loaded meanwhile."""
        number = self._transaction.number
        done = await work.ledger.loaded_tables(number)
        for other, facts in done.items():
            if facts.table is not None and other not in self._new:
                self._new[other] = facts.table
                self._layouts[other] = _layout(facts.table)
        if name not in done:
            return False
        parts = (await work.ledger.parts([number])).get(number, {})
        self._counts[name] = {chunk: tables[name] for chunk, tables in parts.items() if name in tables}
        return True

    async def _pull(self, work: _Work, spec: TableSpec, directory: Path) -> None:
        """Load one batch of a table's files, or put the batches together; or wait a while for those who do."""
        parts = await self._batches(work, spec)
        mine = await work.claims.first([part for part in parts if not part.is_loaded] or parts[:1])
        if mine is None:
            return
        try:
            one = await find(work.home, self._transaction.number)
            if one.state not in ("open", "running"):
                raise UserError(f"transaction {one.number} is {one.state}")
            now = await self._batches(work, spec)  # as it is now that nobody else works on it
            if spec.name in await work.ledger.loaded_tables(one.number) or now != parts:
                return
            if all(part.is_loaded for part in parts) and not mine.is_all:
                await self._join(work, spec, parts, directory)
            else:
                await self._contribute(work, spec, mine, directory)
        finally:
            await work.claims.give(mine)

    async def _batches(self, work: _Work, spec: TableSpec) -> list[Batch]:
        items = self._queued[spec.name] = [
            item for item in await work.queue.files() if item.table == spec.name
        ]
        if not items:  # a table without rows, which is made all the same
            return [Batch(-1 - self._file.tables.index(spec), (), is_all=True)]
        away = any(sources.is_remote(item.name) for item in items)
        typed_away = away and spec.schema is None and typed.is_typed(spec, items[0].data_file().path)
        # Types that files of elsewhere tell are known only once all of them have been fetched.
        return batches(items, None if spec.kind is Kind.REPLICATED or typed_away else self._batch_bytes)

    async def _contribute(self, work: _Work, spec: TableSpec, batch: Batch, directory: Path) -> None:
        """Load a batch."""
        number, name = self._transaction.number, spec.name
        parts = Contributions(work.home, work.ledger, number)
        await work.queue.begin(batch.files)
        # Nobody can take the transaction away as long as there is a claim on it.
        await work.ledger.prepare(number)
        if batch.is_all:
            await self._clean(work.home, work.ledger, spec)
            loader, stage = work.loader, self._stage
        else:
            stage = await parts.begin(batch)
            loader = loading.Loader(self._agents, work.placement, stage)
        own = directory / f"{name} {batch.number}"
        own.mkdir(exist_ok=True)
        try:
            learned = await self._one(work.home, loader, stage, spec, batch, own)
        except (UserError, ExceptionGroup) as error:
            found = mistake(error)
            if isinstance(found, UserError):
                await self._note(work, batch, str(found))
            raise found from error
        rows = self._counts.get(name, {})
        if batch.is_all:
            held = {chunk: work.placement.of(chunk) for chunk in rows}
            await work.ledger.loaded(number, name, learned, rows, held)
            if self._only is not None:  # the keys of a first ingest's director are all here
                self._known.add(name)
            return
        workers = tuple(work.ledger.workers)
        await parts.loaded(batch, name, Contribution(learned=learned, chunks=rows, workers=workers))
        self._forget_part(name)
        await asyncio.to_thread(shutil.rmtree, own)

    async def _note(self, work: _Work, batch: Batch, reason: str) -> None:
        """Write down why a batch was not loaded."""
        if not work.home.busy and not work.home.closed:
            await work.queue.failed(batch.files, reason)
            return
        fresh = await self._home()  # it came amid a statement: the other connection is of no more use
        try:
            await Queue(fresh, self._transaction.number).failed(batch.files, reason)
        finally:
            await fresh.close()

    def _forget_part(self, name: str) -> None:
        """Forget what is known of a table of which others have loaded parts."""
        self._known.discard(name)
        self._new.pop(name, None)
        self._counts.pop(name, None)
        self._indexes.pop(name, None)

    def _whole_copies(self, work: _Work, found: Iterable[Contribution]) -> _Work:
        """Return what to work with on the workers that have got every batch."""
        fit = set(work.ledger.workers).intersection(*(one.workers for one in found))
        placed = {chunk: tuple(work.placement.of(chunk)) for one in found for chunk in one.chunks}
        if lost := sorted(chunk for chunk, ids in placed.items() if not fit.intersection(ids)):
            raise UserError(in_turn(self._transaction.number, lost[0]))
        placement = Held(sorted(fit), work.placement.replicas, placed, fit, self._agents.name)
        ledger = Ledger(work.home, self._agents, sorted(fit))
        return replace(
            work,
            ledger=ledger,
            placement=placement,
            loader=loading.Loader(self._agents, placement, self._stage),
        )

    async def _join(self, work: _Work, spec: TableSpec, parts: Sequence[Batch], directory: Path) -> None:
        """Put what was loaded of a table's batches together."""
        number, name = self._transaction.number, spec.name
        joined = Contributions(work.home, work.ledger, number)
        found = await joined.read(parts)
        learned, rows = together(list(found.values()))
        published = self._to.table(name)
        table = learned.table or published
        if table is None or len(found) < len(parts):
            raise UserError(
                f"transaction {number}: not all parts of table '{name}' are there; abort it and begin anew"
            )
        if published is None:
            await work.home.run(f"DROP TABLE IF EXISTS {quote(self._stage)}.{quote(name)}")
            for statement in staging.traps(self._stage, table):
                await work.home.run(statement)
        work = self._whole_copies(work, found.values())
        await joined.join(table, found, work.loader)
        if spec.kind is Kind.DIRECTOR:
            await joined.join_indexes(name, list(found))
            self._counts[name] = rows
            self._layouts[name] = _layout(table)
            kind = self._layouts[name].kind(table.key or "")
            known = PublishedKeys(work.home, self._agents, work.loader, self._to, self._stage)
            keys = await known.of(
                table, kind, [self._stage], directory / f"{name} keys", {}, self._overlaps(name)
            )
            learned = msgspec.structs.replace(learned, key_spans_chunks=keys.spans_chunks)
        if learned.table is not None:
            learned = msgspec.structs.replace(
                learned,
                table=msgspec.structs.replace(
                    table,
                    rows=learned.rows,
                    key_spans_chunks=learned.key_spans_chunks,
                    null_keys=learned.null_keys,
                    wide_pairs=learned.wide_pairs,
                ),
            )
        held = {chunk: work.placement.of(chunk) for chunk in rows}
        await work.ledger.loaded(number, name, learned, rows, held)
        await work.ledger.drop_contributions(number, found)
        self._bars.say(f"{name}: {learned.rows:,} rows of {len(parts)} batches")

    async def _one(
        self,
        home: RawConnection,
        loader: loading.Loader,
        stage: str,
        spec: TableSpec,
        batch: Batch,
        directory: Path,
    ) -> Learned:
        """Load some files of a table; return what their rows say."""
        listed = [item.data_file() for item in self._queued[spec.name]]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reader, self._unchanged, batch)
        for director in directors_of(spec):
            if director not in self._known:
                self._known.add(director)
                self._indexes[director] = await self._all_keys(home, loader, spec, director, directory)
        job = await self._job(home, spec, listed, directory, [item.data_file() for item in batch.files])
        self._counts.pop(spec.name, None)
        with scratch(SCRATCH) as texts:
            await self._table(home, loader, stage, job, texts)
        await loop.run_in_executor(self._reader, self._unchanged, batch)
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

    @staticmethod
    def _unchanged(batch: Batch) -> None:
        """Raise if a file is not what it was when it was queued."""
        for item in batch.files:
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
        """Make none for a table that has one, or of which others load parts."""
        if self._to.table(empty.name) is None and stage == self._stage:
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
        found = await layout_of(home, asked, place, self._lines, self._base, typed_files)
        theirs = {field.column.name: field.column.sql_type for field in found.fields}
        ours = {column.name: column.sql_type for column in table.columns}
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise UserError(
                    f"{self._lines.of(*place)}: table '{spec.name}': column '{name}' is "
                    f"{theirs.get(name, 'not here')}, and {ours.get(name, 'not')} in the published table"
                )
        return found

    async def _all_keys(
        self, home: RawConnection, loader: loading.Loader, spec: TableSpec, director: str, directory: Path
    ) -> KeyIndex:
        """Return where a director's keys lie: the published ones, and those of this transaction."""
        table = self._to.table(director) or self._new.get(director)
        if table is None:
            raise UserError(f"there is no director table '{self._to.name}.{director}'")
        places = [] if self._only is not None else [self._to.name, *map(stage_name, self._visible)]
        kind = self._layouts[director].kind(table.key or "")
        near = spec.kind is Kind.MATCH or kind.family is not types.Family.INTEGER
        holders = {} if director in self._new else self._to.holders
        path = directory / f"{director} for {spec.name}"
        return await PublishedKeys(home, self._agents, loader, self._to, self._stage).of(
            table, kind, [*places, self._stage], path, holders if near else None, self._overlaps(director)
        )

    def _overlaps(self, director: str) -> list[int]:
        """Return the chunks that get rows of a director's overlap from this transaction."""
        return [chunk for chunk, has in self._counts.get(director, {}).items() if has.overlap]


def _layout(table: Table) -> Layout:
    fields = tuple(Field(column, column.name, types.sql_type(column.sql_type)) for column in table.columns)
    return Layout(fields, tuple(field.source for field in fields))
