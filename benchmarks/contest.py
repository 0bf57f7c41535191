"""The contestants: one plain MariaDB, Spider over the workers' servers, and skyshard; all with the same rows."""

from __future__ import annotations

import csv
import random
from collections.abc import AsyncIterator
from pathlib import Path

import yaml

from backend.address import Address
from backend.connection import RawConnection
from shard.catalog.naming import literal, quote
from shard.errors import ServerError
from shard.wire import rows
from tests.support.servers import Inside, LocalCluster, PlainMariaDB

WIDE_COLUMNS = 100
TARGETS = 10_000
SPIDER = "spider_"
"""Before the names of Spider's databases on the workers."""


def write_wide(directory: Path, number: int) -> Path:
    """Write a catalogue of one table with 100 columns; return its path."""
    directory.mkdir(parents=True)
    chance = random.Random(5)
    names = ["wideId", "ra", "decl", *(f"c{index}" for index in range(3, WIDE_COLUMNS))]
    with (directory / "wide.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(names)
        for key in range(1, number + 1):
            place = [f"{chance.uniform(0, 360):.6f}", f"{chance.uniform(-80, 80):.6f}"]
            out.writerow([key, *place, *(f"{chance.gauss(0, 1):.5f}" for _ in names[3:])])
    table = {
        "name": "Wide", "kind": "director", "key": "wideId", "longitude": "ra", "latitude": "decl",
        "columns": {name: "BIGINT" if name == "wideId" else "DOUBLE" for name in names},
        "files": ["wide.csv"], "format": {"type": "csv", "header": True},
    }  # fmt: skip
    sizes = {"stripes": 18, "sub_stripes": 10, "overlap_deg": 0.1}
    path = directory / "CATALOG.yaml"
    path.write_text(yaml.safe_dump({"database": "wide", "partitioning": sizes, "tables": [table]}))
    return path


async def make_targets(address: Address, keys: int) -> None:
    """Make the user's own table."""
    chance = random.Random(11)
    connection = await RawConnection.open(address)
    try:
        await connection.run("CREATE DATABASE own")
        await connection.run("CREATE TABLE own.Target (objectId BIGINT, KEY (objectId)) ENGINE=MyISAM")
        values = ", ".join(f"({chance.randrange(1, keys)})" for _ in range(TARGETS))
        await connection.run(f"INSERT INTO own.Target VALUES {values}")
    finally:
        await connection.close()


async def make_spider(cluster: LocalCluster, plain: PlainMariaDB, head: PlainMariaDB) -> str | None:
    """Put the plain server's rows on the workers for Spider, by key modulo workers; return why not, if so."""
    inside = Inside(cluster.directory)
    workers = [inside.server(f"worker{n}") for n in range(1, inside.state.workers + 1)]
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
        for database, table, key in (
            ("synth", "Object", "objectId"), ("synth", "Detection", "objectId"), ("wide", "Wide", "wideId"),
        ):  # fmt: skip
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
        await target.run(f"CREATE TABLE {name}.{table} {body} ENGINE=MyISAM ROW_FORMAT=DYNAMIC")
        listed = await target.fetch(f"SHOW COLUMNS FROM {name}.{table} WHERE Extra NOT LIKE '%INVISIBLE%'")
        columns = ", ".join(quote((row[0] or b"").decode()) for row in listed)
        load = f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {name}.{table} CHARACTER SET utf8mb4 ({columns})"
        await target.load(load.encode(), lines())
    finally:
        await target.close()
