"""Reads, partitions and loads the tables of a catalogue file through the agents.

Everything goes into databases that nobody sees (see staging, contributions), table by table: directors, then what refers
to them. Of each table the files are partitioned by several processes (or threads, if they are small), and the text of
every chunk is kept until the whole table is read; then it is loaded. Meanwhile the chunk tables are made, which is
waiting for disks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.catalog_file import CatalogFile, SourceLines, TableSpec
from shard.catalog.model import Kind, Table, Worker
from shard.catalog.naming import (
    INDEX_DATABASE,
    index_table,
    quote,
)
from shard.geometry.chunker import ChunkGrid
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.ingest import files, loading, processes, sources, staging, typed, values
from skyshard.ingest.job import Job, defined, origin
from skyshard.ingest.keys import KeyIndex
from skyshard.ingest.layout import Layout, layout_of
from skyshard.ingest.partition import Partitioner, Parts, check_types
from skyshard.ingest.processes import Processes
from skyshard.ingest.progress import Bars, Step
from skyshard.ingest.spill import Spill
from skyshard.ingest.transactions import ChunkRows

_ORDER = {Kind.DIRECTOR: 0, Kind.DEPENDENT: 1, Kind.MATCH: 2, Kind.REPLICATED: 3}
_YEAR_S = 31_536_000
_INDEX_ROWS = 200_000


class Ingest:
    """What loads the tables of a catalogue file.

    Parameters
    ----------
    file : CatalogFile
        What to load.
    lines : SourceLines
        Where its keys stand, for messages.
    base : Path
        The directory that its paths are relative to.
    address : ClusterAddress
        The cluster.
    jobs : int
        Pieces partitioned at once; 1: all in this process.
    bars : Bars
        Progress and notes.
    """

    def __init__(
        self,
        file: CatalogFile,
        lines: SourceLines,
        base: Path,
        address: ClusterAddress,
        *,
        jobs: int,
        bars: Bars,
    ) -> None:
        self._file, self._lines, self._base, self._address = file, lines, base, address
        self._jobs, self._bars = jobs, bars
        self._grid = ChunkGrid.of(file.grid())
        self._workers: dict[int, Worker] = {}
        self._agents = AgentPool(self._workers, address.secret, tls=address.tls)
        self._indexes: dict[str, KeyIndex] = {}
        self._layouts: dict[str, Layout] = {}
        self._keys = {table.name: table.key or "" for table in file.tables if table.kind is Kind.DIRECTOR}
        self._tables: list[Table] = []
        self._counts: dict[str, dict[int, ChunkRows]] = {}
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="partition")
        self._processes = Processes(jobs)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")

    async def _finish(self) -> None:
        """End what works for this ingest."""
        await self._agents.close()
        self._processes.end()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._processes.close()
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def _home(self) -> RawConnection:
        home = await RawConnection.open(self._address.home)
        try:
            await home.run(f"SET SESSION sql_mode='', time_zone='+00:00', wait_timeout={_YEAR_S}")
        except BaseException:
            home.abort()
            raise
        return home

    def _place(self, spec: TableSpec) -> tuple[str | int, ...]:
        return "tables", self._file.tables.index(spec)

    def in_order(self) -> list[TableSpec]:
        """Return the tables, directors before what refers to them."""
        return sorted(self._file.tables, key=lambda spec: _ORDER[spec.kind])

    # one table -----------------------------------------------------------------------------------

    async def _job(
        self,
        home: RawConnection,
        spec: TableSpec,
        listed: list[files.DataFile],
        directory: Path,
        wanted: list[files.DataFile] | None = None,
    ) -> Job:
        """Return what is to be done for a table.

        Parameters
        ----------
        listed : list of DataFile
            All its files, which say what its columns are.
        wanted : list of DataFile
            Those that are loaded; None: all.
        """
        place = self._place(spec)
        asked = listed if wanted is None else wanted
        fetched = await self._fetched(asked, directory / f"{spec.name} files")
        here = dict(zip(asked, fetched, strict=True))
        listed = [here.get(file, file) for file in listed]
        own = [file.path for file in listed if not file.is_overlap]
        kinds = sorted({typed.type_of(spec, path) for path in own})
        if len(kinds) > 1:
            raise UserError(
                f"{self._lines.of(*place)}: table '{spec.name}': it has files of several types ({', '.join(kinds)})"
            )
        layout = await self._layout(home, spec, [path for path in own if typed.is_typed(spec, path)])
        self._layouts[spec.name] = layout
        names = {column.name for column in layout.columns}
        for path, name in spec.named_columns():
            if name not in names:
                where = self._lines.of(*place, *path)
                raise UserError(f"{where}: table '{spec.name}': {path[-1]}: there is no column '{name}'")
        if wrong := check_types(spec, self._layouts, self._keys):
            raise UserError(f"{self._lines.of(*place)}: table '{spec.name}': {wrong}")
        if spec.kind is Kind.DIRECTOR:
            self._indexes[spec.name] = KeyIndex(directory / spec.name)
        chunks = frozenset(file.chunk for file in listed if file.chunk is not None and not file.is_overlap)
        indexes = {name: self._indexes[name] for name in directors_of(spec)}
        partitioner = Partitioner(spec, layout, self._grid, indexes, chunks)
        return Job(spec, place, fetched, layout, partitioner, loading.Target.of(partitioner.names, layout))

    async def _layout(self, home: RawConnection, spec: TableSpec, typed_files: list[Path]) -> Layout:
        return await layout_of(home, spec, self._place(spec), self._lines, self._base, typed_files)

    async def _fetched(self, listed: list[files.DataFile], directory: Path) -> list[files.DataFile]:
        """Return files as they are on this machine: those of elsewhere are fetched."""
        if not any(file.url for file in listed):
            return listed
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reader, directory.mkdir)
        out = []
        for file in listed:
            if file.url is not None:
                path = directory / file.path.name
                await loop.run_in_executor(self._reader, self._fetch, file.url, path)
                file = replace(file, path=path)  # noqa: PLW2901 - the same file, here
            out.append(file)
        return out

    def _fetch(self, url: str, path: Path) -> None:
        sources.fetch(url, None, path)

    async def _table(
        self, home: RawConnection, loader: loading.Loader, stage: str, job: Job, directory: Path
    ) -> None:
        spec = job.spec
        empty = defined(job)
        await self._trap(home, stage, empty)
        with Spill(directory) as main, Spill(directory) as overlap:
            await self._read(loader, empty, job, main, overlap, directory)
            table = self._described(job, empty)
            total = sum(main.rows.values()) + sum(overlap.rows.values())
            step = self._bars.step(f"{table.name}: load", total)
            try:
                if table.is_sharded:
                    await self._sharded(home, loader, stage, table, job, main, overlap, step)
                else:
                    await self._replicated(home, loader, stage, table, job, main, step)
            except* loading.BadRow as group:
                raise await self._explain(job, group.exceptions[0]) from None
            finally:
                step.end()
        self._tables.append(table)
        self._bars.say(f"{table.name}: {table.rows:,} rows")
        for name, count in sorted(job.not_numbers.items()):
            self._bars.say(f"  note: {count:,} NaN or infinite values of column '{name}' were stored as NULL")
        if job.strangers:
            self._bars.say(
                f"  note: the overlap files have {job.strangers:,} rows of chunks without a file; they are in no table"
            )
        if spec.kind is Kind.DIRECTOR and table.key_spans_chunks:
            self._bars.say(f"  note: equal keys '{spec.key}' lie in several chunks; joins on it are gathered")

    async def _trap(self, home: RawConnection, stage: str, empty: Table) -> None:
        if empty.is_sharded:
            for statement in staging.traps(stage, empty):  # finds at once what home could not hold
                await home.run(statement)

    def _described(self, job: Job, empty: Table) -> Table:
        """Return a table with what was learned from its rows."""
        spec = job.spec
        if spec.kind is Kind.DIRECTOR:
            index = self._indexes[spec.name]
            index.finish()
            job.spans_chunks = index.spans_chunks
        for director in filter(None, (spec.director, *(side.table for side in spec.directors))):
            # Rows here have each its director's chunk, and yet a collation may hold their keys equal.
            job.spans_chunks |= self._indexes[director].is_text and self._indexes[director].spans_chunks
        return msgspec.structs.replace(
            empty,
            rows=job.rows,
            key_spans_chunks=job.spans_chunks,
            null_keys=job.null_keys,
            wide_pairs=job.wide_pairs,
        )

    async def _read(
        self,
        loader: loading.Loader,
        table: Table,
        job: Job,
        main: Spill,
        overlap: Spill,
        directory: Path,
    ) -> None:
        """Partition a table's files, and meanwhile make the tables of the chunks that turn up."""
        if not table.is_sharded:
            async for _ in self._partition(job, main, overlap, directory):
                pass
            return
        found: asyncio.Queue[set[int] | None] = asyncio.Queue()

        async def make() -> None:
            await loader.templates(table)
            while (chunks := await found.get()) is not None:
                await loader.chunk_tables(table, chunks)

        async with asyncio.TaskGroup() as group:
            group.create_task(make())
            known: set[int] = set()
            async for _ in self._partition(job, main, overlap, directory):
                # A chunk with nothing but overlap is a chunk too: another director may have rows there.
                chunks = set(main.rows) | set(overlap.rows)
                found.put_nowait(chunks - known)
                known = chunks
            found.put_nowait(None)

    async def _partition(self, job: Job, main: Spill, overlap: Spill, directory: Path) -> AsyncIterator[None]:
        """Read and partition a table's files, a few pieces ahead of what has been put away; yields after each."""
        loop = asyncio.get_running_loop()
        size = processes.size_of(job.listed)
        apart = self._jobs > 1 and size >= processes.WORTHWHILE_BYTES
        if apart:
            self._processes.start()
        step = self._bars.step(f"{job.spec.name}: read", size)
        pieces = job.pieces()
        index = self._indexes.get(job.spec.name)
        running: deque[Future[Parts]] = deque()
        try:
            while True:
                piece = await loop.run_in_executor(self._reader, next, pieces, None)
                if piece is not None:
                    running.append(
                        self._pool.submit(self._processes.partition, job.partitioner, piece, directory)
                        if apart
                        else self._pool.submit(job.partitioner.partition, piece)
                    )
                while running and (piece is None or len(running) > self._jobs):
                    parts = await asyncio.wrap_future(running.popleft())
                    await loop.run_in_executor(self._reader, job.put_away, parts, main, overlap, index)
                    yield
                if piece is None:
                    return
                step.advance(piece.size)
        finally:
            for future in running:
                future.cancel()
            step.end()

    async def _sharded(
        self,
        home: RawConnection,
        loader: loading.Loader,
        stage: str,
        table: Table,
        job: Job,
        main: Spill,
        overlap: Spill,
        step: Step,
    ) -> None:
        chunks = set(main.rows) | set(overlap.rows)
        self._counts[table.name] = {
            chunk: ChunkRows(main.rows.get(chunk, 0), overlap.rows.get(chunk, 0)) for chunk in chunks
        }
        async with asyncio.TaskGroup() as group:
            group.create_task(loader.sharded(table, job.target, main, overlap, step.advance))
            if table.kind is Kind.DIRECTOR:
                group.create_task(self._director_index(home, stage, table))

    async def _director_index(self, home: RawConnection, stage: str, table: Table) -> None:
        """Fill the director index at home."""
        name = index_table(stage, table.name)
        await home.run(ddl.director_index(name, table.columns, table.key))
        index = self._indexes[table.name]
        target = loading.Target(ddl.INDEX_COLUMNS, {})
        await loading.load_home(home, INDEX_DATABASE, name, target, _index_text(index), len(index.keys))
        # What is only in the server's memory is lost with it; the metadata will say that this is loaded.
        await home.run(f"FLUSH TABLES {quote(INDEX_DATABASE)}.{quote(name)}")

    async def _replicated(
        self,
        home: RawConnection,
        loader: loading.Loader,
        stage: str,
        table: Table,
        job: Job,
        main: Spill,
        step: Step,
    ) -> None:
        await home.run(ddl.physical(table.ddl, table.name, stage, table.name, ddl.home_engine(table)))
        async with asyncio.TaskGroup() as group:
            group.create_task(loader.replicated(table, job.target, main, step.advance))
            rows = main.rows.get(0, 0)
            group.create_task(loading.load_home(home, stage, table.name, job.target, main.read(0), rows))
        # An Aria table's rows are seen by other connections, and outlive the server, once it has been closed.
        await home.run(f"FLUSH TABLES {quote(stage)}.{quote(table.name)}")

    async def _explain(self, job: Job, error: Exception) -> UserError:
        """Find the file and line of a row that a worker could not store."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, loading.BadRow):
            return UserError(f"table '{job.spec.name}': {error}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, origin, job, error)


def directors_of(spec: TableSpec) -> list[str]:
    """Return the directors that a table's rows belong to."""
    return [name for name in (spec.director, *(side.table for side in spec.directors)) if name]


def _index_text(index: KeyIndex) -> Iterator[bytes]:
    for keys, chunks, subs in index.parts(_INDEX_ROWS):
        if keys.dtype.kind == "S":
            text = values.check(
                pa.chunked_array([pa.array(keys.tolist(), pa.binary())]), values.ANY_TEXT
            ).text
        else:
            text = values.whole(keys)
        yield values.text_of(values.lines([text, values.whole(chunks), values.whole(subs)]))
