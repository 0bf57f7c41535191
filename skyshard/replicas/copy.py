"""Copies tables from one worker to another, through their agents, while queries run.

Rows are read by a job in the scan lane and loaded as an ingest loads them. A copy is good when as many rows have
been stored as the catalogue counts, and CHECKSUM TABLE is the same on both sides. Until then it has no name that a
query could know: a query that was planned for the worker finds the whole chunk or a missing table, never some rows.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from backend.agent_link import AgentPool
from shard.catalog import ddl
from shard.catalog.model import Kind, Table
from shard.catalog.naming import TEMPLATE_CHUNK, chunk_table, overlap_table, quote
from shard.wire import frames
from skyshard.replicas.columns import Route, route
from skyshard.replicas.stream import checksums, read_rows


class CopyFailed(Exception):  # noqa: N818 - it is what happened
    """A copy is not what it should be; the text says which table, and why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One table of a chunk: its name on workers, its rows as the catalogue counts them, its template."""

    name: str
    rows: int
    template: str
    route: Route


@dataclass(frozen=True, slots=True)
class Content:
    """What every chunk of a database consists of.

    Attributes
    ----------
    rows : mapping
        (table, chunk) → rows, and rows of its overlap.
    routes : mapping
        Table → how its rows travel.
    """

    database: str
    tables: tuple[Table, ...]
    rows: Mapping[tuple[str, int], tuple[int, int]]
    routes: Mapping[str, Route]

    @staticmethod
    def of(
        database: str, tables: Sequence[Table], rows: Mapping[tuple[str, int], tuple[int, int]]
    ) -> Content:
        """Return the content of a database."""
        return Content(database, tuple(tables), rows, {table.name: route(table) for table in tables})

    def items(self, chunk: int) -> list[Item]:
        """Return the tables of a chunk."""
        out = []
        for table in self.tables:
            if not table.is_sharded:
                continue
            way, (main, overlap) = self.routes[table.name], self.rows.get((table.name, chunk), (0, 0))
            out.append(
                Item(chunk_table(table.name, chunk), main, chunk_table(table.name, TEMPLATE_CHUNK), way)
            )
            if table.kind is Kind.DIRECTOR:
                template = overlap_table(table.name, TEMPLATE_CHUNK)
                out.append(Item(overlap_table(table.name, chunk), overlap, template, way))
        return out


class Copier:
    """Makes copies of one database's tables.

    Parameters
    ----------
    agents : AgentPool
        The workers' agents.
    content : Content
        What is copied.
    """

    def __init__(self, agents: AgentPool, content: Content) -> None:
        self._agents, self._content = agents, content
        self._aside = f"skyshard_copy_{zlib.crc32(content.database.encode()):08x}"

    async def prepare(self, target: int, source: int, fresh: bool) -> None:
        """Give a worker what it needs before its first chunk: templates, and the replicated tables.

        What is there and right is kept; of a worker that has no chunk, `fresh`, nothing is.
        """
        name = self._content.database
        if fresh:
            await self._agents.admin(target, [f"DROP DATABASE IF EXISTS {quote(name)}"])
        await self._agents.admin(
            target, [f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET utf8mb4"]
        )
        for table in self._content.tables:
            if table.is_sharded:
                await self._templates(target, table)
            else:
                await self._whole(target, source, table)

    async def _templates(self, target: int, table: Table) -> None:
        names = [chunk_table(table.name, TEMPLATE_CHUNK)]
        if table.kind is Kind.DIRECTOR:
            names.append(overlap_table(table.name, TEMPLATE_CHUNK))
        made = [ddl.physical(table.ddl, table.name, self._content.database, one) for one in names]
        safe = [text.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1) for text in made]
        await self._agents.admin(target, safe)

    async def _whole(self, target: int, source: int, table: Table) -> None:
        """Copy a replicated table unless the target has the same one; it takes its place by a rename."""
        item = Item(table.name, table.rows, "", self._content.routes[table.name])
        wanted = (await self._sums(source, [table.name]))[table.name]
        if wanted is None:
            raise CopyFailed(f"table '{table.name}': {self._agents.name(source)} cannot read it")
        if (await self._sums(target, [table.name]))[table.name] == wanted:
            return
        database, new = quote(self._content.database), f"{table.name[:50]}$copy"
        create = ddl.physical(table.ddl, table.name, self._content.database, new)
        await self._agents.admin(target, [f"DROP TABLE IF EXISTS {database}.{quote(new)}", create])
        await self._rows(source, target, item, new)
        if (await self._sums(target, [new]))[new] != wanted:
            raise CopyFailed(f"table '{table.name}': the copy has another checksum")
        await self._agents.admin(
            target,
            [
                f"DROP TABLE IF EXISTS {database}.{quote(table.name)}",
                f"RENAME TABLE {database}.{quote(new)} TO {database}.{quote(table.name)}",
            ],
        )

    async def chunk(self, chunk: int, source: int, target: int) -> int:
        """Copy a chunk; return its rows.

        Raises
        ------
        CopyFailed
            If rows are missing or other than they were.
        SkyError
            If a worker does not answer or refuses.
        """
        items, database = self._content.items(chunk), quote(self._content.database)
        aside, names = quote(self._aside), [item.name for item in items]
        await self._agents.admin(
            target,
            [
                f"CREATE DATABASE IF NOT EXISTS {aside} CHARACTER SET utf8mb4",
                *(f"DROP TABLE IF EXISTS {aside}.{quote(name)}" for name in names),
                *(f"CREATE TABLE {aside}.{quote(i.name)} LIKE {database}.{quote(i.template)}" for i in items),
            ],
        )
        for item in items:
            await self._rows(source, target, item, item.name, self._aside)
        theirs, ours = await asyncio.gather(self._sums(source, names), self._sums(target, names, self._aside))
        if None in theirs.values() or theirs != ours:
            bad = next((name for name in names if theirs[name] is None or theirs[name] != ours[name]), "")
            raise CopyFailed(f"table '{bad}': the copy has another checksum")
        moves = ", ".join(f"{aside}.{quote(name)} TO {database}.{quote(name)}" for name in names)
        old = ", ".join(f"{database}.{quote(name)}" for name in names)
        await self._agents.admin(target, [f"DROP TABLE IF EXISTS {old}", f"RENAME TABLE {moves}"])
        return sum(item.rows for item in items)

    async def finish(self, target: int) -> None:
        """Take away where copies were made."""
        await self._agents.admin(target, [f"DROP DATABASE IF EXISTS {quote(self._aside)}"])

    async def _sums(self, worker: int, names: Sequence[str], database: str = "") -> dict[str, str | None]:
        """Return the checksums of tables; None for one that is missing or damaged."""
        return await checksums(self._agents, worker, database or self._content.database, names)

    async def _rows(self, source: int, target: int, item: Item, into: str, database: str = "") -> None:
        """Copy the rows of one table into a table of the target, in a database if it is another one."""
        sent = [0]
        begin = frames.LoadBegin(
            database=database or self._content.database,
            table=into,
            columns=item.route.columns,
            expressions=item.route.expressions,
        )
        if item.rows:
            reading = read_rows(
                self._agents, source, self._content.database, item.name, item.route.select, sent
            )
            async with aclosing(reading) as pieces:
                await self._agents.load(target, begin, pieces, sent)
        if sent[0] != item.rows:
            raise CopyFailed(
                f"table '{item.name}': {sent[0]} of {item.rows} rows at {self._agents.name(source)}"
            )
