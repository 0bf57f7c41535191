"""What workers that were away have still to drop, so that others need not wait for them.

An abort, undo or consolidation goes on without a worker that does not answer: its copies of the chunks that change are
out of use from the same moment, and what it would have dropped is written down at home. Nobody may use names of a
database on a worker before its debts are paid, so whoever changes or repairs the database pays them first, under the
database's lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog.naming import literal, quote, stage_name
from skyshard.ingest.transactions import META

_OVER = (
    "aborting", "aborted", "undoing", "undone", "consolidating", "consolidated", "abandoned", "failed", "dropped"
)  # fmt: skip
"""States of ingests whose own databases nobody reads any more; one that was to be aborted may have been published."""
_NUMBERS = re.compile(r"(?:_\d+)+$")


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has still to drop.

    Attributes
    ----------
    db_id : int
        The database that the tables are in: one that has come into its place has nothing to do with them.
    tables, stems : tuple of str
        Tables of the database, and tables with these names and numbers behind them.
    stages : tuple of int
        Ingests whose own databases go, if they have been taken back or are consolidated by the time that it is paid.
    """

    db_id: int
    tables: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    stages: tuple[int, ...] = ()


def stem(name: str) -> str:
    """Return a chunk table's name without chunk and state."""
    return _NUMBERS.sub("", name)


async def owe(home: RawConnection, database: str, workers: Iterable[int], debt: Debt) -> None:
    """Write down what workers have to drop when they are back."""
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
    if debt.stages:
        names = [row[0] or "" for row in await agents.admin(worker, ["SHOW DATABASES"])]
        for number in debt.stages:
            stage = stage_name(number)
            drops += [
                f"DROP DATABASE IF EXISTS {quote(name)}"
                for name in names
                if name == stage or name.startswith(f"{stage}_")
            ]
    if drops:
        await agents.admin(worker, drops)
