"""What `skyshard catalog list` and `show` tell: databases with their tables, chunks, rows, copies and sizes.

Rows and chunks come from the metadata, sizes from the workers' servers; a worker that does not answer makes
sizes unknown, not wrong.
"""

from __future__ import annotations

import asyncio

import msgspec

from shard.catalog.model import Kind, Table
from shard.catalog.naming import literal, stage_name
from shard.errors import SkyError
from skyshard.catalog.cluster import META, Cluster
from skyshard.errors import UserError
from skyshard.ingest.transactions import transactions


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """One table; sizes in bytes over all copies, None if a worker did not answer."""

    name: str
    kind: str
    columns: int
    rows: int
    chunks: int
    overlap_rows: int
    data_bytes: int | None
    index_bytes: int | None
    overlap_bytes: int | None


class DatabaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One database; `incomplete` chunks have fewer copies on workers that stay than `replicas`.

    `workers` are chunks held, by worker; `silent` are the workers that did not answer.
    """

    name: str
    state: str
    published: str | None
    stripes: int
    sub_stripes: int
    overlap_deg: float
    chunks: int
    replicas: int
    incomplete: int
    rows: int
    data_bytes: int | None
    index_bytes: int | None
    workers: dict[str, int]
    silent: tuple[str, ...]
    tables: tuple[TableReport, ...]


_Sizes = dict[tuple[str, str], tuple[int, int]]
"""(database, table on a worker) → data and index bytes."""


async def reports(cluster: Cluster, only: str | None = None) -> list[DatabaseReport]:
    """Return the databases that are published, being replaced, or being dropped.

    Raises
    ------
    UserError
        If there is no database of the name `only`.
    """
    where = "" if only is None else f" AND name = {literal(only)}"
    found = await cluster.home.fetch(
        "SELECT db_id, name, state, published_at, stripes, sub_stripes, overlap_deg, replicas "
        f"FROM {META}.`databases` WHERE state <> 'building'{where} ORDER BY name"
    )
    if only is not None and not found:
        raise UserError(f"there is no catalogue '{only}'")
    databases = [[None if value is None else value.decode() for value in row] for row in found]
    sizes, silent = await _sizes(cluster, [row[1] or "" for row in databases])
    return [await _database(cluster, row, None if silent else sizes, silent) for row in databases]


async def _sizes(cluster: Cluster, names: list[str]) -> tuple[_Sizes, tuple[str, ...]]:
    """Return what workers' tables take, and the workers that did not say."""
    parts = {
        stage_name(one.number): one.database
        for one in await transactions(cluster.home, "i.state = 'committed'")
    }
    listed = ", ".join(literal(name) for name in (*names, *parts)) or "''"
    sql = (
        "SELECT TABLE_SCHEMA, TABLE_NAME, CAST(DATA_LENGTH AS CHAR), CAST(INDEX_LENGTH AS CHAR) "
        f"FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({listed}) AND ENGINE <> 'MRG_MyISAM'"
    )
    answers = await asyncio.gather(
        *(cluster.agents.admin(number, [sql]) for number in cluster.workers), return_exceptions=True
    )
    sizes: _Sizes = {}
    silent = []
    for worker, answer in zip(cluster.workers.values(), answers, strict=True):
        if isinstance(answer, SkyError):
            silent.append(worker.name)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            for database, table, data, index in answer:
                name = parts.get(database or "", database or "")
                had = sizes.get(key := (name, table or ""), (0, 0))
                sizes[key] = had[0] + int(data or "0"), had[1] + int(index or "0")
    return sizes, tuple(silent)


async def _database(
    cluster: Cluster, row: list[str | None], sizes: _Sizes | None, silent: tuple[str, ...]
) -> DatabaseReport:
    db_id, name, replicas = int(row[0] or "0"), row[1] or "", int(row[7] or "1")
    found = await cluster.home.fetch(
        "SELECT t.definition, COUNT(c.chunk_id), COALESCE(SUM(c.overlap_rows), 0) "
        f"FROM {META}.`tables` t LEFT JOIN {META}.chunk_rows c USING (table_id) "
        f"WHERE t.db_id = {db_id} GROUP BY t.table_id ORDER BY t.table_id"
    )
    mine = None if sizes is None else {table: size for (base, table), size in sizes.items() if base == name}
    tables = tuple(
        _table(
            msgspec.json.decode(definition or b"", type=Table), int(chunks or b"0"), int(rows or b"0"), mine
        )
        for definition, chunks, rows in found
    )
    held = await cluster.home.fetch(
        f"SELECT w.name, COUNT(*) FROM {META}.chunk_replicas r JOIN {META}.workers w USING (worker_id) "
        f"WHERE r.db_id = {db_id} AND r.state = 'ok' GROUP BY w.worker_id ORDER BY w.worker_id"
    )
    copies = await cluster.home.fetch(
        f"SELECT COUNT(*), COALESCE(SUM(copies < {replicas}), 0) FROM (SELECT SUM(w.state = 'active') AS copies "
        f"FROM {META}.chunk_replicas r JOIN {META}.workers w USING (worker_id) "
        f"WHERE r.db_id = {db_id} AND r.state = 'ok' GROUP BY r.chunk_id) c"
    )
    return DatabaseReport(
        name=name,
        state=row[2] or "",
        published=row[3],
        stripes=int(row[4] or "0"),
        sub_stripes=int(row[5] or "0"),
        overlap_deg=float(row[6] or "0"),
        chunks=int(copies[0][0] or b"0"),
        replicas=replicas,
        incomplete=int(copies[0][1] or b"0"),
        rows=sum(table.rows for table in tables),
        data_bytes=None if mine is None else sum(data for data, _ in mine.values()),
        index_bytes=None if mine is None else sum(index for _, index in mine.values()),
        workers={(worker or b"").decode(): int(count or b"0") for worker, count in held},
        silent=silent,
        tables=tables,
    )


def _table(
    table: Table, chunks: int, overlap_rows: int, sizes: dict[str, tuple[int, int]] | None
) -> TableReport:
    def total(stem: str, part: int) -> int | None:
        if sizes is None:
            return None
        if not table.is_sharded:
            return sizes.get(table.name, (0, 0))[part]
        return sum(size[part] for name, size in sizes.items() if _is_chunk(name, stem))

    overlap = f"{table.name}FullOverlap"
    parts = [total(overlap, 0), total(overlap, 1)] if table.kind is Kind.DIRECTOR else [0, 0]
    return TableReport(
        name=table.name,
        kind=table.kind.value,
        columns=len(table.columns),
        rows=table.rows,
        chunks=chunks,
        overlap_rows=overlap_rows,
        data_bytes=total(table.name, 0),
        index_bytes=total(table.name, 1),
        overlap_bytes=None if sizes is None else sum(part or 0 for part in parts),
    )


def _is_chunk(name: str, stem: str) -> bool:
    head, _, number = name.rpartition("_")
    return head == stem and number.isdigit()


def size_text(size: int | None) -> str:
    """Return bytes for people.

    Examples
    --------
    >>> size_text(1536), size_text(None)
    ('1.5 KiB', '?')
    """
    if size is None:
        return "?"
    left = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024:
            return f"{left:.0f} B" if unit == "B" else f"{left:.1f} {unit}"
        left /= 1024
    return f"{left:.1f} TiB"
