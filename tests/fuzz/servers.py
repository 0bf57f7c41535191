"""The servers that generated queries are put to: a cluster, and one plain MariaDB with the same rows."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.catalog.naming import quote
from shard.errors import ServerError
from shard.wire.packets import ColumnDefinition
from skyshard.cluster.local import free_port
from tests.fuzz.compare import Answer, decode
from tests.fuzz.sources import DATABASE, REPLICATED, TABLES
from tests.support import handmade, twin
from tests.support.servers import LocalCluster, PlainMariaDB

LOST = 2013
LIMIT_S = 20
EMPTY = f"{DATABASE}_empty"
BARE = f"{DATABASE}_bare"
"""The plain server's second database: the same tables, those that are sharded without rows."""


class Server:
    """One connection that is made again when it broke."""

    def __init__(self, address: Address, database: str = DATABASE) -> None:
        self._address, self._database = address, database
        self._connection: RawConnection | None = None

    async def ask(self, sql: str, binary: bool) -> Answer:
        """Run a query and return its answer."""
        try:
            connection = self._connection
            if connection is None or connection.closed or connection.busy:
                await self.close()
                connection = self._connection = await RawConnection.open(self._address, self._database)
                await connection.run(f"SET max_statement_time={LIMIT_S}")
            text = sql.encode()
            result = await (connection.execute(text, ()) if binary else connection.query(text))
            data = b"".join([block.data async for block in result.blocks()])
        except ServerError as error:
            return Answer(error.errno, str(error))
        except ConnectionLost as lost:
            return Answer(LOST, str(lost))
        columns = tuple(ColumnDefinition.decode(payload) for payload in result.columns)
        return Answer(0, "", columns, decode(data, columns, binary))

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionLost):
                await self._connection.close()
            self._connection = None


async def empty_twins(plain: Address) -> None:
    """Make the plain server's databases without rows, if they are not there.

    In the first, replicated tables have theirs; in the second, no table has any.
    """
    connection = await RawConnection.open(plain)
    for name in (EMPTY, BARE):
        if await connection.fetch(f"SHOW DATABASES LIKE '{name}'"):
            continue
        await connection.run(f"CREATE DATABASE {quote(name)} CHARACTER SET utf8mb4")
        for table in TABLES:
            other = f"{quote(name)}.{quote(table)}"
            await connection.run(f"CREATE TABLE {other} LIKE {quote(DATABASE)}.{quote(table)}")
            if table in REPLICATED and name == EMPTY:
                await connection.run(f"INSERT INTO {other} SELECT * FROM {quote(DATABASE)}.{quote(table)}")
    await connection.close()


@contextlib.contextmanager
def servers() -> Iterator[tuple[Address, Address]]:
    """Start a two-worker cluster with the handmade catalogue, and its plain twin."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        directory = Path(name)
        plain = PlainMariaDB(directory / "plain")
        cluster = LocalCluster(directory / "c", free_port())
        try:
            cluster.ingest(handmade.write(directory / DATABASE))
            asyncio.run(twin.copy_database(cluster.directory, DATABASE, plain.address))
            yield cluster.address, plain.address
        finally:
            cluster.stop()
            plain.stop()
