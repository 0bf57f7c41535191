"""Tables that come to a published database with a transaction.

Such a table is made empty for every chunk there is; its rows are then those of the transaction, like the rows of
any other. At home its trap, or the rows of a replicated one, come from where the transaction has made them by one
RENAME. All of it may be repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
from skyshard.errors import NotNow
from skyshard.ingest.debts import stem
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.transactions import Published
from skyshard.replicas.copy import Content, Copier, CopyFailed


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
        there = {
            (row[0] or b"").decode()
            for row in await self.home.fetch(
                f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(stage)}"
            )
        }
        moves = [
            f"{quote(stage)}.{quote(table.name)} TO {quote(self.base.name)}.{quote(table.name)}"
            for table in tables
            if table.name in there
        ]
        if moves:
            await self.home.run(f"RENAME TABLE {', '.join(moves)}")

    async def drop(self, tables: Sequence[Table]) -> None:
        """Drop the tables everywhere."""
        if not tables:
            return
        name = quote(self.base.name)
        for table in tables:
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


def stems_of(tables: Sequence[Table]) -> set[str]:
    """Return what the names of tables' chunk tables begin with."""
    return {
        namer(table.name, 0).rpartition("_")[0]
        for table in tables
        if table.is_sharded
        for namer in namers(table)
    }
