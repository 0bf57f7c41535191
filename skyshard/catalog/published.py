"""What the metadata say of one published catalogue, read at one moment.

Commands that take long (check, backup, copy) read it when they begin and when they end: whoever changed the
catalogue meanwhile has changed `identity`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Partitioning, Table
from shard.catalog.naming import index_table, literal, stage_name
from skyshard.catalog.cluster import META
from skyshard.errors import UserError
from skyshard.ingest.transactions import IS_TRANSACTION, transactions, whole_rows
from skyshard.replicas.copy import Content, Counted

Namer = Callable[[str, int, int], str]
"""What names a table of a chunk in a state."""


@dataclass(frozen=True, slots=True)
class Published:
    """One catalogue.

    Attributes
    ----------
    db_id, version : int
        Its number in the metadata, and that of the ingest that made it.
    replicas : int
        Wanted copies of every chunk.
    copies : mapping
        (chunk, worker) → state of that copy: 'ok', 'loading' or 'stale'.
    identity : str
        Changes whenever rows or tables do; not when copies are made or taken away.
    commits : mapping
        Transaction → the number of its commit, of those that can be undone.
    """

    db_id: int
    version: int
    replicas: int
    partitioning: Partitioning
    content: Content
    copies: Mapping[tuple[int, int], str]
    identity: str
    commits: Mapping[int, int]

    @property
    def name(self) -> str:
        """The catalogue's name."""
        return self.content.database

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables, as the catalogue file lists them."""
        return self.content.tables

    def rows(self) -> Counted:
        """Return (table, chunk) → rows and rows of its overlap, those of transactions among them."""
        out = dict(self.content.rows)
        for counted in self.content.added.values():
            for place, (main, overlap) in counted.items():
                had = out.get(place, (0, 0))
                out[place] = had[0] + main, had[1] + overlap
        return out

    def stored(self, namer: Namer, table: str, chunk: int) -> str:
        """Return the table on workers that has all visible rows of a chunk, or of its overlap."""
        return namer(table, chunk, self.content.states.get(chunk, 0))

    def indexes(self, director: str) -> list[str]:
        """Return the tables at home that together are a director's index, if they exist."""
        return [index_table(name, director) for name in (self.name, *map(stage_name, self.content.added))]

    def holders(self) -> dict[int, list[int]]:
        """Return chunk → workers that have a copy in use."""
        out: dict[int, list[int]] = {}
        for (chunk, worker), state in sorted(self.copies.items()):
            held = out.setdefault(chunk, [])
            if state == "ok":
                held.append(worker)
        return out


async def read(home: RawConnection, database: str) -> Published:
    """Return what is published under a name.

    Raises
    ------
    UserError
        If nothing is, or a transaction is half done.
    """
    await home.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        return await _read(home, database)
    finally:
        if not home.busy and not home.closed:
            await home.run("COMMIT")


async def _read(home: RawConnection, database: str) -> Published:
    found = await home.fetch(
        "SELECT db_id, version, replicas, stripes, sub_stripes, overlap_deg "
        f"FROM {META}.`databases` WHERE name = {literal(database)} AND state = 'published'"
    )
    if not found:
        raise UserError(f"there is no published catalogue '{database}'")
    db_id, version, replicas, stripes, sub_stripes = (int(value or b"0") for value in found[0][:5])
    grid = Partitioning(stripes=stripes, sub_stripes=sub_stripes, overlap_deg=float(found[0][5] or b"0"))
    tables: list[Table] = []
    rows: dict[tuple[str, int], tuple[int, int]] = {}
    sha = hashlib.sha256(repr((db_id, version, grid)).encode())
    for number, definition in await home.fetch(
        f"SELECT table_id, definition FROM {META}.`tables` WHERE db_id = {db_id} ORDER BY table_id"
    ):
        table = msgspec.json.decode(definition or b"", type=Table)
        tables.append(table)
        sha.update(definition or b"")
        for counted in await home.fetch(
            f"SELECT chunk_id, row_count, overlap_rows FROM {META}.chunk_rows "
            f"WHERE table_id = {int(number or b'0')} ORDER BY chunk_id"
        ):
            chunk, main, overlap = (int(value or b"0") for value in counted)
            rows[table.name, chunk] = main, overlap
            sha.update(repr((chunk, main, overlap)).encode())
    copies = {
        (int(chunk or b"0"), int(worker or b"0")): (state or b"").decode()
        for chunk, worker, state in await home.fetch(
            f"SELECT chunk_id, worker_id, state FROM {META}.chunk_replicas WHERE db_id = {db_id}"
        )
    }
    sums, commits = await _added(home, database)
    states = {
        int(chunk or b"0"): int(state or b"0")
        for chunk, state in await home.fetch(
            f"SELECT chunk_id, state_no FROM {META}.chunk_states WHERE db_id = {db_id} ORDER BY 1"
        )
    }
    sha.update(repr((sorted(sums), states)).encode())
    whole = await whole_rows(home, sums)
    content = Content.of(database, tables, rows, sums, states, whole)
    return Published(db_id, version, replicas, grid, content, copies, sha.hexdigest(), commits)


async def _added(home: RawConnection, database: str) -> tuple[dict[int, Counted], dict[int, int]]:
    """Return the rows of visible transactions, the first commit first, and the numbers of their commits."""
    found = await transactions(home, f"i.db_name = {literal(database)} AND {IS_TRANSACTION}")
    for one in found:
        if one.state in ("committing", "aborting", "undoing", "consolidating"):
            raise UserError(
                f"transaction {one.number} on database '{database}' is {one.state}; run that command again first"
            )
    out: dict[int, Counted] = {}
    for one in found:
        if one.state == "committed":
            rows = await home.fetch(
                f"SELECT name, chunk_id, row_count, overlap_rows FROM {META}.ingest_chunks WHERE ingest_id = {one.number}"
            )
            out[one.number] = {
                ((name or b"").decode(), int(chunk or b"0")): (int(main or b"0"), int(overlap or b"0"))
                for name, chunk, main, overlap in rows
            }
    return out, {one.number: one.commit for one in found if one.number in out}
