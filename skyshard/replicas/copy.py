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
from dataclasses import dataclass, field

from backend.agent_link import AgentPool
from shard.catalog import ddl
from shard.catalog.model import Table
from shard.catalog.naming import TEMPLATE_CHUNK, copying_name, literal, namers, quote, stage_name
from shard.errors import ServerError
from shard.wire import frames
from skyshard.replicas.columns import Route, route
from skyshard.replicas.stream import read_rows

_ASIDE = "$copy"
"""How the names of tables end that a copy is made in, or that it has come into the place of: no catalogue's do."""


class CopyFailed(Exception):  # noqa: N818 - it is what happened
    """A copy is not what it should be; the text says which table, and why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One table of a chunk: where it is on workers, its rows as the catalogue counts them, its template."""

    database: str
    name: str
    rows: int
    template: str
    route: Route

    @property
    def place(self) -> str:
        """Its name in SQL."""
        return f"{quote(self.database)}.{quote(self.name)}"


Counted = Mapping[tuple[str, int], tuple[int, int]]
"""(table, chunk) → rows, and rows of its overlap."""


@dataclass(frozen=True, slots=True)
class Content:
    """What every chunk of a database consists of.

    Attributes
    ----------
    rows : mapping
        What the tables had when they were published.
    routes : mapping
        Table → how its rows travel.
    added : mapping
        Transaction → its rows, of those that are visible, the first commit first.
    states : mapping
        Chunk → the number behind the names of its unions.
    whole : mapping
        Transaction → replicated table → rows that it has added.
    """

    database: str
    tables: tuple[Table, ...]
    rows: Counted
    routes: Mapping[str, Route]
    added: Mapping[int, Counted] = field(default_factory=dict)
    states: Mapping[int, int] = field(default_factory=dict)
    whole: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    @staticmethod
    def of(
        database: str,
        tables: Sequence[Table],
        rows: Counted,
        added: Mapping[int, Counted] | None = None,
        states: Mapping[int, int] | None = None,
        whole: Mapping[int, Mapping[str, int]] | None = None,
    ) -> Content:
        """Return the content of a database, of which `rows` counts all that are visible."""
        first = dict(rows)
        for counted in (added or {}).values():
            for place, (main, overlap) in counted.items():
                had = first[place]
                first[place] = had[0] - main, had[1] - overlap
        routes = {table.name: route(table) for table in tables}
        return Content(database, tuple(tables), first, routes, added or {}, states or {}, whole or {})

    @property
    def databases(self) -> list[str]:
        """The databases on workers that have parts of it."""
        return [self.database, *map(stage_name, self.added)]

    def items(self, chunk: int) -> list[Item]:
        """Return the tables of a chunk: those of transactions behind those that were published."""
        out = self._items(chunk, self.database, self.rows, always=True)
        for number, counted in self.added.items():
            out += self._items(chunk, stage_name(number), counted)
        return out

    def added_items(self, chunk: int, number: int, counted: Counted) -> list[Item]:
        """Return the tables with a transaction's rows of a chunk."""
        return self._items(chunk, stage_name(number), counted)

    def _items(self, chunk: int, database: str, counted: Counted, always: bool = False) -> list[Item]:
        out = []
        for table in self.tables:
            if not table.is_sharded or not (always or (table.name, chunk) in counted):
                continue
            way, rows = self.routes[table.name], counted.get((table.name, chunk), (0, 0))
            for namer, count in zip(namers(table), rows, strict=False):
                template = namer(table.name, TEMPLATE_CHUNK)
                out.append(Item(database, namer(table.name, chunk), count, template, way))
        return out

    def whole_item(self, table: str, database: str, rows: int) -> Item:
        """Return a table with all or some rows of a replicated one."""
        return Item(database, table, rows, table, self.routes[table])

    def whole_items(self, table: Table) -> list[Item]:
        """Return the tables of a replicated one: those of transactions behind the one that was published."""
        added = {number: rows[table.name] for number, rows in self.whole.items() if table.name in rows}
        return [
            self.whole_item(table.name, self.database, table.rows - sum(added.values())),
            *(self.whole_item(table.name, stage_name(number), rows) for number, rows in added.items()),
        ]

    def unions(self, chunk: int) -> dict[str, tuple[int, str]]:
        """Return the unions that a chunk consists of now: name → (rows, the statement that makes it)."""
        if (state := self.states.get(chunk, 0)) == 0:
            return {}
        rows: dict[str, int] = {}
        parts: dict[str, list[tuple[str, str]]] = {}
        for item in self.items(chunk):
            rows[item.name] = rows.get(item.name, 0) + item.rows
            parts.setdefault(item.name, []).append((item.database, item.name))
        out = {}
        for table in self.tables:
            for namer in namers(table) if table.is_sharded else ():
                name, made = namer(table.name, chunk), namer(table.name, chunk, state)
                out[made] = rows[name], ddl.union(table.ddl, table.name, self.database, made, parts[name])
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
        self._aside = copying_name(content.database)

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
                await self._replicated(target, source, table)

    async def _templates(self, target: int, table: Table) -> None:
        names = [namer(table.name, TEMPLATE_CHUNK) for namer in namers(table)]
        made = [ddl.physical(table.ddl, table.name, self._content.database, one) for one in names]
        safe = [text.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1) for text in made]
        await self._agents.admin(target, safe)

    async def _replicated(self, target: int, source: int, table: Table) -> None:
        """Copy a replicated table, and make the union that it is now, if it has got rows since it was published."""
        items, made = (
            self._content.whole_items(table),
            f"{quote(self._content.database)}.{quote(table.stored)}",
        )
        for item in items:
            await self.whole(target, source, table, item)
        if table.state:
            parts = [(item.database, item.name) for item in items]
            union = ddl.union(table.ddl, table.name, self._content.database, table.stored, parts)
            await self._agents.admin(target, [f"DROP TABLE IF EXISTS {made}", union])

    async def whole(self, target: int, source: int, table: Table, item: Item) -> None:
        """Copy a table of a replicated one unless the target has the same; it takes its place by a rename.

        Raises
        ------
        CopyFailed
            If rows are missing or other than they were.
        """
        (wanted,) = await self._sums(source, [item.place])
        if wanted is None:
            raise CopyFailed(f"table '{table.name}': {self._agents.name(source)} cannot read it")
        if await self._sums(target, [item.place]) == [wanted]:
            return
        database, new = quote(item.database), f"{table.name[:50]}{_ASIDE}"
        create = ddl.physical(table.ddl, table.name, item.database, new)
        await self._agents.admin(
            target,
            [
                f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4",
                f"DROP TABLE IF EXISTS {database}.{quote(new)}",
                create,
            ],
        )
        await self._rows(source, target, item, new, item.database)
        if await self._sums(target, [f"{database}.{quote(new)}"]) != [wanted]:
            raise CopyFailed(f"table '{table.name}': the copy has another checksum")
        await self._put(target, item.database, [(f"{database}.{quote(new)}", item)])

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
        await self.tables(chunk, items, source, target)
        if unions := self._content.unions(chunk):
            old = ", ".join(f"{database}.{quote(name)}" for name in unions)
            texts = [text for _, text in unions.values()]
            await self._agents.admin(target, [f"DROP TABLE IF EXISTS {old}", *texts])
        return sum(item.rows for item in items)

    async def tables(self, chunk: int, items: Sequence[Item], source: int, target: int) -> None:
        """Copy tables of a chunk; they take the places of others of the same names."""
        database, aside = quote(self._content.database), quote(self._aside)
        names = [f"{chunk}_{number}" for number, _ in enumerate(items)]
        bases = sorted({self._aside, *(item.database for item in items)})
        await self._agents.admin(
            target,
            [
                *(f"CREATE DATABASE IF NOT EXISTS {quote(base)} CHARACTER SET utf8mb4" for base in bases),
                *(f"DROP TABLE IF EXISTS {aside}.{quote(name)}" for name in names),
                *(
                    f"CREATE TABLE {aside}.{quote(name)} LIKE {database}.{quote(item.template)}"
                    for name, item in zip(names, items, strict=True)
                ),
            ],
        )
        for name, item in zip(names, items, strict=True):
            await self._rows(source, target, item, name, self._aside)
        theirs, ours = await asyncio.gather(
            self._sums(source, [item.place for item in items]),
            self._sums(target, [f"{aside}.{quote(name)}" for name in names]),
        )
        for item, one, other in zip(items, theirs, ours, strict=True):
            if one is None or one != other:
                raise CopyFailed(f"table '{item.name}': the copy has another checksum")
        await self._put(
            target,
            self._aside,
            [(f"{aside}.{quote(name)}", item) for name, item in zip(names, items, strict=True)],
        )

    async def _put(self, target: int, aside: str, made: Sequence[tuple[str, Item]]) -> None:
        """Let tables take the places of those there by one RENAME: a query finds the old or the new ones, never none.

        The old ones go by way of the database `aside`. They may be damaged so that they cannot be moved; they are of no use to a query, and are dropped before.
        """
        here = await self._here(target, [item for _, item in made])
        gone, moves = [], []
        for new, item in made:
            if (item.database, item.name) in here:
                digest = zlib.crc32(f"{item.database}.{item.name}".encode())
                gone.append(f"{quote(aside)}.{quote(f'skyshard_old_{digest:08x}{_ASIDE}')}")
                moves.append(f"{item.place} TO {gone[-1]}")
            moves.append(f"{new} TO {item.place}")
        drop = [f"DROP TABLE IF EXISTS {', '.join(gone)}"] if gone else []
        try:
            await self._agents.admin(target, [*drop, f"RENAME TABLE {', '.join(moves)}"])
        except ServerError:
            if not gone:
                raise
            old = ", ".join(item.place for _, item in made)
            news = ", ".join(f"{new} TO {item.place}" for new, item in made)
            await self._agents.admin(target, [f"DROP TABLE IF EXISTS {old}", f"RENAME TABLE {news}"])
        if drop:
            await self._agents.admin(target, drop)

    async def _here(self, target: int, items: Sequence[Item]) -> set[tuple[str, str]]:
        """Return those of some tables that the target has."""
        listed = ", ".join(f"({literal(item.database)}, {literal(item.name)})" for item in items)
        rows = await self._agents.admin(
            target,
            [
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES "
                f"WHERE (TABLE_SCHEMA, TABLE_NAME) IN ({listed})"
            ],
        )
        return {(base or "", name or "") for base, name in rows}

    async def finish(self, target: int) -> None:
        """Take away where copies were made."""
        await self._agents.admin(target, [f"DROP DATABASE IF EXISTS {quote(self._aside)}"])

    async def sweep(self, target: int) -> None:
        """Take away what copies have left that were cut short; the database's lock must be held: nobody makes any now."""
        listed = ", ".join(map(literal, self._content.databases))
        found = await self._agents.admin(
            target,
            [
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA IN ({listed}) AND TABLE_NAME LIKE '%{_ASIDE}'"
            ],
        )
        drops = [f"DROP TABLE IF EXISTS {quote(base or '')}.{quote(name or '')}" for base, name in found]
        await self._agents.admin(target, [*drops, f"DROP DATABASE IF EXISTS {quote(self._aside)}"])

    async def _sums(self, worker: int, places: Sequence[str]) -> list[str | None]:
        """Return the checksums of tables; None for one that is missing or damaged."""
        try:
            found = await self._agents.admin(worker, [f"CHECKSUM TABLE {', '.join(places)} EXTENDED"])
        except ServerError:
            return [None] * len(places)
        return [row[1] for row in found]

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
            reading = read_rows(self._agents, source, item.database, item.name, item.route.select, sent)
            async with aclosing(reading) as pieces:
                await self._agents.load(target, begin, pieces, sent)
        if sent[0] != item.rows:
            raise CopyFailed(
                f"table '{item.name}': {sent[0]} of {item.rows} rows at {self._agents.name(source)}"
            )
