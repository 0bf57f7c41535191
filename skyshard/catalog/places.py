"""Whether rows lie where they must: in their chunks, in the overlap of their neighbours, in the director index.

Every row of a chunk table with positions is read once, from one of the chunk's copies: its position, the chunk and
sub-chunk that it carries, and a digest of all its columns. From that follows what the overlap tables of the
neighbours must have: so many rows, and the same sum of digests. The director index is compared per chunk in the
same way. Memory is a few numbers a chunk.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv

from backend.connection import RawConnection
from shard.catalog import types
from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    CHUNK_COLUMN,
    INDEX_DATABASE,
    OWNER_COLUMN,
    SUB_CHUNK_COLUMN,
    chunk_table,
    literal,
    overlap_table,
    quote,
)
from shard.errors import ServerError, SkyError
from shard.geometry.chunker import ChunkGrid, Floats, PositionError
from skyshard.catalog.cluster import Cluster
from skyshard.catalog.published import Namer, Published
from skyshard.errors import UserError
from skyshard.replicas.stream import read_rows

AT_ONCE = 2
"""Chunks of one worker that are read at once."""
EXPLAINED = 5
"""Chunks of a director index whose keys are compared one by one, to name some that are wrong."""
SHOWN = 3

_CHUNK, _SUB = quote(CHUNK_COLUMN), quote(SUB_CHUNK_COLUMN)


class Complain(Protocol):
    """Takes one fault (see faults.Fault)."""

    def __call__(
        self, kind: str, text: str, table: str = "", chunk: int | None = None, worker: int | str = ""
    ) -> None:
        """Take it; a worker is a number, or the word that stands for several or for home."""


@dataclass
class Sum:
    """So many rows, and the sum of their digests."""

    rows: int = 0
    digest: int = 0

    def add(self, other: Sum) -> None:
        """Add other rows."""
        self.rows += other.rows
        self.digest += other.digest


@dataclass
class _Director:
    """What one director's rows say: of the overlap tables, by chunk, and of the index, by chunk."""

    overlap: dict[int, Sum] = field(default_factory=lambda: defaultdict(Sum))
    keys: dict[int, Sum] = field(default_factory=lambda: defaultdict(Sum))


@dataclass
class _Piece:
    """What some rows of a chunk say: how many are misplaced, one of them in words, digests by chunk."""

    wrong: int = 0
    example: str = ""
    keys: Sum = field(default_factory=Sum)
    overlap: dict[int, Sum] = field(default_factory=dict)
    placeless: bool = False


class Places:
    """The check of one catalogue's places.

    Parameters
    ----------
    cluster : Cluster
        Home server and workers.
    found : Published
        The catalogue.
    readable : mapping
        Worker → its tables that can be opened → whether they have as many rows as are counted.
    fault : callable
        Takes a fault.
    say : callable
        Takes one line of progress.
    """

    def __init__(
        self,
        cluster: Cluster,
        found: Published,
        readable: dict[int, dict[str, bool]],
        fault: Complain,
        say: Callable[[str], None],
    ) -> None:
        self._cluster, self._found, self._readable = cluster, found, readable
        self._fault, self._say = fault, say
        self._grid = ChunkGrid.of(found.partitioning)
        self._holders = found.holders()
        self._directors: dict[str, _Director] = {
            table.name: _Director() for table in found.tables if table.kind is Kind.DIRECTOR
        }
        self._owned: Counter[str] = Counter()
        self._unread: set[str] = set()  # tables of which some chunk could not be read
        self._done = itertools.count(1)

    async def run(self) -> None:
        """Do all of it."""
        sharded = [table for table in self._found.tables if table.is_sharded]
        await self._everywhere(sharded, chunk_table, self._rows_of)
        directors = [table for table in sharded if table.kind is Kind.DIRECTOR]
        await self._everywhere(
            [table for table in directors if table.name not in self._unread], overlap_table, self._overlap_of
        )
        for name, told in self._directors.items():
            for chunk in sorted(set(told.overlap) - set(self._holders)):
                text = (
                    f"{told.overlap[chunk].rows} rows lie in the overlap of this chunk, which does not exist"
                )
                self._fault("overlap", text, name, chunk)
        for table in sharded:
            if table.kind is Kind.DIRECTOR:
                await self._index(table)
            elif (
                table.kind is Kind.MATCH
                and table.name not in self._unread
                and self._owned[table.name] != table.rows
            ):
                text = f"{self._owned[table.name]} pairs are owned by a chunk, {table.rows} are counted"
                self._fault("rows", text, table.name)

    async def _everywhere(
        self,
        tables: Iterable[Table],
        namer: Namer,
        look: Callable[[Table, int, int], Awaitable[None]],
    ) -> None:
        """Look at one copy of every chunk of some tables, a few of each worker at once."""
        jobs: dict[int, list[tuple[Table, int]]] = defaultdict(list)
        for table in tables:
            for chunk in self._holders:
                worker = self._source(chunk, self._found.stored(namer, table.name, chunk))
                if worker is None:
                    self._unread.add(table.name)
                else:
                    jobs[worker].append((table, chunk))

        async def some(worker: int, shared: Iterator[tuple[Table, int]]) -> None:
            for table, chunk in shared:
                try:
                    await look(table, chunk, worker)
                except SkyError as error:
                    raise UserError(f"{error}: what it holds cannot be checked; run it again") from error
                self._say(f"places of rows: {next(self._done):,} tables")

        async with asyncio.TaskGroup() as group:
            for worker, listed in jobs.items():
                shared = iter(listed)
                for _ in range(AT_ONCE):
                    group.create_task(some(worker, shared))

    def _source(self, chunk: int, name: str) -> int | None:
        """Return a worker that has a chunk's table, with as many rows as are counted if there is one."""
        there = {
            worker: self._readable[worker].get(name)
            for worker in self._holders[chunk]
            if worker in self._readable
        }
        right = [worker for worker, good in there.items() if good]
        fit = right or [worker for worker, good in there.items() if good is not None]
        return fit[chunk % len(fit)] if fit else None

    # rows --------------------------------------------------------------------------------------------

    async def _rows_of(self, table: Table, chunk: int, worker: int) -> None:
        if table.longitude is None or table.latitude is None:
            await self._chunk_column(table, chunk, worker)
        else:
            await self._positions(table, table.longitude, table.latitude, chunk, worker)

    async def _chunk_column(self, table: Table, chunk: int, worker: int) -> None:
        owned = f"SUM({quote(OWNER_COLUMN)})" if table.kind is Kind.MATCH else "0"
        name = f"{quote(self._found.name)}.{quote(self._found.stored(chunk_table, table.name, chunk))}"
        rows = await self._cluster.agents.admin(
            worker, [f"SELECT CAST(SUM({_CHUNK} <> {chunk}) AS CHAR), CAST({owned} AS CHAR) FROM {name}"]
        )
        elsewhere = int(rows[0][0] or "0")
        self._owned[table.name] += int(rows[0][1] or "0")
        if elsewhere:
            text = f"{elsewhere} rows carry the number of another chunk"
            self._fault("place", text, table.name, chunk, worker)

    async def _positions(self, table: Table, longitude: str, latitude: str, chunk: int, worker: int) -> None:
        kinds = {column.name: types.sql_type(column.sql_type) for column in table.columns}
        selected = [_position(kinds[name], name) for name in (longitude, latitude)]
        selected += [_CHUNK, _SUB]
        told = self._directors.get(table.name)
        if told is not None:
            key = f"CRC32(CONCAT_WS(',', CAST(QUOTE({quote(table.key or '')}) AS BINARY), {_SUB}))"
            selected += [self._found.content.routes[table.name].digest, key]
        read = {
            "lon": _arrow(kinds[longitude]),
            "lat": _arrow(kinds[latitude]),
            **dict.fromkeys(("chunk", "sub", "row", "key")[: len(selected) - 2], pa.int64()),
        }
        found = _Piece()
        name = self._found.stored(chunk_table, table.name, chunk)
        pieces = read_rows(self._cluster.agents, worker, self._found.name, name, ", ".join(selected), [0])
        async with aclosing(pieces) as texts:
            async for text in texts:
                piece = await asyncio.to_thread(self._piece, text, read, chunk)
                found.wrong += piece.wrong
                found.example = found.example or piece.example
                if piece.placeless:
                    self._unread.add(table.name)
                if told is not None:
                    told.keys[chunk].add(piece.keys)
                    for other, digests in piece.overlap.items():
                        told.overlap[other].add(digests)
        if found.wrong:
            text_of = f"{found.wrong} rows do not belong here; {found.example}"
            self._fault("place", text_of, table.name, chunk, worker)

    def _piece(self, text: bytes, read: dict[str, pa.DataType], chunk: int) -> _Piece:
        """Return what some rows say."""
        rows = pa.csv.read_csv(
            pa.BufferReader(text),
            pa.csv.ReadOptions(column_names=list(read), use_threads=False),
            pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            pa.csv.ConvertOptions(column_types=read, null_values=["\\N"]),
        )
        out = _Piece()
        if "key" in read:
            row, key = (rows.column(name).to_numpy() for name in ("row", "key"))
            out.keys = Sum(len(key), int(key.sum()))
        lon, lat = (_floats(rows.column(name)) for name in ("lon", "lat"))
        own, sub = (rows.column(name).to_numpy() for name in ("chunk", "sub"))
        try:
            at, sub_at = self._grid.locate(lon, lat)
        except PositionError as error:
            out.wrong, out.placeless = 1, True
            out.example = f"one has the position ({error.lon}, {error.lat})"
            return out
        if "key" in read:
            near, chunks = self._grid.overlap_rows(lon, lat)
            for other in np.unique(chunks).tolist():
                digests = row[near[chunks == other]]
                out.overlap[other] = Sum(len(digests), int(digests.sum()))
        bad = np.flatnonzero((at != chunk) | (own != chunk) | (sub_at != sub))
        if len(bad):
            one = int(bad[0])
            out.wrong = len(bad)
            out.example = (
                f"one at ({lon[one]}, {lat[one]}) lies in chunk {at[one]}, sub-chunk {sub_at[one]}, "
                f"and carries {own[one]}, {sub[one]}"
            )
        return out

    # overlap and index -------------------------------------------------------------------------------

    async def _overlap_of(self, table: Table, chunk: int, worker: int) -> None:
        told = self._directors[table.name]
        name = self._found.stored(overlap_table, table.name, chunk)
        digest = self._found.content.routes[table.name].digest
        rows = await self._cluster.agents.admin(
            worker,
            [
                f"SELECT CAST(COUNT(*) AS CHAR), CAST(SUM({digest}) AS CHAR) "
                f"FROM {quote(self._found.name)}.{quote(name)}"
            ],
        )
        have, want = Sum(*(int(value or "0") for value in rows[0])), told.overlap.get(chunk, Sum())
        if have == want:
            return
        text = (
            f"table {name} has {have.rows} rows, the neighbours have {want.rows} for it"
            if have.rows != want.rows
            else f"the rows of table {name} are not the neighbours'"
        )
        self._fault("overlap", text, table.name, chunk, worker)

    async def _index(self, table: Table) -> None:
        """Compare the director index with the chunks."""
        parts = await parts_of_index(self._cluster.home, self._found, table.name)
        index = f"({' UNION ALL '.join(f'SELECT * FROM {part}' for part in parts)}) i"
        told = self._directors[table.name]
        try:
            rows = await self._cluster.home.fetch(
                "SELECT chunkId, COUNT(*), SUM(CRC32(CONCAT_WS(',', CAST(QUOTE(directorKey) AS BINARY), "
                f"subChunkId))) FROM {index} GROUP BY chunkId"
            )
        except ServerError:
            return  # told already
        have = {int(row[0] or b"0"): Sum(int(row[1] or b"0"), int(row[2] or b"0")) for row in rows}
        explained = 0
        for chunk in sorted({*have, *told.keys}):
            mine, theirs = have.get(chunk, Sum()), told.keys.get(chunk, Sum())
            name = self._found.stored(chunk_table, table.name, chunk)
            source = self._source(chunk, name) if chunk in self._holders else None
            if mine == theirs or (source is None and chunk in self._holders):
                continue
            text = f"the index has {mine.rows} rows of this chunk, its table has {theirs.rows}"
            if explained < EXPLAINED:
                explained += 1
                text += await self._examples(table, index, chunk, source)
            self._fault("index", text, table.name, chunk, "home")

    async def _examples(self, table: Table, index: str, chunk: int, source: int | None) -> str:
        """Return in words some keys that are wrong."""
        rows = await self._cluster.home.fetch(
            f"SELECT CAST(directorKey AS CHAR), subChunkId FROM {index} WHERE chunkId = {chunk}"
        )
        indexed = Counter(((key or b"").decode("utf-8", "replace"), int(sub or b"0")) for key, sub in rows)
        stored: Counter[tuple[str, int]] = Counter()
        if source is not None:
            made = self._found.stored(chunk_table, table.name, chunk)
            name = f"{quote(self._found.name)}.{quote(made)}"
            try:
                found = await self._cluster.agents.admin(
                    source,
                    [f"SELECT CAST({quote(table.key or '')} AS CHAR), CAST({_SUB} AS CHAR) FROM {name}"],
                )
            except SkyError as error:
                raise UserError(f"{error}: what it holds cannot be checked; run it again") from error
            stored.update((key or "", int(sub or "0")) for key, sub in found)
        return "".join(
            f"; {what}: " + ", ".join(f"{key} (sub-chunk {sub})" for key, sub in _some(keys))
            for what, keys in (
                ("keys that the index lacks", stored - indexed),
                ("keys that only the index has", indexed - stored),
            )
            if keys
        )


async def parts_of_index(home: RawConnection, found: Published, director: str) -> list[str]:
    """Return the tables of a director's index as SQL: the published one, and those of transactions that there are."""
    names = found.indexes(director)
    rows = await home.fetch(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} "
        f"AND TABLE_NAME IN ({', '.join(map(literal, names))})"
    )
    there = {(row[0] or b"").decode() for row in rows}
    return [f"{quote(INDEX_DATABASE)}.{quote(name)}" for name in names if name in there or name == names[0]]


def _some(keys: Counter[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    return itertools.islice(iter(sorted(keys)), SHOWN)


def _position(kind: types.SqlType, name: str) -> str:
    return f"CAST({quote(name)} AS DOUBLE)" if kind.word == "FLOAT" else quote(name)


def _arrow(kind: types.SqlType) -> pa.DataType:
    """Return the type from which an ingest, too, makes the position's floating-point number."""
    if kind.family in (types.Family.DECIMAL, types.Family.INTEGER) and kind.arrow is not None:
        return kind.arrow
    return pa.float64()


def _floats(column: pa.ChunkedArray) -> Floats:
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(values, dtype=np.float64)
