"""What the metadata say of one published catalogue, read at one moment.

Commands that take long (check, backup, copy) read it when they begin and when they end: whoever changed the
catalogue meanwhile has changed `identity`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Partitioning, Table
from shard.catalog.naming import literal
from skyshard.catalog.cluster import META
from skyshard.errors import UserError
from skyshard.replicas.copy import Content


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
    """

    db_id: int
    version: int
    replicas: int
    partitioning: Partitioning
    content: Content
    copies: Mapping[tuple[int, int], str]
    identity: str

    @property
    def name(self) -> str:
        """The catalogue's name."""
        return self.content.database

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables, as the catalogue file lists them."""
        return self.content.tables

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
        If nothing is.
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
    content = Content.of(database, tables, rows)
    return Published(db_id, version, replicas, grid, content, copies, sha.hexdigest())
