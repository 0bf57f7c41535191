"""Replicated tables that a statement reads at home must be in the state that it was planned with.

On workers every state of such a table has a name of its own; at home there is only the present one, which changes in the
moment of a commit. A query that reads it there beside rows of workers is refused if it was planned before that: its
answer would belong to no state. Statements that read nothing but replicated tables never come here, they are one
statement of one server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.request import Request
from shard.catalog.model import Kind
from shard.catalog.naming import META_DATABASE, literal, quote
from shard.catalog.routines import CHANGED_OF, changed_in
from shard.errors import CATALOGUE_CHANGED, SkyError
from shard.planner.plan import Plan

MOST_AT_HOME = 16
"""Connections at once that look, and as many that keep commits waiting while a statement changes rows."""
_Place = tuple[str, str]
"""A database and a table of it."""


class ReplicatedAtHome:
    """Looks at the states of replicated tables at home.

    Parameters
    ----------
    pool : Pool
        Connections to the home server.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # These are held as long as a client's statement runs, and wait for its locks: whoever only looks must not wait.
        self._keeping = pool.sibling(MOST_AT_HOME)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()
        await self._keeping.close()

    async def check(self, request: Request) -> None:
        """Fail a query that has read replicated tables at home in another state than that which it was planned with.

        What ran on the session's own connection in an open transaction has read the state that this transaction sees;
        everything else has read the present one.

        Raises
        ------
        SkyError
            1412.
        """
        named, behind = _named(request), _behind_views(request)
        if request.session.home.in_transaction:
            seen = {**named, **behind} if _is_in_session(request) else behind
            if seen:
                async with self._pool.lease() as connection:
                    numbers = await _numbers(connection, seen)
                asked = "SELECT " + ", ".join(f"{CHANGED_OF}({number})" for number in numbers)
                found = await request.session.home.table(asked.encode(*request.settings.encoding))
                _same(seen, found.rows)
            wanted = {} if _is_in_session(request) else named
        else:
            wanted = {**named, **behind}
        if wanted:
            async with self._pool.lease() as connection:
                await _compare(connection, wanted)

    @asynccontextmanager
    async def kept(self, request: Request) -> AsyncIterator[None]:
        """Keep the replicated tables that a statement reads at home as they are, where rows cannot be taken back."""
        wanted = {**_named(request), **_behind_views(request)}
        if not wanted:
            yield
            return
        await self.check(request)
        async with self._keeping.lease() as connection:
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


def _named(request: Request) -> dict[_Place, int]:
    """Return the replicated tables that a plan's statements at home read → when their rows last changed, as it was planned."""
    texts = _texts_at_home(request.plan)
    return {
        (shadow.database, shadow.table.name): shadow.table.changed
        for shadow in request.shadows
        if shadow.table.kind is Kind.REPLICATED
        and any(quote(shadow.table.name)[1:-1] in text for text in texts)
    }


def _behind_views(request: Request) -> dict[_Place, int]:
    """Return those that users' own views may read, whose text is not known here: all there are.

    Own tables are read by the session's own connection alone, also those that are sent to the workers.
    """
    if not any(shadow.table.is_view for shadow in request.shadows):
        return {}
    return {
        (database.name, table.name): table.changed
        for database in request.contents.databases.values()
        for table in database.tables
        if table.kind is Kind.REPLICATED
    }


def _is_in_session(request: Request) -> bool:
    """Whether a query's statements at home run on the session's own connection."""
    gather = request.plan.gather
    return request.envelope is not None or request.change is not None or (gather is not None and gather.own)


async def _numbers(connection: RawConnection, places: Iterable[_Place]) -> list[int]:
    """Return the numbers of tables in the metadata; 0 for one that is no more published."""
    meta, wanted = quote(META_DATABASE), list(places)
    listed = ", ".join(f"({literal(database)}, {literal(table)})" for database, table in wanted)
    found = {
        (database, table): int(number)
        for database, table, number in await connection.fetch_texts(
            f"SELECT d.name, t.name, t.table_id FROM {meta}.`tables` t JOIN {meta}.`databases` d ON d.db_id = t.db_id "
            f"WHERE d.state = 'published' AND (d.name, t.name) IN ({listed})"
        )
    }
    return [found.get(place, 0) for place in wanted]


async def _compare(connection: RawConnection, wanted: Mapping[_Place, int]) -> None:
    """Fail if rows of replicated tables have come or gone since a query was planned."""
    asked = ", ".join(f"({changed_in(literal(database), literal(table))})" for database, table in wanted)
    _same(wanted, await connection.fetch(f"SELECT {asked}"))


def _same(wanted: Mapping[_Place, int], found: Sequence[Sequence[bytes | None]]) -> None:
    for ((database, _), planned), now in zip(wanted.items(), found[0], strict=True):
        if now is None or int(now) != planned:
            raise SkyError(CATALOGUE_CHANGED, database=database)
