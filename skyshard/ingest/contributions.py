"""Several processes load one transaction: each takes files from the queue, and loads them where nobody else does.

A table's files are cut into batches of consecutive files. Who works on a batch has its claim, a lock that ends with
the connection, so that the batch of a process that was killed is free at once. A batch that is the whole table is loaded
into the transaction's own tables; others into databases of their own (``skyshard_stage_N_F``, F: the number of the first
file), which are made anew whenever the batch is begun: however often that is, its rows are there once. When all batches
of a table are loaded, whoever sees it first puts them together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.model import Table
from shard.catalog.naming import (
    INDEX_DATABASE,
    TEMPLATE_CHUNK,
    contribution_name,
    index_table,
    literal,
    namers,
    quote,
    stage_name,
)
from skyshard.errors import NotNow, UserError
from skyshard.ingest.ledger import Ledger, in_turn
from skyshard.ingest.loading import Loader
from skyshard.ingest.queue import Queued
from skyshard.ingest.transactions import LOCK_S, META, ChunkRows, Learned

BATCH_BYTES = 1 << 30
"""Bytes of files that one process loads at once, if a table has more: so much work a kill undoes at most."""
RENAMES = 20
"""Tables that are moved by one statement."""
_UNION = "$all"


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded of a batch: what its rows say, chunk → how many they are, and the workers that answered."""

    learned: Learned
    chunks: dict[int, ChunkRows]
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that are loaded at once: `number` is that of the first one, `is_all` if the table has no others."""

    number: int
    files: tuple[Queued, ...]
    is_all: bool

    @property
    def is_loaded(self) -> bool:
        """Whether its rows are there."""
        return all(file.state == "loaded" for file in self.files)


def batches(files: Sequence[Queued], limit: int | None) -> list[Batch]:
    """Cut a table's files into batches of at least `limit` bytes, the last one of fewer; None: all in one."""
    parts: list[list[Queued]] = []
    size = 0
    for file in files:
        if not parts or (limit is not None and size >= limit):
            parts.append([])
            size = 0
        parts[-1].append(file)
        size += file.stamp.size
    return [Batch(part[0].number, tuple(part), len(parts) == 1) for part in parts]


class Claims:
    """Who works on which batch of a transaction.

    Parameters
    ----------
    home : RawConnection
        The connection with which the claims end.
    number : int
        The transaction.
    """

    def __init__(self, home: RawConnection, number: int) -> None:
        self._home, self._number = home, number

    def _lock(self, batch: Batch) -> str:
        return literal(f"skyshard load {self._number}/{batch.number}")

    async def take(self, batch: Batch, wait_s: int = 0) -> bool:
        """Claim a batch, unless somebody else has it."""
        return (await self._home.fetch(f"SELECT GET_LOCK({self._lock(batch)}, {wait_s})"))[0][0] == b"1"

    async def first(self, listed: Sequence[Batch]) -> Batch | None:
        """Claim the first batch that nobody has; None after a second in which all have been worked on."""
        for batch in listed:
            if await self.take(batch):
                return batch
        if await self.take(listed[0], 1):
            return listed[0]
        return None

    async def give(self, batch: Batch) -> None:
        """Give a claim back."""
        if not self._home.busy and not self._home.closed:
            await self._home.run(f"DO RELEASE_LOCK({self._lock(batch)})")


async def lock_loaders(home: RawConnection, number: int) -> None:
    """Keep all processes from loading a transaction, its tables without files among them.

    Raises
    ------
    NotNow
        If one does.
    """
    rows = await home.fetch(  # the batch of a table without files has a number below 0
        f"SELECT GET_LOCK(CONCAT('skyshard load {number}/', batch), {LOCK_S}) FROM "
        f"(SELECT file_no AS batch FROM {META}.ingest_files WHERE ingest_id = {number} UNION ALL "
        f"SELECT -ROW_NUMBER() OVER (ORDER BY name) FROM {META}.ingest_tables WHERE ingest_id = {number}) AS batches"
    )
    if any(row[0] != b"1" for row in rows):
        raise NotNow(f"another process loads transaction {number}")


@dataclass(frozen=True, slots=True)
class Contributions:
    """The parts of a transaction's tables."""

    home: RawConnection
    ledger: Ledger
    number: int

    async def begin(self, batch: Batch) -> str:
        """Make the empty databases that a batch is loaded into, at home and on workers; return their name."""
        await self.ledger.drop_contributions(self.number, [batch.number])
        name = contribution_name(self.number, batch.number)
        await self.ledger.make(name)
        return name

    async def loaded(self, batch: Batch, table: str, content: Contribution) -> None:
        """Note that a batch has been loaded."""
        numbers = ", ".join(str(file.number) for file in batch.files)
        await self.ledger.agents.settle(self.ledger.workers)
        await self.home.run("START TRANSACTION")
        await self.home.run(
            f"REPLACE INTO {META}.ingest_contributions (ingest_id, file_no, name, content) VALUES "
            f"({self.number}, {batch.number}, {literal(table)}, 0x{msgspec.json.encode(content).hex()})"
        )
        await self.home.run(
            f"UPDATE {META}.ingest_files SET state = 'loaded', reason = NULL WHERE ingest_id = {self.number} "
            f"AND file_no IN ({numbers})"
        )
        await self.home.run("COMMIT")

    async def read(self, parts: Sequence[Batch]) -> dict[int, Contribution]:
        """Return what was loaded of batches, by their numbers."""
        numbers = ", ".join(str(batch.number) for batch in parts)
        rows = await self.home.fetch(
            f"SELECT file_no, content FROM {META}.ingest_contributions WHERE ingest_id = {self.number} "
            f"AND file_no IN ({numbers}) ORDER BY file_no"
        )
        return {
            int(number or b"0"): msgspec.json.decode(content or b"", type=Contribution)
            for number, content in rows
        }

    async def join(self, table: Table, found: Mapping[int, Contribution], loader: Loader) -> None:
        """Put the rows of all batches of a table together; may be repeated.

        A chunk of which one batch has rows gets that batch's tables. The rows of others are copied at once, so that
        indexes are made by sorting.
        """
        stage = stage_name(self.number)
        await self.ledger.everywhere(_templates(table, stage))
        holding: dict[int, list[int]] = defaultdict(list)
        for number, one in found.items():
            for chunk in one.chunks:
                holding[chunk].append(number)
        there = {number: await self.ledger.tables(contribution_name(self.number, number)) for number in found}
        made = await self.ledger.tables(stage)
        moves: dict[int, list[tuple[str, str]]] = defaultdict(list)
        copies: dict[int, list[str]] = defaultdict(list)
        for chunk, numbers in holding.items():
            for namer in namers(table):
                name, template = namer(table.name, chunk), namer(table.name, TEMPLATE_CHUNK)
                for worker in loader.holders(chunk):
                    places = [contribution_name(self.number, number) for number in numbers]
                    if len(numbers) > 1:
                        copies[worker] += _copied(table, stage, name, template, places)
                    elif name in there[numbers[0]].get(worker, {}):
                        moves[worker].append((places[0], name))
                    elif found[numbers[0]].chunks[chunk][namers(table).index(namer)] and name not in made.get(
                        worker, {}
                    ):
                        raise UserError(in_turn(self.number, chunk))
        await self.ledger.run(
            {worker: _freed(stage, pairs, made.get(worker, {})) for worker, pairs in moves.items()}
        )
        await self.ledger.run({worker: _moved(stage, pairs) for worker, pairs in moves.items()}, 1)
        await self.ledger.run(copies, 5)

    async def join_indexes(self, director: str, numbers: Sequence[int]) -> None:
        """Put the director indexes of all batches together; may be repeated."""
        at = f"{quote(INDEX_DATABASE)}."
        new = at + quote(index_table(stage_name(self.number), director))
        parts = [at + quote(index_table(contribution_name(self.number, one), director)) for one in numbers]
        await self.home.run(f"DROP TABLE IF EXISTS {new}")
        await self.home.run(f"CREATE TABLE {new} LIKE {parts[0]}")
        await self.home.run(
            f"INSERT INTO {new} " + " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)
        )
        await self.home.run(f"FLUSH TABLES {new}")  # the metadata will say that this is loaded


def _templates(table: Table, stage: str) -> list[str]:
    made = [
        ddl.physical(table.ddl, table.name, stage, namer(table.name, TEMPLATE_CHUNK))
        for namer in namers(table)
    ]
    return [text.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1) for text in made]


def _freed(stage: str, pairs: Sequence[tuple[str, str]], made: Container[str]) -> list[str]:
    """Return what drops tables that an earlier attempt has `made` where others are to be moved.

    Every statement about tables waits for the disk, and so does a DROP of one that does not exist.
    """
    gone = [f"{quote(stage)}.{quote(name)}" for _, name in pairs if name in made]
    return [f"DROP TABLE IF EXISTS {', '.join(gone)}"] if gone else []


def _moved(stage: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return what puts tables (place, name) of batches in their places."""
    return [
        "RENAME TABLE "
        + ", ".join(
            f"{quote(place)}.{quote(name)} TO {quote(stage)}.{quote(name)}"
            for place, name in pairs[start : start + RENAMES]
        )
        for start in range(0, len(pairs), RENAMES)
    ]


def _copied(table: Table, stage: str, name: str, template: str, places: Sequence[str]) -> list[str]:
    """Return what makes a table of the rows of several batches."""
    made, union = f"{quote(stage)}.{quote(name)}", f"{quote(stage)}.{quote(name + _UNION)}"
    listed = ", ".join(
        map(quote, [*(column.name for column in table.columns), *ddl.invisible(table.columns, table.kind)])
    )
    return [
        f"DROP TABLE IF EXISTS {made}, {union}",
        ddl.like(stage, name, template),
        ddl.union(table.ddl, table.name, stage, name + _UNION, [(place, name) for place in places]),
        f"INSERT INTO {made} ({listed}) SELECT {listed} FROM {union}",
        f"DROP TABLE {union}",
    ]


def together(parts: Sequence[Contribution]) -> tuple[Learned, dict[int, ChunkRows]]:
    """Return what the rows of all batches say of a table, and chunk → how many they are.

    Whether equal keys lie in several chunks cannot be told from these alone: two batches may have the same key.
    """
    chunks: dict[int, ChunkRows] = {}
    for part in parts:
        for chunk, (rows, overlap) in part.chunks.items():
            had = chunks.get(chunk, ChunkRows(0, 0))
            chunks[chunk] = ChunkRows(had.rows + rows, had.overlap + overlap)
    learned = Learned(
        rows=sum(part.learned.rows for part in parts),
        table=parts[0].learned.table,
        key_spans_chunks=any(part.learned.key_spans_chunks for part in parts),
        null_keys=any(part.learned.null_keys for part in parts),
        wide_pairs=sum(part.learned.wide_pairs for part in parts),
    )
    return learned, chunks
