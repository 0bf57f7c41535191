"""Tables that come to a published database with a transaction.

Such a table is made empty for every chunk there is; its rows are then those of the transaction, like the rows of
any other. At home its trap comes from where the transaction has made it, by one RENAME. So does an empty replicated table,
which gets its rows in the transaction that makes them visible. All of it may be repeated: what is still where the
transaction has made it is not in the database yet, and a table of that name there is a user's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    INDEX_DATABASE,
    TEMPLATE_CHUNK,
    index_table,
    literal,
    namers,
    quote,
    stage_name,
)
from skyshard.errors import NotNow, UserError
from skyshard.ingest.debts import stem
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.replicated import ANY_VALUE
from skyshard.ingest.transactions import Published
from skyshard.replicas.copy import Content, Copier, CopyFailed

_EMPTY, _ROWS = "$empty", "$rows"
"""Behind the name of a replicated table at home: one like it for the database, and what has its rows until it is shown."""


@dataclass(frozen=True, slots=True)
class Additions:
    """The tables that transaction `number` brings."""

    home: RawConnection
    ledger: Ledger
    base: Published
    number: int

    async def make(self, tables: Sequence[Table]) -> None:
        """Put the tables into the database, where nobody knows them yet."""
        if not tables:
            return
        await self.check_free(tables)
        sharded = [table for table in tables if table.is_sharded]
        await self.ledger.everywhere(self._templates(sharded))
        jobs: dict[int, list[str]] = defaultdict(list)
        for chunk, workers in self.base.holders.items():
            for table in sharded:
                texts = self._of_chunk(table, chunk)
                for worker in workers:
                    jobs[worker] += texts
        await self.ledger.run(jobs)
        await self._replicated([table for table in tables if not table.is_sharded])
        await self._at_home(tables)

    def _templates(self, tables: Sequence[Table]) -> list[str]:
        made = [
            ddl.physical(table.ddl, table.name, self.base.name, namer(table.name, TEMPLATE_CHUNK))
            for table in tables
            for namer in namers(table)
        ]
        return [text.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1) for text in made]

    def _of_chunk(self, table: Table, chunk: int) -> list[str]:
        name, state = self.base.name, self.base.states.get(chunk, 0)
        out = []
        for namer in namers(table):
            first = namer(table.name, chunk)
            out.append(ddl.like(name, first, namer(table.name, TEMPLATE_CHUNK)))
            if state:
                out.append(
                    ddl.union(table.ddl, table.name, name, namer(table.name, chunk, state), [(name, first)])
                )
        return out

    async def _replicated(self, tables: Sequence[Table]) -> None:
        """Let every worker have the replicated tables; one that was away when they were loaded gets a copy."""
        stage = stage_name(self.number)
        moves: dict[int, list[str]] = defaultdict(list)
        for table in tables:
            places = await self._mended(table, stage)
            for worker in places[stage]:
                at = f"{quote(self.base.name)}.{quote(table.name)}"
                moves[worker] += [
                    f"DROP TABLE IF EXISTS {at}",
                    f"RENAME TABLE {quote(stage)}.{quote(table.name)} TO {at}",
                ]
        await self.ledger.run(moves)

    async def _mended(self, table: Table, stage: str) -> dict[str, list[int]]:
        """Let every worker have all rows of a table, staged or, after a run that was cut short, in its place already."""
        places: dict[str, list[int]] = {stage: [], self.base.name: []}
        lacking = []
        for worker in self.ledger.workers:
            for database, good in places.items():
                if (await self.ledger.stored(worker, database)).get(table.name) == table.rows:
                    good.append(worker)
                    break
            else:
                lacking.append(worker)
        place = next((one for one, good in places.items() if good), None)
        if lacking and place is None:
            raise NotNow(
                f"transaction {self.number}: no worker that answers has all rows of table '{table.name}'; start the others, "
                f"or abort it (skyshard ingest --abort {self.number}) and begin anew"
            )
        at = place or stage
        content = Content.of(self.base.name, [table], {})
        copier = Copier(self.ledger.agents, content)
        for worker in lacking:
            item = content.whole_item(table.name, at, table.rows)
            try:
                await copier.whole(worker, places[at][0], table, item)
            except CopyFailed as error:
                raise NotNow(f"transaction {self.number}: {error}") from error
            places[at].append(worker)
        return places

    async def _at_home(self, tables: Sequence[Table]) -> None:
        stage, at = stage_name(self.number), f"{quote(INDEX_DATABASE)}."
        for table in tables:
            if table.kind is Kind.DIRECTOR:
                index = at + quote(index_table(self.base.name, table.name))
                await self.home.run(
                    f"CREATE TABLE IF NOT EXISTS {index} LIKE {at}{quote(index_table(stage, table.name))}"
                )
        there = await self._names(stage)
        for table in tables:
            if table.name not in there:
                continue
            staged, moves = f"{quote(stage)}.{quote(table.name)}", {table.name: table.name}
            if _comes_empty(table):
                empty = f"{quote(stage)}.{quote(table.name + _EMPTY)}"
                await self.home.run(f"DROP TABLE IF EXISTS {empty}")
                await self.home.run(f"CREATE TABLE {empty} LIKE {staged}")
                moves = {table.name: table.name + _ROWS, table.name + _EMPTY: table.name}
            await self._renamed(table, moves)

    async def _renamed(self, table: Table, moves: Mapping[str, str]) -> None:
        """Rename staged tables by one statement; what becomes `table` is then in the database."""
        stage = stage_name(self.number)
        listed = (
            f"{quote(stage)}.{quote(old)} TO {quote(self.base.name if new == table.name else stage)}.{quote(new)}"
            for old, new in moves.items()
        )
        await self.home.run(f"RENAME TABLE {', '.join(listed)}")

    async def _names(self, database: str) -> set[str]:
        """Return the tables and views of a database at home."""
        found = await self.home.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)}"
        )
        return {(row[0] or b"").decode() for row in found}

    async def check_free(self, tables: Sequence[Table]) -> None:
        """Refuse to put tables into the database where users have made their own of these names since.

        Raises
        ------
        UserError
            Naming the first.
        """
        if not tables:
            return
        staged = await self._names(stage_name(self.number))
        here = {name.lower() for name in await self._names(self.base.name)}
        for table in tables:
            if table.name in staged and table.name.lower() in here:
                raise UserError(
                    f"'{self.base.name}.{table.name}' is a user's table or view; drop or rename it, and run this again, or "
                    f"abort transaction {self.number} (skyshard ingest --abort {self.number})"
                )

    async def show(self, table: Table) -> None:
        """Put the rows of a replicated table into it at home; part of the transaction that makes them visible."""
        if not _comes_empty(table):
            return
        listed = ", ".join(quote(column.name) for column in table.columns)
        await self.home.run(
            f"{ANY_VALUE}INSERT INTO {quote(self.base.name)}.{quote(table.name)} ({listed}) "
            f"SELECT {listed} FROM {quote(stage_name(self.number))}.{quote(table.name + _ROWS)}"
        )

    async def hide(self, table: Table) -> None:
        """Take the rows of a replicated table out of it at home; part of the transaction that takes them back."""
        if _comes_empty(table):
            await self.home.run(f"DELETE FROM {quote(self.base.name)}.{quote(table.name)}")

    async def drop(self, tables: Sequence[Table]) -> None:
        """Drop the tables everywhere; at home only what `make` has put there."""
        if not tables:
            return
        name, stage = quote(self.base.name), stage_name(self.number)
        staged = await self._names(stage)
        was_made = await self._is_there(stage)  # it goes after this: what has its name later is a user's
        for table in tables:
            if was_made and table.name not in staged:
                await self.home.run(f"DROP TABLE IF EXISTS {name}.{quote(table.name)}")
            index = index_table(self.base.name, table.name)
            await self.home.run(f"DROP TABLE IF EXISTS {quote(INDEX_DATABASE)}.{quote(index)}")
        stems = stems_of(tables)
        whole = {table.name for table in tables if not table.is_sharded}
        jobs: dict[int, list[str]] = {}
        for worker, names in (await self.ledger.tables(self.base.name)).items():
            gone = sorted((one for one in names if one in whole or stem(one) in stems), key=len, reverse=True)
            jobs[worker] = [f"DROP TABLE IF EXISTS {name}.{quote(one)}" for one in gone]  # unions first
        await self.ledger.run(jobs)

    async def _is_there(self, database: str) -> bool:
        """Whether there is a database at home."""
        return bool(
            await self.home.fetch(
                f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(database)}"
            )
        )


def _comes_empty(table: Table) -> bool:
    """Whether a table gets its rows at home in the transaction that makes them visible: one that InnoDB can hold."""
    return not table.is_sharded and ddl.home_engine(table) == "InnoDB"


def stems_of(tables: Sequence[Table]) -> set[str]:
    """Return what the names of tables' chunk tables begin with."""
    return {
        namer(table.name, 0).rpartition("_")[0]
        for table in tables
        if table.is_sharded
        for namer in namers(table)
    }
