"""Makes chunk tables on the workers and loads their text through the agents.

A chunk table is made LIKE its template, whose definition is sent once; all rows of a table go into it in one
LOAD DATA, so that its indexes are built by sorting.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.model import Table
from shard.catalog.naming import TEMPLATE_CHUNK, chunk_table, literal, namers, overlap_table, quote
from shard.catalog.placement import Placement
from shard.errors import ServerError
from shard.wire.frames import LoadBegin
from skyshard.errors import UserError

# Commands that load nothing (worker, repair) get here, too, and start in half of the time without Arrow.
if TYPE_CHECKING:
    from skyshard.ingest.layout import Layout
    from skyshard.ingest.spill import Spill

LOADS_PER_WORKER = 3
STATEMENTS = 500
"""Statements sent to an agent at once."""

_ROW = re.compile(r"at row (\d+)")
_COLUMN = re.compile(r"^(.*?) for column (?:'(.*)'|`[^`]*`\.`[^`]*`\.`(.*)`) at row \d+", re.S)


class BadRow(Exception):  # noqa: N818 - it is what was found
    """A server could not store a row: `row` counts from 1 in the text of the chunk (or of its overlap).

    Attributes
    ----------
    column : str or None
        The column whose value it refused, if it said so.
    reason : str
        What it said, without the names of tables that only it knows.
    """

    def __init__(self, chunk: int, is_overlap: bool, row: int, message: str) -> None:
        self.chunk, self.is_overlap, self.row = chunk, is_overlap, row
        found = _COLUMN.match(message)
        self.column = (found[2] or found[3]).replace("``", "`") if found else None
        self.reason = found[1] if found else _ROW.sub("", message).strip()
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded: names of the text's columns, and expressions for types that text cannot fill."""

    columns: tuple[str, ...]
    expressions: dict[str, str]

    @staticmethod
    def of(names: Sequence[str], layout: Layout) -> Target:
        """Return the target of a table's text; a BIT column takes a number by an expression."""
        bits = {field.column.name for field in layout.fields if field.kind.word == "BIT"}
        columns = tuple(f"@{number}" if name in bits else name for number, name in enumerate(names))
        made = {name: f"CAST(@{number} AS UNSIGNED)" for number, name in enumerate(names) if name in bits}
        return Target(columns, made)


class Loader:
    """Loads one database's tables on all workers.

    Parameters
    ----------
    agents : AgentPool
        The workers' agents.
    placement : Placement
        Which workers there are, and which of them hold a chunk.
    database : str
        The database to load into, on the workers.
    """

    def __init__(self, agents: AgentPool, placement: Placement, database: str) -> None:
        self._agents, self._placement, self._database = agents, placement, database
        self._workers = placement.workers
        self._limits = {worker: asyncio.Semaphore(LOADS_PER_WORKER) for worker in self._workers}

    def holders(self, chunk: int) -> list[int]:
        """Return the workers that get a chunk."""
        return self._placement.of(chunk)

    async def everywhere(self, statements: Sequence[str]) -> None:
        """Run statements on every worker."""
        await self._admin({worker: list(statements) for worker in self._workers})

    async def _admin(self, jobs: Mapping[int, list[str]]) -> None:
        async with asyncio.TaskGroup() as group:
            for worker, statements in jobs.items():
                group.create_task(self._in_turn(worker, statements))

    async def _in_turn(self, worker: int, statements: list[str]) -> None:
        for start in range(0, len(statements), STATEMENTS):
            await self._agents.admin(worker, statements[start : start + STATEMENTS])

    async def templates(self, table: Table) -> None:
        """Make a sharded table's empty templates on every worker."""
        names = [namer(table.name, TEMPLATE_CHUNK) for namer in namers(table)]
        await self.everywhere([ddl.physical(table.ddl, table.name, self._database, name) for name in names])

    async def chunk_tables(self, table: Table, chunks: Iterable[int]) -> None:
        """Make a sharded table's chunk tables where there are none."""
        jobs: dict[int, list[str]] = {worker: [] for worker in self._workers}
        for chunk in sorted(chunks):
            for namer in namers(table):
                text = ddl.like(self._database, namer(table.name, chunk), namer(table.name, TEMPLATE_CHUNK))
                for worker in self._placement.of(chunk):
                    jobs[worker].append(text)
        await self._admin(jobs)

    async def sharded(
        self, table: Table, target: Target, main: Spill, overlap: Spill, done: Callable[[int], None]
    ) -> None:
        """Load all chunks of a table; `done` is told the rows of each.

        Raises
        ------
        BadRow
            If a worker cannot store a row.
        """
        async with asyncio.TaskGroup() as group:
            for spill, is_overlap, namer in ((main, False, chunk_table), (overlap, True, overlap_table)):
                for chunk in sorted(spill.rows):
                    for worker in self._placement.of(chunk):
                        begin = LoadBegin(
                            database=self._database,
                            table=namer(table.name, chunk),
                            columns=target.columns,
                            expressions=target.expressions,
                        )
                        group.create_task(self._load(worker, begin, spill, chunk, is_overlap, done))

    async def replicated(
        self, table: Table, target: Target, main: Spill, done: Callable[[int], None]
    ) -> None:
        """Make and load a full copy of a replicated table on every worker."""
        await self.everywhere([ddl.physical(table.ddl, table.name, self._database, table.name)])
        begin = LoadBegin(
            database=self._database, table=table.name, columns=target.columns, expressions=target.expressions
        )
        async with asyncio.TaskGroup() as group:
            for worker in self._workers if main.rows else ():
                group.create_task(self._load(worker, begin, main, 0, False, done))

    async def _load(
        self,
        worker: int,
        begin: LoadBegin,
        spill: Spill,
        chunk: int,
        is_overlap: bool,
        done: Callable[[int], None],
    ) -> None:
        async def stream() -> AsyncIterator[bytes]:
            for piece in spill.read(chunk):
                yield piece

        async with self._limits[worker]:
            try:
                await self._agents.load(worker, begin, stream(), [spill.rows[chunk]])
            except ServerError as error:
                raise bad_row(error, chunk, is_overlap) from error
        done(spill.rows[chunk])

    async def stored(self, worker: int) -> dict[str, int]:
        """Return table → rows of everything that a worker holds of the database."""
        rows = await self._agents.admin(
            worker,
            [
                "SELECT TABLE_NAME, CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA = {literal(self._database)}"
            ],
        )
        return {name or "": int(count or "0") for name, count in rows}


def bad_row(error: ServerError, chunk: int, is_overlap: bool) -> Exception:
    """Return the exception for a failed load: `BadRow` if the server names a row, else its own error."""
    found = _ROW.search(error.message)
    if found is None:
        return error
    message = error.message.rsplit("first: ", 1)[-1]
    return BadRow(chunk, is_overlap, int(found[1]), message)


async def load_home(
    home: RawConnection,
    database: str,
    table: str,
    target: Target,
    parts: Iterator[bytes] | AsyncIterator[bytes],
    rows: int,
) -> None:
    """Load text into a table at home.

    Raises
    ------
    BadRow
        If a row cannot be stored.
    """

    async def stream() -> AsyncIterator[bytes]:
        if isinstance(parts, AsyncIterator):
            async for part in parts:
                yield part
            return
        for part in parts:
            yield part

    listed = ", ".join(name if name.startswith("@") else quote(name) for name in target.columns)
    sql = (
        f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {quote(database)}.{quote(table)} CHARACTER SET utf8mb4 "
        f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({listed})"
    )
    if target.expressions:
        sql += " SET " + ", ".join(f"{quote(name)} = {text}" for name, text in target.expressions.items())
    ok = await home.load(sql.encode(), stream())
    if ok.affected_rows == rows and not ok.warnings:
        return
    found = await home.fetch("SHOW WARNINGS LIMIT 1")
    first = (found[0][2] or b"").decode("utf-8", "replace") if found else ""
    message = f"table '{table}': {rows} rows sent, {ok.affected_rows} stored, {ok.warnings} warnings; {first}"
    if row := _ROW.search(first):
        raise BadRow(0, False, int(row[1]), first)
    raise UserError(message)
