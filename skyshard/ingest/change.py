"""What commits and consolidations work with: one database, whose lock is held, on the workers that answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Table, whole_name
from shard.catalog.naming import TEMPLATE_CHUNK, literal, namers
from shard.catalog.timing import GRACE_S
from shard.errors import ServerError
from skyshard.errors import NotNow
from skyshard.ingest.debts import pay
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.transactions import META, Published, Transaction, transactions

CLIENT_S = 4
"""Seconds to wait for rows at home that a client's transaction has locked."""
TRIES = 3
_LOCKED = 1205
VISIBLE = ("committed", "consolidating")
"""States of transactions whose rows are visible, and have not all been consolidated."""


@dataclass(frozen=True, slots=True)
class Change:
    """Changes what is visible of one database; its lock must be held.

    Attributes
    ----------
    grace_s : float
        Seconds that queries which began before get to end, when tables that they read are dropped.
    away : mapping
        Workers that do not answer → their names. Rows and tables come and go without them, if others have all chunks.
    """

    home: RawConnection
    ledger: Ledger
    database: str
    grace_s: float = GRACE_S
    away: Mapping[int, str] = field(default_factory=dict)

    def there(self, base: Published) -> dict[int, tuple[int, ...]]:
        """Return chunk → workers that have a good copy and answer."""
        there = set(self.ledger.workers)
        return {
            chunk: tuple(worker for worker in ids if worker in there) for chunk, ids in base.holders.items()
        }

    def members(self, base: Published) -> set[int]:
        """Return the workers that have a good copy of a chunk and answer: queries read tables of no others."""
        return {worker for ids in self.there(base).values() for worker in ids}

    async def equipped(self, base: Published) -> set[int]:
        """Return the members; of a database without chunks, those that have its tables, which one added since has not."""
        if base.holders:
            return self.members(base)
        wanted = {namer(table.name, TEMPLATE_CHUNK) for table in base.sharded for namer in namers(table)} | {
            whole_name(table.name, table.state) for table in base.tables if not table.is_sharded
        }
        return {worker for worker, names in (await self.ledger.names(base.name)).items() if wanted <= names}

    async def need_tables(self, base: Published, chunks: Iterable[int]) -> None:
        """Refuse to change chunks of which a worker lacks the tables that it should have, as with another disk.

        Raises
        ------
        NotNow
            Naming the worker.
        """
        there, names = self.there(base), await self.ledger.names(base.name)
        for chunk in chunks:
            for table in base.sharded:
                for namer in namers(table):
                    name = namer(table.name, chunk)
                    for worker in there.get(chunk, ()):
                        if name not in names[worker]:
                            whole = any(name in names[other] for other in there[chunk])
                            raise NotNow(
                                f"{self.ledger.agents.name(worker)} has no table {name} of database '{base.name}' any more; "
                                + self.mended(base, base.holders[chunk], whole)
                            )

    def mended(self, base: Published, holders: Iterable[int], whole: bool) -> str:
        """Return what to do about a damaged copy of which some workers should have others, and one of these is `whole`."""
        if whole:
            return f"run 'skyshard repair {base.name}', and this again"
        if away := next((worker for worker in holders if worker in self.away), None):
            return f"{self.away[away]}, which does not answer, may have it: start it, and run this again"
        return (
            "nobody else has a copy: these rows are lost; put a backup in the database's place (skyshard catalog restore "
            "--replace), or ingest it anew (skyshard ingest --replace)"
        )

    def concerned(
        self, base: Published, chunks: Iterable[int], everywhere: bool, way_out: str = ""
    ) -> list[int]:
        """Return the chunks whose copies on workers that are away will be wrong.

        A worker that misses a table, or rows of a replicated one, is of no use for any chunk (`everywhere`).

        Raises
        ------
        NotNow
            If nobody who answers has a copy of one.
        """
        found = sorted({*chunks, *base.holders}) if everywhere and self.away else list(chunks)
        self.need_one_of_each(base, found, way_out)
        return found

    def need_one_of_each(self, base: Published, chunks: Iterable[int], way_out: str = "") -> None:
        """Refuse to change chunks of which nobody who answers has a copy; `way_out`: what else can be done then."""
        there = self.there(base)
        for chunk in chunks:
            if chunk in there and not there[chunk]:
                held = next((worker for worker in base.holders[chunk] if worker in self.away), None)
                if held is None:
                    raise NotNow(
                        f"nobody has a good copy of chunk {chunk}; run 'skyshard repair {base.name}'"
                    )
                raise NotNow(
                    f"{self.away[held]} does not answer, and nobody else has chunk {chunk} of database '{base.name}'; start "
                    f"it, and run this again{way_out}"
                )

    async def catch_up(self) -> None:
        """Let workers that were away drop what they still owe; must be the first thing that is done to the database."""
        await pay(self.home, self.ledger.agents, self.database, self.ledger.workers)

    @asynccontextmanager
    async def _in_one(self) -> AsyncIterator[None]:
        """Run a block as one transaction at home."""
        await self.home.run("START TRANSACTION")
        await self.home.run(f"SET SESSION innodb_lock_wait_timeout = {CLIENT_S}")
        try:
            yield
            await self.home.run("COMMIT")
        finally:
            if not self.home.busy and not self.home.closed:
                await self.home.run("ROLLBACK")  # of what failed
                await self.home.run("SET SESSION innodb_lock_wait_timeout = DEFAULT")

    async def at_once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what makes rows visible, or invisible, in one transaction at home.

        Rows of replicated tables at home can be locked by clients' open transactions. Each try waits a little for these,
        and lets go of everything in between, since other clients wait for what it has changed already.

        Raises
        ------
        NotNow
            If they are still locked after some tries; nothing has changed then.
        """
        for left in reversed(range(TRIES)):
            try:
                async with self._in_one():
                    await work()
            except ServerError as error:
                if error.errno != _LOCKED:
                    raise
                if not left:
                    raise NotNow(
                        f"database '{self.database}': an open transaction of a client holds rows of a replicated table at "
                        "home; nothing has changed; run this again when it has ended"
                    ) from error
            else:
                return

    async def visible(self) -> list[Transaction]:
        """Return the transactions whose rows are visible and not consolidated, the first commit first."""
        states = ", ".join(map(literal, VISIBLE))
        return await transactions(
            self.home, f"i.db_name = {literal(self.database)} AND i.state IN ({states})"
        )

    # the metadata of tables ------------------------------------------------------------------------

    async def define(self, base: Published, table: Table) -> None:
        """Write a table's new definition and row count into the metadata."""
        await self.home.run(
            f"UPDATE {META}.`tables` SET definition = 0x{msgspec.json.encode(table).hex()}, row_count = {table.rows} "
            f"WHERE db_id = {base.db_id} AND name = {literal(table.name)}"
        )

    async def table_ids(self, base: Published) -> dict[str, int]:
        """Return the numbers of a database's tables."""
        rows = await self.home.fetch_texts(
            f"SELECT name, table_id FROM {META}.`tables` WHERE db_id = {base.db_id}"
        )
        return {name: int(number) for name, number in rows}
