"""Replicated tables that a statement reads at home must be in the state that it was planned with.

On workers every state of such a table has a name of its own; at home there is only the present one, which changes in the
moment of a commit. A query that reads it there beside rows of workers is refused if it was planned before that: its
answer would belong to no state. Statements that read nothing but replicated tables never come here, they are one
statement of one server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.request import Request
from shard.catalog.model import Kind
from shard.catalog.naming import META_DATABASE, literal, quote
from shard.catalog.routines import CHANGED_IN, changed_in
from shard.errors import CATALOGUE_CHANGED, SkyError
from shard.planner.plan import Plan

MOST_AT_HOME = 16
"""Connections at once that look, or keep commits waiting while a statement changes rows."""


class ReplicatedAtHome:
    """Looks at the states of replicated tables at home.

    Parameters
    ----------
    pool : Pool
        Connections to the home server.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    @staticmethod
    def _wanted(request: Request) -> dict[tuple[str, str], int]:
        """Return the replicated tables that a query may read at home → when their rows last changed, as it was planned.

        What lies behind a user's own table, if it is a view, is not known here: any replicated table may.
        """
        texts = _texts_at_home(request.plan)
        out = {
            (shadow.database, shadow.table.name): shadow.table.changed
            for shadow in request.shadows
            if shadow.table.kind is Kind.REPLICATED
            and any(quote(shadow.table.name)[1:-1] in text for text in texts)
        }
        if any(shadow.table.kind is Kind.OWN for shadow in request.shadows):
            out |= {
                (database.name, table.name): table.changed
                for database in request.contents.databases.values()
                for table in database.tables
                if table.kind is Kind.REPLICATED
            }
        return out

    async def check(self, request: Request) -> None:
        """Fail a query that has read replicated tables at home, unless these are what it was planned with.

        On workers every state of such a table has a name of its own; at home there is only the present one. In an
        open transaction the session may see an earlier one.
        """
        wanted = self._wanted(request)
        if not wanted:
            return
        if request.session.home.in_transaction:
            for (database, table), planned in wanted.items():
                asked = f"SELECT {CHANGED_IN}({literal(database)}, {literal(table)})"
                found = await request.session.home.table(asked.encode(*request.settings.encoding))
                _same(database, planned, found.rows)
            return
        async with self._pool.lease() as connection:
            await _compare(connection, wanted)

    @asynccontextmanager
    async def kept(self, request: Request) -> AsyncIterator[None]:
        """Keep the replicated tables that a statement reads at home as they are, where rows cannot be taken back."""
        wanted = self._wanted(request)
        if not wanted:
            yield
            return
        await self.check(request)
        async with self._pool.lease() as connection:
            await connection.run("START TRANSACTION")
            try:
                names = ", ".join(literal(name) for name in sorted({database for database, _ in wanted}))
                await connection.fetch(
                    f"SELECT 1 FROM {quote(META_DATABASE)}.`databases` WHERE name IN ({names}) LOCK IN SHARE MODE"
                )
                await _compare(connection, wanted)
                yield
            finally:
                if not connection.busy and not connection.closed:
                    await connection.run("ROLLBACK")


def _texts_at_home(plan: Plan) -> list[str]:
    """Return the statements that a plan runs at home over more than empty tables."""
    out = [] if plan.merge is None else [plan.merge.statement.text]
    if plan.gather is not None:
        out.append(plan.gather.statement.text)
        out += [text for part in plan.gather.parts for text in _texts_at_home(part.plan)]
    return out


async def _compare(connection: RawConnection, wanted: Mapping[tuple[str, str], int]) -> None:
    """Fail if rows of replicated tables have come or gone since a query was planned."""
    for (database, table), planned in wanted.items():
        found = await connection.fetch(changed_in(literal(database), literal(table)))
        _same(database, planned, found)


def _same(database: str, planned: int, found: Sequence[Sequence[bytes | None]]) -> None:
    if not found or found[0][0] is None or int(found[0][0]) != planned:
        raise SkyError(CATALOGUE_CHANGED, database=database)
