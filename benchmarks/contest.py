"""The contestants: one plain MariaDB, Spider over the workers' servers, and skyshard; all with the same rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml

from backend.address import Address
from backend.connection import RawConnection
from shard.catalog.naming import literal, quote
from shard.errors import ServerError
from shard.wire import rows
from tests.support.servers import Inside, LocalCluster, PlainMariaDB

PLAIN, SKYSHARD = "plain", "skyshard"
SPIDERS = ("Spider", "Spider, direct aggregates")
"""By the value of spider_direct_aggregate."""
PATIENT_S = 3600.0
"""Seconds that loading may take."""
WIDE_COLUMNS = 100
WIDE_STRIPES, WIDE_SHARE = 4, 6
"""Stripes (12 chunks), and stars for each row: ten thousand rows a chunk where there are a million stars."""
TARGETS = 10_000
SPIDER = "spider_"
"""Before the names of Spider's databases on the workers."""
_TABLES = ("synth.Object", "synth.Detection", "wide.Wide")
_KEYS = {"wide.Wide": "wideId"}


def write_wide(directory: Path, number: int) -> Path:
    """Write a catalogue of one table with 100 columns; return its path."""
    directory.mkdir(parents=True)
    chance = np.random.default_rng(5)
    names = ["wideId", "ra", "decl", *(f"c{index}" for index in range(3, WIDE_COLUMNS))]
    columns = {
        "wideId": np.arange(1, number + 1),
        "ra": chance.uniform(0, 360, number).round(6),
        "decl": chance.uniform(-80, 80, number).round(6),
        **{name: chance.normal(0, 1, number).round(5) for name in names[3:]},
    }
    pyarrow.csv.write_csv(pa.table(columns), directory / "wide.csv")
    table = {
        "name": "Wide", "kind": "director", "key": "wideId", "longitude": "ra", "latitude": "decl",
        "columns": {name: "BIGINT" if name == "wideId" else "DOUBLE" for name in names},
        "files": ["wide.csv"], "format": {"type": "csv", "header": True},
    }  # fmt: skip
    sizes = {"stripes": WIDE_STRIPES, "sub_stripes": 10, "overlap_deg": 0.1}
    path = directory / "CATALOG.yaml"
    path.write_text(yaml.safe_dump({"database": "wide", "partitioning": sizes, "tables": [table]}))
    return path


async def positions(address: Address, table: str) -> np.ndarray:
    """Return longitudes and latitudes of a table's rows, in the order of their keys."""
    connection = await RawConnection.open(address)
    try:
        found = await connection.fetch(f"SELECT ra, decl FROM {table} ORDER BY objectId")
    finally:
        await connection.close()
    return np.array(found, dtype=np.float64)


def places(stars: np.ndarray) -> np.ndarray:
    """Return positions that a user has: some stars', a few arcseconds off."""
    chance = np.random.default_rng(12)
    some = stars[chance.integers(0, len(stars), TARGETS)]
    moved = some + chance.uniform(-0.002, 0.002, some.shape)
    return np.column_stack([moved[:, 0] % 360, moved[:, 1].clip(-90, 90)]).round(9)


async def make_own(address: Address, keys: int, found: np.ndarray) -> None:
    """Make the user's own tables: keys, and positions."""
    chance = random.Random(11)
    connection = await RawConnection.open(address)
    try:
        await connection.run("CREATE DATABASE own")
        await connection.run("CREATE TABLE own.Target (objectId BIGINT, KEY (objectId)) ENGINE=MyISAM")
        values = ", ".join(f"({chance.randrange(1, keys + 1)})" for _ in range(TARGETS))
        await connection.run(f"INSERT INTO own.Target VALUES {values}")
        await connection.run("CREATE TABLE own.Place (placeId BIGINT, ra DOUBLE, decl DOUBLE) ENGINE=MyISAM")
        values = ", ".join(
            f"({number}, {ra!r}, {decl!r})" for number, (ra, decl) in enumerate(found.tolist())
        )
        await connection.run(f"INSERT INTO own.Place VALUES {values}")
    finally:
        await connection.close()


async def rows_of(address: Address, table: str) -> int:
    """Return how many rows a table has."""
    connection = await RawConnection.open(address)
    try:
        ((number,),) = await connection.fetch(f"SELECT COUNT(*) FROM {table}")
    finally:
        await connection.close()
    return int(number or 0)


def workers_of(cluster: LocalCluster) -> list[Address]:
    """Return where the workers' servers are."""
    inside = Inside(cluster.directory)
    return [inside.server(f"worker{n}") for n in range(1, inside.state.workers + 1)]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one contestant stores a table: engine, format of rows, indexes."""

    engine: str
    row_format: str
    indexes: int


async def layouts(server: Address, database: str, pattern: str) -> tuple[set[Layout], int]:
    """Return how tables that have rows are stored, and how many there are."""
    where = f"WHERE TABLE_SCHEMA = {literal(database)} AND TABLE_NAME REGEXP {literal(pattern)}"
    connection = await RawConnection.open(server)
    try:
        tables = await connection.fetch(
            f"SELECT TABLE_NAME, ENGINE, ROW_FORMAT FROM information_schema.TABLES {where} AND TABLE_ROWS > 0"
        )
        keys = await connection.fetch(
            f"SELECT TABLE_NAME, COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS {where} "
            "GROUP BY TABLE_NAME"
        )
    finally:
        await connection.close()
    indexes = {name: int(number or 0) for name, number in keys}
    found = {
        Layout((engine or b"").decode(), (row_format or b"").decode(), indexes.get(name, 0))
        for name, engine, row_format in tables
    }
    return found, len(tables)


@dataclass(frozen=True, slots=True)
class Stored:
    """A table that all contestants store alike, and in how many chunks skyshard has it."""

    table: str
    layout: Layout
    rows: int
    chunks: int

    def __str__(self) -> str:
        layout = self.layout
        return (
            f"{self.table}: {self.rows:,} rows, {layout.engine}, {layout.row_format} rows, indexes: {layout.indexes}; "
            f"chunks: {self.chunks:,}"
        )


async def equal_terms(
    cluster: LocalCluster, plain: PlainMariaDB, spider: bool, near: str
) -> dict[str, Stored]:
    """Check that all contestants store each table alike; return how, by table.

    Raises
    ------
    RuntimeError
        If they do not: the times would not be comparable.
    """
    out: dict[str, Stored] = {}
    for table in (*_TABLES, near):
        database, name = table.split(".")
        seen, _ = await layouts(plain.address, database, f"^{name}$")
        chunks = 0
        for worker in workers_of(cluster):
            found, number = await layouts(worker, database, f"^{name}_[0-9]+$")
            seen, chunks = seen | found, chunks + number
            if spider:
                seen |= (await layouts(worker, SPIDER + database, f"^{name}$"))[0]
        if len(seen) != 1:
            raise RuntimeError(f"{table} is stored in different ways: {sorted(map(str, seen))}")
        out[table] = Stored(table, seen.pop(), await rows_of(plain.address, table), chunks)
    return out


async def make_spider(
    cluster: LocalCluster, plain: PlainMariaDB, head: PlainMariaDB, near: str
) -> str | None:
    """Put the plain server's rows on the workers for Spider, by key modulo workers; return why not, if so."""
    workers = workers_of(cluster)
    source, lead = await RawConnection.open(plain.address), await RawConnection.open(head.address)
    try:
        try:
            await lead.run("INSTALL SONAME 'ha_spider'")
        except ServerError as error:
            return error.message
        for number, worker in enumerate(workers):
            await lead.run(
                f"CREATE SERVER w{number} FOREIGN DATA WRAPPER mysql OPTIONS (SOCKET {literal(worker.socket or '')}, "
                f"USER {literal(worker.user)}, PASSWORD {literal(worker.password)})"
            )
        for whole in (*_TABLES, near):
            (database, table), key = whole.split("."), _KEYS.get(whole, "objectId")
            (row,) = await source.fetch(f"SHOW CREATE TABLE {database}.{table}")
            ddl = (row[1] or b"").decode()
            body = ddl[ddl.index("(") : ddl.rindex(") ENGINE") + 1]
            for number, worker in enumerate(workers):
                await _fill(source, worker, database, table, body, f"{key} % {len(workers)} = {number}")
            parts = ", ".join(
                f'PARTITION p{number} COMMENT = \'server "w{number}", database "{SPIDER}{database}", table "{table}"\''
                for number in range(len(workers))
            )
            await lead.run(f"CREATE DATABASE IF NOT EXISTS {database}")
            await lead.run(
                f"CREATE TABLE {database}.{table} {body} ENGINE=SPIDER PARTITION BY HASH ({key}) ({parts})"
            )
        await lead.run("SET GLOBAL spider_bgs_mode=2")
    finally:
        await source.close()
        await lead.close()
    return None


async def _fill(
    source: RawConnection, worker: Address, database: str, table: str, body: str, condition: str
) -> None:
    target = await RawConnection.open(worker)

    async def lines() -> AsyncIterator[bytes]:
        result = await source.query(f"SELECT * FROM {database}.{table} WHERE {condition}".encode())
        async for block in result.blocks():
            yield rows.rows_to_load(block.data)

    try:
        name = f"{SPIDER}{database}"
        await target.run(f"CREATE DATABASE IF NOT EXISTS {name}")
        await target.run(f"CREATE TABLE {name}.{table} {body} ENGINE=MyISAM")
        listed = await target.fetch(f"SHOW COLUMNS FROM {name}.{table} WHERE Extra NOT LIKE '%INVISIBLE%'")
        columns = ", ".join(quote((row[0] or b"").decode()) for row in listed)
        load = f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {name}.{table} CHARACTER SET utf8mb4 ({columns})"
        await target.load(load.encode(), lines())
    finally:
        await target.close()
