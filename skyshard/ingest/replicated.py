"""Rows that come to replicated tables with a transaction, and go with it.

On workers a replicated table has another name in every state, as chunks have: ``Filter$17`` is the union of ``Filter`` and
the rows of all committed transactions, and which one a query reads is in the catalogue that it was planned with. At home
statements name the table itself, so its rows change in the very transaction that changes the metadata (InnoDB); a query
that reads it there, and was planned before that, is refused
(`proxy.home.replicated.ReplicatedAtHome.check`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.model import Kind, Table, whole_name
from shard.catalog.naming import quote, stage_name
from skyshard.errors import NotNow, UserError
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.transactions import Learned, Published, Transaction, whole_rows
from skyshard.replicas.copy import Content, Copier, CopyFailed

ANY_VALUE = "SET STATEMENT sql_mode='' FOR "
"""Before what copies rows that have been stored already."""


@dataclass(frozen=True, slots=True)
class ReplicatedRows:
    """The rows of transactions in the replicated tables of one database."""

    home: RawConnection
    ledger: Ledger
    base: Published

    def of(self, learned: Mapping[str, Learned]) -> dict[str, int]:
        """Return published replicated table → rows that a transaction adds."""
        found = ((self.base.table(name), facts) for name, facts in learned.items())
        return {
            table.name: facts.rows
            for table, facts in found
            if table is not None and table.kind is Kind.REPLICATED and facts.table is None
        }

    async def make(
        self, one: Transaction, commit: int, rows: Mapping[str, int], visible: Sequence[int]
    ) -> None:
        """Make what a commit needs: the rows and the unions on every worker, and what an undo needs at home."""
        if not rows:
            return
        await self._everywhere(one, rows)
        await self.unions(dict.fromkeys(rows, commit), [*visible, one.number])
        for name in rows:
            kept, now = self._before(one.number, name), f"{quote(self.base.name)}.{quote(name)}"
            await self.home.run(f"DROP TABLE IF EXISTS {kept}")
            await self.home.run(f"CREATE TABLE {kept} LIKE {now}")
            await self.home.run(f"{ANY_VALUE}INSERT INTO {kept} SELECT * FROM {now}")

    @staticmethod
    def _before(number: int, name: str) -> str:
        """Return the table at home with the rows that were there before a transaction."""
        return f"{quote(stage_name(number))}.{quote(name + '$before')}"

    async def check(self, one: Transaction) -> None:
        """Compare what was loaded with what home and the workers have.

        Raises
        ------
        UserError
            Naming the first difference.
        """
        stage = stage_name(one.number)
        for name, rows in (await whole_rows(self.home, [one.number])).get(one.number, {}).items():
            found = await self.home.fetch(f"SELECT COUNT(*) FROM {quote(stage)}.{quote(name)}")
            home = int(found[0][0] or b"0")
            if home != rows:
                raise UserError(f"table '{name}': the home server has {home} of {rows} rows")
            if self.ledger.workers and not await self._good(stage, name, rows):
                raise NotNow(
                    f"transaction {one.number}: no worker that answers has all {rows} rows of table '{name}'; start the "
                    f"others, or abort it (skyshard ingest --abort {one.number}) and begin anew"
                )

    async def _good(self, stage: str, name: str, rows: int) -> list[int]:
        """Return the workers that have all of a transaction's rows."""
        return [
            worker
            for worker in self.ledger.workers
            if (await self.ledger.stored(worker, stage)).get(name) == rows
        ]

    async def _everywhere(self, one: Transaction, rows: Mapping[str, int]) -> None:
        """Give the rows to workers that were away while they were loaded, wholly or for a time."""
        stage, base = stage_name(one.number), self.base
        content = Content.of(base.name, base.tables, {})
        copier = Copier(self.ledger.agents, content)
        for name, count in rows.items():
            table, sources = base.table(name), await self._good(stage, name, count)
            if table is None or not self.ledger.workers:
                continue
            if not sources:
                raise NotNow(
                    f"transaction {one.number}: no worker that answers has its rows of table '{name}'; start the others, "
                    f"or abort it (skyshard ingest --abort {one.number}) and begin anew"
                )
            for worker in self.ledger.workers:
                if worker in sources:
                    continue
                try:
                    await copier.whole(worker, sources[0], table, content.whole_item(name, stage, count))
                except CopyFailed as error:
                    raise NotNow(f"transaction {one.number}: {error}") from error

    async def unions(self, states: Mapping[str, int], visible: Sequence[int]) -> None:
        """Make tables in new states, of their first rows and those of transactions; state 0 is the first table."""
        added = await whole_rows(self.home, visible)
        there = await self.ledger.tables(self.base.name)
        jobs: dict[int, list[str]] = defaultdict(list)
        for name, state in states.items():
            table = self.base.table(name)
            if table is None or not state:
                continue
            of = [(stage_name(number), name) for number in visible if name in added.get(number, {})]
            parts = [(self.base.name, name), *of]
            for worker, names in there.items():
                if name in names:
                    jobs[worker].append(
                        ddl.union(table.ddl, name, self.base.name, whole_name(name, state), parts)
                    )
        await self.ledger.run(jobs)

    async def show(self, one: Transaction, table: Table) -> None:
        """Put a transaction's rows into the table at home; runs in the transaction that makes them visible."""
        listed = ", ".join(quote(column.name) for column in table.columns)
        await self.home.run(
            f"{ANY_VALUE}INSERT INTO {quote(self.base.name)}.{quote(table.name)} ({listed}) "
            f"SELECT {listed} FROM {quote(stage_name(one.number))}.{quote(table.name)}"
        )

    async def hide(self, one: Transaction, table: Table) -> None:
        """Give the table at home the rows from before a transaction; runs in the transaction that takes its rows back."""
        now = f"{quote(self.base.name)}.{quote(table.name)}"
        await self.home.run(f"DELETE FROM {now}")
        await self.home.run(
            f"{ANY_VALUE}INSERT INTO {now} SELECT * FROM {self._before(one.number, table.name)}"
        )

    async def revision(self) -> int:
        """Return the revision of the database that the transaction which asks this makes."""
        rows = await self.home.fetch(
            f"SELECT revision + 1 FROM skyshard_meta.`databases` WHERE db_id = {self.base.db_id} FOR UPDATE"
        )
        return int(rows[0][0] or b"0")

    async def drop(self, names: Iterable[str], states: Iterable[int]) -> None:
        """Drop tables in some states on every worker."""
        listed = [state for state in states if state]
        await self.ledger.everywhere(
            [
                f"DROP TABLE IF EXISTS {quote(self.base.name)}.{quote(whole_name(name, state))}"
                for name in names
                for state in listed
            ]
        )


def check_can_grow(table: Table) -> None:
    """Refuse rows for a replicated table that cannot change at home in one transaction with the metadata.

    Raises
    ------
    UserError
        If it has so many columns that it is no InnoDB table.
    """
    if ddl.home_engine(table) != "InnoDB":
        raise UserError(
            f"table '{table.name}': rows cannot be added to a replicated table of {len(table.columns)} columns; "
            "publish the database anew with --replace"
        )
