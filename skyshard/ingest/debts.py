"""What workers that were away have still to drop, so that others need not wait for them.

An abort, undo or consolidation goes on without a worker that does not answer: its copies of the chunks that change are
out of use from the same moment, and what it would have dropped is written down at home. So it is when a database is
dropped or replaced, an ingest is given up, or a worker is removed that does not answer, and comes back one day. Nobody may
use names of a database on a worker before its debts are paid, so whoever changes or repairs the database pays them first,
under the database's lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog.naming import literal, quote, stage_name
from shard.errors import SkyError
from skyshard.errors import NotNow
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.transactions import META, lock_database, unlock_database

_OVER = (
    "aborting", "aborted", "undoing", "undone", "consolidating", "consolidated", "abandoned", "failed", "dropped",
    "published",
)  # fmt: skip
"""States of ingests whose own databases nobody reads any more; what was to be aborted may have been committed."""
_NUMBERS = re.compile(r"(?:_\d+)+$")


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has still to drop.

    Attributes
    ----------
    db_id : int
        The database that the tables are in: one that has come into its place has nothing to do with them.
    tables, stems : tuple of str
        Tables of the database, and tables with these names and numbers behind them.
    staged : tuple of (str, str)
        Tables of the database's transactions, and where they are.
    stages : tuple of int
        Ingests whose own databases go, if they have been taken back or are consolidated by the time that it is paid.
    databases : tuple of str
        Databases that go whatever has come into their place: the worker has no part in that.
    """

    db_id: int
    tables: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    staged: tuple[tuple[str, str], ...] = ()
    stages: tuple[int, ...] = ()
    databases: tuple[str, ...] = ()


def stem(name: str) -> str:
    """Return a chunk table's name without chunk and state."""
    return _NUMBERS.sub("", name)


async def owe(home: RawConnection, database: str, workers: Iterable[int], debt: Debt) -> None:
    """Write down what workers that are away have to drop once they are back."""
    for worker in workers:
        await home.run(
            f"INSERT INTO {META}.worker_debts (worker_id, db_name, debt) VALUES "
            f"({worker}, {literal(database)}, 0x{msgspec.json.encode(debt).hex()})"
        )


async def pay(home: RawConnection, agents: AgentPool, database: str, workers: Iterable[int]) -> int:
    """Let workers that are back drop what they had to; return how many debts there were. The database's lock must be held."""
    listed = ", ".join(map(str, sorted(workers))) or "0"
    rows = await home.fetch(
        f"SELECT debt_id, worker_id, debt FROM {META}.worker_debts WHERE db_name = {literal(database)} "
        f"AND worker_id IN ({listed}) ORDER BY debt_id"
    )
    found = (
        await home.fetch(f"SELECT db_id FROM {META}.`databases` WHERE name = {literal(database)}")
        if rows
        else []
    )
    db_id = int(found[0][0] or b"0") if found else 0
    for number, worker, text in rows:
        debt = msgspec.json.decode(text or b"", type=Debt)
        debt = msgspec.structs.replace(debt, stages=await _over(home, debt.stages))
        await _pay(agents, int(worker or b"0"), database, debt, debt.db_id == db_id)
        await home.run(f"DELETE FROM {META}.worker_debts WHERE debt_id = {int(number or b'0')}")
    return len(rows)


async def payers(
    home: RawConnection, agents: AgentPool, database: str, workers: Iterable[int], say: Callable[[str], None]
) -> set[int]:
    """Let workers that are back drop what they had to; return those that owe nothing any more.

    One that cannot (a directory that is not empty, a server that goes meanwhile) is told of, and is no reason to do nothing
    on the others; it is to be taken for one that is away.
    """
    good = set()
    for worker in sorted(workers):
        try:
            await pay(home, agents, database, [worker])
        except SkyError as error:
            say(f"database '{database}': {agents.name(worker)} cannot drop what it has to: {error}")
        else:
            good.add(worker)
    return good


async def settle(
    home: RawConnection, agents: AgentPool, workers: Iterable[int], say: Callable[[str], None]
) -> None:
    """Let workers that are back pay for all databases, published or not, that nobody works on; `say` what cannot be paid.

    Those of others are paid by whoever works there, or next time.
    """
    listed = ", ".join(map(str, sorted(workers))) or "0"
    names = await home.fetch_texts(
        f"SELECT DISTINCT db_name FROM {META}.worker_debts WHERE worker_id IN ({listed}) ORDER BY 1"
    )
    for (name,) in names:
        try:
            await lock_database(home, name, 0)
        except NotNow:
            continue
        try:
            await payers(home, agents, name, workers, say)
        finally:
            if not home.busy and not home.closed:
                await unlock_database(home, name)


async def drop_forgotten(
    home: RawConnection, agents: AgentPool, workers: Sequence[int], database: str, away: Iterable[int] = ()
) -> None:
    """Drop the rows of transactions that went with their database; workers that are away do so later."""
    rows = await home.fetch(
        f"SELECT ingest_id FROM {META}.ingests i WHERE db_name = {literal(database)} AND state = 'dropped' "
        f"AND EXISTS (SELECT 1 FROM {META}.ingest_tables t WHERE t.ingest_id = i.ingest_id)"
    )
    ledger = Ledger(home, agents, workers)
    for (value,) in rows:
        number = int(value or b"0")
        await owe(home, database, away, Debt(db_id=0, stages=(number,)))
        await ledger.drop_rows(number)
        await ledger.forget(number, "dropped")


async def _over(home: RawConnection, numbers: Iterable[int]) -> tuple[int, ...]:
    """Return those of some ingests whose databases can go."""
    listed, states = ", ".join(map(str, numbers)) or "0", ", ".join(map(literal, _OVER))
    found = await home.fetch(
        f"SELECT ingest_id FROM {META}.ingests WHERE ingest_id IN ({listed}) AND state IN ({states})"
    )
    return tuple(int(row[0] or b"0") for row in found)


async def _pay(agents: AgentPool, worker: int, database: str, debt: Debt, is_same: bool) -> None:
    drops = []
    if is_same and (debt.tables or debt.stems):
        sql = f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)}"
        here = {row[0] or "" for row in await agents.admin(worker, [sql])}
        gone = {name for name in here if stem(name) in debt.stems} | here.intersection(debt.tables)
        drops += [  # unions first
            f"DROP TABLE IF EXISTS {quote(database)}.{quote(name)}"
            for name in sorted(gone, key=len, reverse=True)
        ]
    if is_same:
        drops += [f"DROP TABLE IF EXISTS {quote(place)}.{quote(name)}" for place, name in debt.staged]
    if debt.stages:
        names = [row[0] or "" for row in await agents.admin(worker, ["SHOW DATABASES"])]
        for number in debt.stages:
            stage = stage_name(number)
            drops += [
                f"DROP DATABASE IF EXISTS {quote(name)}"
                for name in names
                if name == stage or name.startswith(f"{stage}_")
            ]
    drops += [f"DROP DATABASE IF EXISTS {quote(name)}" for name in debt.databases]
    if drops:
        await agents.admin(worker, drops)
