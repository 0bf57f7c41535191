"""One ingest: read, partition, load through the agents, check, publish.

Nothing is visible before the last step, which writes the metadata in one transaction and bumps the
catalogue's version. A failed or killed ingest leaves a database in state 'building', which the next run
of the same command clears away.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.catalog_file import CatalogFile, TableSpec
from shard.catalog.model import Column, Kind, Table, Worker
from shard.catalog.naming import (
    CHUNK_COLUMN,
    INDEX_DATABASE,
    META_DATABASE,
    OWNER_COLUMN,
    SUB_CHUNK_COLUMN,
    TEMPLATE_CHUNK,
    chunk_table,
    index_table,
    literal,
    overlap_table,
    quote,
)  # fmt: skip
from shard.geometry.chunker import ChunkGrid, PositionError
from shard.wire.frames import LoadBegin
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.home.guard import TooWide, trap_statements
from skyshard.home.provision import bump
from skyshard.ingest import files, text
from skyshard.ingest.schema import columns_of
from skyshard.ingest.spill import Spill

PARALLEL_LOADS = 4
_META = quote(META_DATABASE)
_ORDER = {Kind.DIRECTOR: 0, Kind.DEPENDENT: 1, Kind.MATCH: 2, Kind.REPLICATED: 3}


@dataclass(slots=True)
class _Keys:
    """Where a director's keys lie: parallel arrays, sorted by key once all rows are read."""

    keys: list[np.ndarray] = field(default_factory=list)
    chunks: list[np.ndarray] = field(default_factory=list)
    sub_chunks: list[np.ndarray] = field(default_factory=list)
    overlap_keys: list[np.ndarray] = field(default_factory=list)
    overlap_chunks: list[np.ndarray] = field(default_factory=list)
    spans: bool = False

    def finish(self) -> None:
        """Sort by key and see whether a key stands in two chunks."""
        keys, chunks, subs = (np.concatenate(part) for part in (self.keys, self.chunks, self.sub_chunks))
        order = np.argsort(keys, kind="stable")
        self.keys, self.chunks, self.sub_chunks = [keys[order]], [chunks[order]], [subs[order]]
        folded = _folded(self.keys[0])
        again = np.argsort(folded, kind="stable")
        folded, ordered = folded[again], self.chunks[0][again]
        same = folded[1:] == folded[:-1]
        self.spans = bool((same & (ordered[1:] != ordered[:-1])).any())

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (found, chunk, sub-chunk) of keys."""
        keys = self.keys[0]
        if not len(keys):
            zeros = np.zeros(len(wanted), dtype=np.int32)
            return zeros.astype(bool), zeros, zeros
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return keys[at] == wanted, self.chunks[0][at], self.sub_chunks[0][at]


class Ingest:
    """One run of `skyshard ingest`."""

    def __init__(
        self,
        file: CatalogFile,
        base: Path,
        address: ClusterAddress,
        replace: bool,
        say: Callable[[str], None],
    ) -> None:
        self.file, self.base, self.address, self.replace, self.say = file, base, address, replace, say
        try:
            self.grid = ChunkGrid.of(file.grid())
        except ValueError as error:
            raise UserError(f"partitioning: {error}") from error
        self.database = file.database
        self.workers: dict[int, Worker] = {}
        self.agents = AgentPool(self.workers, address.secret)
        self.replicas = 1
        self.keys: dict[str, _Keys] = {}
        self.chunks: set[int] = set()
        self.tables: list[Table] = []
        self.counts: dict[str, dict[int, int]] = {}

    async def run(self) -> dict[str, int]:
        """Do it all; return rows per table."""
        for spec in self.file.tables:
            files.paths(spec, self.base)
        home = await RawConnection.open(self.address.home)
        try:
            await home.run("SET SESSION sql_mode='', time_zone='+00:00'")
            await self._prepare(home)
            for spec in sorted(self.file.tables, key=lambda item: _ORDER[item.kind]):
                await self._table(home, spec)
            await self._publish(home)
        finally:
            await home.close()
            await self.agents.close()
        return {table.name: table.rows for table in self.tables}

    # preparation ---------------------------------------------------------------------------------

    async def _prepare(self, home: RawConnection) -> None:
        for row in await home.fetch(
            f"SELECT worker_id, name, host, port FROM {_META}.workers WHERE state = 'active'"
        ):
            number, name, host, port = (value.decode() if value else "" for value in row)
            self.workers[int(number)] = Worker(worker_id=int(number), name=name, host=host, port=int(port))
        if not self.workers:
            raise UserError("the cluster has no active worker")
        found = await home.fetch(f"SELECT value FROM {_META}.cluster WHERE name = 'replicas'")
        self.replicas = min(len(self.workers), int(found[0][0] or b"1") if found else 1)
        got = await home.fetch(f"SELECT GET_LOCK({literal('skyshard ingest ' + self.database)}, 0)")
        if got[0][0] != b"1":
            raise UserError(f"another ingest of database '{self.database}' is running")
        state = await home.fetch(
            f"SELECT state FROM {_META}.`databases` WHERE name = {literal(self.database)}"
        )
        if state and state[0][0] == b"published" and not self.replace:
            raise UserError(
                f"database '{self.database}' is published; use --replace to swap it for these files"
            )
        known = await home.fetch(
            f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(self.database)}"
        )
        if known and not state:
            raise UserError(f"a database '{self.database}' that is no catalogue exists; choose another name")
        await self._clear(home)
        p = self.file.partitioning
        await home.run(
            f"INSERT INTO {_META}.`databases` (name, stripes, sub_stripes, overlap_deg, state) VALUES "
            f"({literal(self.database)}, {p.stripes}, {p.sub_stripes}, {p.overlap_deg!r}, 'building')"
        )
        await home.run(f"CREATE DATABASE {quote(self.database)} CHARACTER SET utf8mb4")
        await self._everywhere([f"CREATE DATABASE {quote(self.database)} CHARACTER SET utf8mb4"])

    async def _clear(self, home: RawConnection) -> None:
        """Remove what an earlier run, or the database that is replaced, left."""
        name = literal(self.database)
        numbers = await home.fetch(f"SELECT db_id FROM {_META}.`databases` WHERE name = {name}")
        for (number,) in numbers:
            db_id = int(number or b"0")
            await home.run(f"UPDATE {_META}.`databases` SET state = 'building' WHERE db_id = {db_id}")
            await bump(home)
            await home.run(
                f"DELETE r FROM {_META}.chunk_rows r JOIN {_META}.`tables` t USING (table_id) WHERE t.db_id = {db_id}"
            )
            for table in ("`tables`", "chunk_replicas", "`databases`"):
                await home.run(f"DELETE FROM {_META}.{table} WHERE db_id = {db_id}")
        await home.run(f"DROP DATABASE IF EXISTS {quote(self.database)}")
        await self._everywhere([f"DROP DATABASE IF EXISTS {quote(self.database)}"])
        rows = await home.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} "
            f"AND LEFT(TABLE_NAME, {len(self.database) + 2}) = {literal(self.database + '__')}"
        )
        for (table_name,) in rows:
            await home.run(f"DROP TABLE {quote(INDEX_DATABASE)}.{quote((table_name or b'').decode())}")

    async def _everywhere(self, statements: list[str]) -> None:
        await asyncio.gather(*(self.agents.admin(worker, statements) for worker in self.workers))

    # tables --------------------------------------------------------------------------------------

    async def _table(self, home: RawConnection, spec: TableSpec) -> None:
        columns = await columns_of(home, spec, self.base)
        self._check_columns(spec, columns)
        keys = [key for key in (spec.key, spec.director_key, *(s.foreign_key for s in spec.directors)) if key]
        table = Table(
            name=spec.name, kind=spec.kind, columns=tuple(columns), key=spec.key, longitude=spec.longitude,
            latitude=spec.latitude, director=spec.director, director_key=spec.director_key, sides=spec.sides(),
            ddl=ddl.create(spec.name, columns, spec.kind, keys),
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        with Spill() as main, Spill() as overlap:
            found = await loop.run_in_executor(None, self._partition, spec, columns, main, overlap)
            table = msgspec.structs.replace(table, **found)
            if table.kind is Kind.REPLICATED:
                await self._load_replicated(home, table, main)
            else:
                await self._load_sharded(table, main, overlap)
                self.counts[table.name].update(main.rows)
        if table.kind is Kind.DIRECTOR:
            await self._load_index(home, table)
        if table.is_sharded:
            try:
                for statement in trap_statements(self.database, table):
                    await home.run(statement)
            except TooWide as error:
                raise UserError(str(error)) from error
        self.tables.append(table)
        self.say(f"{table.name}: {table.rows:,} rows")

    def _check_columns(self, spec: TableSpec, columns: list[Column]) -> None:
        names = {column.name for column in columns}
        wanted = [spec.key, spec.longitude, spec.latitude, spec.director_key]
        for side in spec.directors:
            wanted += [side.foreign_key, side.longitude, side.latitude]
        for name in wanted:
            if name and name not in names:
                raise UserError(f"table '{spec.name}': there is no column '{name}'")
        for name in (CHUNK_COLUMN, SUB_CHUNK_COLUMN, OWNER_COLUMN):
            if any(name.lower() == other.lower() for other in names) and spec.kind is not Kind.REPLICATED:
                raise UserError(
                    f"table '{spec.name}': column '{name}' is made by skyshard; omit or rename it"
                )

    def _partition(
        self, spec: TableSpec, columns: list[Column], main: Spill, overlap: Spill
    ) -> dict[str, object]:
        """Read all files of a table and sort their lines by chunk; return what was learnt."""
        total = 0
        spans, wide = False, 0
        for path in files.paths(spec, self.base):
            done = 0
            for batch in files.batches(spec, path, columns):
                try:
                    if spec.kind is Kind.REPLICATED:
                        body = text.lines(batch, [])
                        parts = text.pieces(body, np.arange(len(body)), np.zeros(len(body), dtype=np.int32))
                        for chunk, (data, rows) in parts.items():
                            main.add(chunk, data, rows)
                    elif spec.kind is Kind.DIRECTOR:
                        self._director_batch(spec, batch, main, overlap)
                    elif spec.kind is Kind.DEPENDENT:
                        spans |= self._dependent_batch(spec, batch, main)
                    else:
                        wide += self._match_batch(spec, batch, main)
                except PositionError as error:
                    line = done + error.row + 1
                    raise UserError(
                        f"{path}: row {line}: longitude {error.lon}, latitude {error.lat} is no position on the sky"
                    ) from error
                done += batch.num_rows
            total += done
        if spec.kind is Kind.DIRECTOR:
            keys = self.keys.setdefault(
                spec.name, _Keys([np.empty(0)], [np.empty(0, np.int32)], [np.empty(0, np.int32)])
            )
            keys.finish()
            spans = keys.spans
        return {"rows": total, "key_spans_chunks": spans, "wide_pairs": wide}

    def _director_batch(self, spec: TableSpec, batch: pa.Table, main: Spill, overlap: Spill) -> None:
        lon, lat = _floats(batch, spec.longitude), _floats(batch, spec.latitude)
        chunk, sub = self.grid.locate(lon, lat)
        key = _keys(batch, spec.key, spec.name)
        known = self.keys.setdefault(spec.name, _Keys())
        known.keys.append(key)
        known.chunks.append(chunk)
        known.sub_chunks.append(sub)
        self._spread(main, text.lines(batch, [chunk, sub]), np.arange(len(chunk)), chunk)
        rows, chunks = self.grid.overlap_rows(lon, lat)
        if len(rows):
            known.overlap_keys.append(key[rows])
            known.overlap_chunks.append(chunks)
            picked, inverse = np.unique(rows, return_inverse=True)
            body = text.lines(batch.take(pa.array(picked)), [chunk[picked], sub[picked]])
            self._spread(overlap, body, inverse.reshape(-1), chunks)

    def _dependent_batch(self, spec: TableSpec, batch: pa.Table, main: Spill) -> bool:
        """Place dependents; return whether some row lies in another chunk than its director."""
        key = _keys(batch, spec.director_key, spec.name)
        found, chunk, sub = self.keys[spec.director or ""].find(key)
        spans = False
        if spec.longitude:
            own, own_sub = self.grid.locate(_floats(batch, spec.longitude), _floats(batch, spec.latitude))
            spans = bool((found & (own != chunk)).any()) or not bool(found.all())
            chunk, sub = own, own_sub
        elif not found.all():
            row = int(np.argmin(found))
            raise UserError(
                f"table '{spec.name}': {spec.director_key} = {key[row]} is no key of director '{spec.director}'"
            )
        self._spread(main, text.lines(batch, [chunk, sub]), np.arange(len(chunk)), chunk)
        return spans

    def _match_batch(self, spec: TableSpec, batch: pa.Table, main: Spill) -> int:
        """Store every pair with both partners' chunks; return pairs wider than the overlap."""
        places = []
        for side in spec.directors:
            key = _keys(batch, side.foreign_key, spec.name)
            found, chunk, sub = self.keys[side.table].find(key)
            if not found.all():
                row = int(np.argmin(found))
                raise UserError(
                    f"table '{spec.name}': {side.foreign_key} = {key[row]} is no key of '{side.table}'"
                )
            places.append((key, chunk, sub))
        (_, first, first_sub), (second_key, second, second_sub) = places
        ones = np.ones(len(first), dtype=np.int8)
        self._spread(main, text.lines(batch, [first, first_sub, ones]), np.arange(len(first)), first)
        across = np.flatnonzero(first != second)
        if not len(across):
            return 0
        part = batch.take(pa.array(across))
        body = text.lines(part, [second[across], second_sub[across], np.zeros(len(across), dtype=np.int8)])
        self._spread(main, body, np.arange(len(across)), second[across])
        return self._wide(spec.directors[1].table, second_key[across], first[across])

    def _wide(self, director: str, keys: np.ndarray, chunks: np.ndarray) -> int:
        """Count pairs whose second partner is not in the overlap of the first's chunk."""
        known = self.keys[director]
        if not known.overlap_keys:
            return len(keys)
        all_keys, all_chunks = np.concatenate(known.overlap_keys), np.concatenate(known.overlap_chunks)
        near = np.isin(all_keys, keys)
        pairs = set(zip(all_keys[near].tolist(), all_chunks[near].tolist(), strict=True))
        return sum(
            (key, chunk) not in pairs for key, chunk in zip(keys.tolist(), chunks.tolist(), strict=True)
        )

    def _spread(self, spill: Spill, body: pa.LargeBinaryArray, order: np.ndarray, chunks: np.ndarray) -> None:
        for chunk, (data, rows) in text.pieces(body, order, chunks).items():
            spill.add(chunk, data, rows)

    # loading -------------------------------------------------------------------------------------

    def homes(self, chunk: int) -> list[int]:
        """Return the workers that hold a chunk: spread by its number, replicas on the next ones."""
        workers = sorted(self.workers)
        start = (chunk * 2654435761 >> 7) % len(workers)
        return [workers[(start + step) % len(workers)] for step in range(self.replicas)]

    async def _load_sharded(self, table: Table, main: Spill, overlap: Spill) -> None:
        # A chunk with nothing but overlap is a chunk too: another director may have rows there.
        self.chunks |= set(main.rows) | set(overlap.rows)
        jobs: dict[int, list[str]] = {worker: [] for worker in self.workers}
        for worker in self.workers:
            jobs[worker] += self._creates(table, TEMPLATE_CHUNK)
        self._known_creates(table, jobs, set(main.rows) | set(overlap.rows))
        await asyncio.gather(*(self.agents.admin(worker, items) for worker, items in jobs.items()))
        limit = asyncio.Semaphore(PARALLEL_LOADS)
        names = [column.name for column in table.columns] + [CHUNK_COLUMN, SUB_CHUNK_COLUMN]
        if table.kind is Kind.MATCH:
            names.append(OWNER_COLUMN)
        async with asyncio.TaskGroup() as group:
            for spill, namer in ((main, chunk_table), (overlap, overlap_table)):
                for chunk in sorted(spill.rows):
                    for worker in self.homes(chunk):
                        begin = LoadBegin(
                            database=self.database, table=namer(table.name, chunk), columns=tuple(names)
                        )
                        group.create_task(self._load(limit, worker, begin, spill, chunk))

    def _creates(self, table: Table, chunk: int) -> list[str]:
        out = [ddl.physical(table.ddl, table.name, self.database, chunk_table(table.name, chunk))]
        if table.kind is Kind.DIRECTOR:
            out.append(ddl.physical(table.ddl, table.name, self.database, overlap_table(table.name, chunk)))
        return out

    def _known_creates(self, table: Table, jobs: dict[int, list[str]], chunks: set[int]) -> None:
        for chunk in sorted(chunks):
            for worker in self.homes(chunk):
                jobs[worker] += self._creates(table, chunk)
        self.counts.setdefault(table.name, {}).update(dict.fromkeys(chunks, 0))

    async def _load(
        self, limit: asyncio.Semaphore, worker: int, begin: LoadBegin, spill: Spill, chunk: int
    ) -> None:
        async def stream() -> AsyncIterator[bytes]:
            for piece in spill.read(chunk):
                yield piece

        async with limit:
            await self.agents.load(worker, begin, stream(), [spill.rows[chunk]])

    async def _load_replicated(self, home: RawConnection, table: Table, main: Spill) -> None:
        create = ddl.physical(table.ddl, table.name, self.database, table.name, "MyISAM")
        await self._everywhere([create])
        await home.run(ddl.physical(table.ddl, table.name, self.database, table.name, "InnoDB"))
        names = tuple(column.name for column in table.columns)
        if not main.rows:
            return
        begin = LoadBegin(database=self.database, table=table.name, columns=names)
        for worker in self.workers:
            await self._load(asyncio.Semaphore(1), worker, begin, main, 0)
        await _load_home(home, self.database, table.name, names, main.read(0), main.rows[0])

    async def _load_index(self, home: RawConnection, table: Table) -> None:
        """Fill the director index at home."""
        kind = next(column.sql_type for column in table.columns if column.name == table.key)
        name = index_table(self.database, table.name)
        await home.run(f"DROP TABLE IF EXISTS {quote(INDEX_DATABASE)}.{quote(name)}")
        await home.run(
            f"CREATE TABLE {quote(INDEX_DATABASE)}.{quote(name)} (directorKey {kind}, chunkId INT NOT NULL, "
            "subChunkId INT NOT NULL, KEY (directorKey)) ENGINE=Aria TRANSACTIONAL=0"
        )
        known = self.keys[table.name]
        keys, chunks, subs = known.keys[0], known.chunks[0], known.sub_chunks[0]

        def parts() -> Iterator[bytes]:
            for start in range(0, len(keys), files.BATCH_ROWS):
                cut = slice(start, start + files.BATCH_ROWS)
                batch = pa.table({"k": pa.array(keys[cut])})
                yield b"".join(text.lines(batch, [chunks[cut], subs[cut]]).to_pylist())

        await _load_home(
            home, INDEX_DATABASE, name, ("directorKey", "chunkId", "subChunkId"), parts(), len(keys)
        )

    # publishing ----------------------------------------------------------------------------------

    async def _publish(self, home: RawConnection) -> None:
        await self._complete_chunks()
        await self._check_counts()
        meta = _META
        await home.run("START TRANSACTION")
        found = await home.fetch(
            f"SELECT db_id FROM {meta}.`databases` WHERE name = {literal(self.database)}"
        )
        db_id = int(found[0][0] or b"0")
        for table in self.tables:
            definition = msgspec.json.encode(table).hex()
            await home.run(
                f"INSERT INTO {meta}.`tables` (db_id, name, kind, definition, row_count) VALUES "
                f"({db_id}, {literal(table.name)}, '{table.kind.value}', 0x{definition}, {table.rows})"
            )
            number = (await home.fetch("SELECT LAST_INSERT_ID()"))[0][0]
            counts = self.counts.get(table.name, {})
            await _insert(
                home, f"{meta}.chunk_rows (table_id, chunk_id, row_count)",
                [f"({int(number or b'0')}, {chunk}, {rows})" for chunk, rows in counts.items()],
            )  # fmt: skip
        await _insert(
            home, f"{meta}.chunk_replicas (db_id, chunk_id, worker_id)",
            [f"({db_id}, {chunk}, {worker})" for chunk in sorted(self.chunks) for worker in self.homes(chunk)],
        )  # fmt: skip
        await home.run(
            f"UPDATE {meta}.`databases` SET state = 'published', version = version + UNIX_TIMESTAMP(), "
            f"published_at = NOW() WHERE db_id = {db_id}"
        )
        await bump(home)
        await home.run("COMMIT")

    async def _complete_chunks(self) -> None:
        """Give every chunk every sharded table, so that a missing table always means a fault."""
        jobs: dict[int, list[str]] = {worker: [] for worker in self.workers}
        for table in self.tables:
            if table.is_sharded:
                for chunk in sorted(self.chunks - set(self.counts[table.name])):
                    for worker in self.homes(chunk):
                        jobs[worker] += [
                            item.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
                            for item in self._creates(table, chunk)
                        ]
        await asyncio.gather(*(self.agents.admin(w, items) for w, items in jobs.items() if items))

    async def _check_counts(self) -> None:
        """Compare the rows stored with the rows read."""
        for table in self.tables:
            if not table.is_sharded:
                continue
            stored = 0
            for worker in self.workers:
                rows = await self.agents.admin(
                    worker,
                    [
                        "SELECT CAST(COALESCE(SUM(TABLE_ROWS), 0) AS SIGNED) FROM information_schema.TABLES "
                        f"WHERE TABLE_SCHEMA = {literal(self.database)} "
                        f"AND TABLE_NAME REGEXP {literal('^' + table.name + '_[0-9]+$')}"
                    ],
                )
                stored += int(rows[0][0] or "0")
            expected = sum(self.counts[table.name].values()) * self.replicas
            if stored != expected:
                raise UserError(
                    f"table '{table.name}': {expected} rows were sent, {stored} are stored; run it again"
                )


async def _insert(home: RawConnection, into: str, values: list[str]) -> None:
    for start in range(0, len(values), 1000):
        await home.run(f"INSERT INTO {into} VALUES " + ", ".join(values[start : start + 1000]))


async def _load_home(
    home: RawConnection, database: str, table: str, names: tuple[str, ...], parts: Iterator[bytes], rows: int
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    ok = await home.load(
        (
            f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {quote(database)}.{quote(table)} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ("
            + ", ".join(quote(name) for name in names) + ")"
        ).encode(),
        stream(),
    )  # fmt: skip
    if ok.affected_rows != rows or ok.warnings:
        found = await home.fetch("SHOW WARNINGS LIMIT 1")
        first = (found[0][2] or b"").decode() if found else ""
        raise UserError(
            f"table '{table}': {rows} rows sent, {ok.affected_rows} stored, {ok.warnings} warnings; {first}"
        )


def _folded(keys: np.ndarray) -> np.ndarray:
    """Return keys that are equal wherever a collation of MariaDB's may hold them equal (case, accents, padding)."""
    if keys.dtype.kind not in "US":
        return keys
    plain = (unicodedata.normalize("NFKD", str(key)).casefold().rstrip() for key in keys)
    return np.array(["".join(c for c in text if not unicodedata.combining(c)) for text in plain])


def _floats(batch: pa.Table, name: str | None) -> np.ndarray:
    column = batch.column(name or "").combine_chunks()
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _keys(batch: pa.Table, name: str | None, table: str) -> np.ndarray:
    column = batch.column(name or "")
    if column.null_count:
        raise UserError(f"table '{table}': column '{name}' has NULLs, but it is a key")
    values = np.asarray(column.to_numpy())
    return values.astype(str) if values.dtype == object else values
