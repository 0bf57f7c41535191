"""Transactions: rows that come to a published database all at once, or not at all.

The rows of transaction N are loaded into databases ``skyshard_stage_N``, as those of any ingest; no query reads these.
A commit makes, for every chunk that gets rows, tables ``Object_6630_S`` (S: the number of the commit) that are unions
of what the chunk was and what it gets, by MariaDB's MERGE engine: no row is copied. Then one transaction on the metadata
says that chunk 6630 is in state S, how many rows there are, and raises the catalogue's version. A query reads to its
end what it was planned with, so it sees everything that is committed, or nothing of it; what is undone is undone
in the same way. Only `consolidate` copies rows: it makes plain tables of the unions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Kind, Partitioning, Table
from shard.catalog.naming import (
    META_DATABASE,
    literal,
    overlap_table,
    quote,
)
from shard.catalog.traps import INGEST_LOCK
from skyshard.errors import NotNow, UserError

META = quote(META_DATABASE)
LOCK_S = 5
"""Seconds to wait for a lock: a server takes a moment to see that a killed run is gone."""
LONGEST_NAME = 64 - len(overlap_table("", 9_999_999, 9_999_999))
"""Characters of the name of a table that can get rows: behind it stand a chunk and a commit."""


class ChunkRows(NamedTuple):
    """Rows of a table in a chunk, and in the chunk's overlap."""

    rows: int
    overlap: int


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows of a transaction say of a table; `table` is its definition, if the transaction brings the table."""

    rows: int
    table: Table | None = None
    key_spans_chunks: bool = False
    null_keys: bool = False
    wide_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A published database, as a transaction finds it.

    Attributes
    ----------
    holders : mapping
        Chunk → workers with a good copy.
    states : mapping
        Chunk → state, of those that are not as they were published.
    replicas : int
        Wanted copies of a chunk.
    """

    db_id: int
    name: str
    partitioning: Partitioning
    replicas: int
    tables: tuple[Table, ...]
    holders: Mapping[int, tuple[int, ...]]
    states: Mapping[int, int]

    @property
    def sharded(self) -> list[Table]:
        """The tables that are split by chunk."""
        return [table for table in self.tables if table.is_sharded]

    def table(self, name: str) -> Table | None:
        """Return a table, or None."""
        return next((table for table in self.tables if table.name == name), None)

    def with_tables(self, tables: Iterable[Table]) -> Published:
        """Return the database with new tables, which are empty."""
        return replace(self, tables=(*self.tables, *(msgspec.structs.replace(one, rows=0) for one in tables)))


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as the metadata have it; `seen` is the last commit when its rows were looked at."""

    number: int
    database: str
    state: str
    commit: int
    seen: int
    owner: str
    detail: str
    started: str
    fingerprint: str = ""
    tables: tuple[str, ...] = field(default=())


async def published(home: RawConnection, name: str) -> Published:
    """Return a published database.

    Raises
    ------
    UserError
        If there is none.
    """
    found = await home.fetch_texts(
        "SELECT db_id, stripes, sub_stripes, overlap_deg, replicas FROM "
        f"{META}.`databases` WHERE name = {literal(name)} AND state = 'published'"
    )
    if not found:
        raise UserError(f"there is no published database '{name}'")
    db_id = int(found[0][0])
    grid = Partitioning(
        stripes=int(found[0][1]),
        sub_stripes=int(found[0][2]),
        overlap_deg=float(found[0][3]),
    )
    rows = await home.fetch_texts(
        f"SELECT definition FROM {META}.`tables` WHERE db_id = {db_id} ORDER BY table_id"
    )
    tables = tuple(msgspec.json.decode(row[0], type=Table) for row in rows)
    holders: dict[int, tuple[int, ...]] = {}
    for chunk, worker, state in await home.fetch_texts(
        f"SELECT chunk_id, worker_id, state FROM {META}.chunk_replicas WHERE db_id = {db_id} ORDER BY worker_id"
    ):
        held = holders.setdefault(int(chunk), ())
        if state == "ok":
            holders[int(chunk)] = (*held, int(worker))
    states = {
        int(chunk): int(state)
        for chunk, state in await home.fetch_texts(
            f"SELECT chunk_id, state_no FROM {META}.chunk_states WHERE db_id = {db_id}"
        )
    }
    return Published(db_id, name, grid, int(found[0][4]), tables, holders, states)


async def transactions(home: RawConnection, where: str) -> list[Transaction]:
    """Return transactions, the first commit first, those that are open last."""
    rows = await home.fetch_texts(
        "SELECT i.ingest_id, i.db_name, i.state, i.commit_no, i.seen, i.owner, i.detail, i.started_at, i.fingerprint, "
        f"(SELECT GROUP_CONCAT(t.name ORDER BY t.name SEPARATOR '/') FROM {META}.ingest_tables t "
        f"WHERE t.ingest_id = i.ingest_id) FROM {META}.ingests i WHERE {where} "
        "ORDER BY i.commit_no IS NULL, i.commit_no, i.ingest_id"
    )
    return [
        Transaction(
            int(r[0]), r[1], r[2], int(r[3] or 0), int(r[4]), r[5],
            r[6], r[7], r[8], tuple(filter(None, r[9].split("/"))),
        )
        for r in rows
    ]  # fmt: skip


async def whole_rows(home: RawConnection, numbers: Iterable[int]) -> dict[int, dict[str, int]]:
    """Return transaction → replicated table → rows that it adds; tables that it brings are not among them."""
    listed = ", ".join(map(str, numbers)) or "0"
    out: dict[int, dict[str, int]] = {}
    for number, name, learned in await home.fetch_texts(
        f"SELECT ingest_id, name, learned FROM {META}.ingest_tables WHERE ingest_id IN ({listed}) "
        f"AND kind = '{Kind.REPLICATED.value}' AND state = 'loaded'"
    ):
        facts = msgspec.json.decode(learned, type=Learned)
        if facts.table is None:
            out.setdefault(int(number), {})[name] = facts.rows
    return out


IS_TRANSACTION = "i.state NOT IN ('running','publishing','published','failed','abandoned')"


async def find(home: RawConnection, number: int) -> Transaction:
    """Return one transaction.

    Raises
    ------
    UserError
        If there is none of that number.
    """
    found = await transactions(home, f"i.fingerprint <> '' AND i.ingest_id = {number}")
    if not found:
        raise UserError(f"there is no transaction {number}")
    return found[0]


async def lock(home: RawConnection, name: str, busy: str, wait_s: int = LOCK_S) -> None:
    """Take a lock that lasts as long as the connection.

    Raises
    ------
    NotNow
        With the text `busy`, if somebody else has it.
    """
    if (await home.fetch_texts(f"SELECT GET_LOCK({literal(name[:64])}, {wait_s})"))[0][0] != "1":
        raise NotNow(busy)


async def lock_database(home: RawConnection, database: str, wait_s: int = LOCK_S) -> None:
    """Keep others from changing a database's tables."""
    name = INGEST_LOCK.format(database=database)
    await lock(home, name, f"another ingest, drop or repair of database '{database}' is running", wait_s)


async def unlock_database(home: RawConnection, database: str) -> None:
    """Give the database's lock back."""
    await home.run(f"DO RELEASE_LOCK({literal(INGEST_LOCK.format(database=database)[:64])})")


async def lock_transaction(home: RawConnection, number: int) -> None:
    """Keep others from working on a transaction."""
    await lock(home, f"skyshard transaction {number}", f"another command works on transaction {number}")
