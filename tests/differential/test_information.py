"""information_schema.TABLES tells the rows of sharded tables, in whatever way it is asked for."""

import pytest

from backend.connection import RawConnection
from shard.wire.packets import ColumnDefinition

NAMES = (b"Star", b"Visit", b"StarRef", b"Ref")
COUNTS = [
    "SELECT TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab'",
    "SELECT table_name, table_rows FROM `information_schema`.`tables` t WHERE t.table_schema = 'lab'",
    "SELECT tables.table_name, tables.table_rows FROM information_schema.tables WHERE tables.table_schema = 'lab'",
    "SELECT a.TABLE_NAME, a.TABLE_ROWS FROM information_schema.SCHEMATA s JOIN information_schema.TABLES AS a "
    "ON a.TABLE_SCHEMA = s.SCHEMA_NAME WHERE s.SCHEMA_NAME = 'lab' ORDER BY 2",
    "WITH x AS (SELECT * FROM information_schema.TABLES) SELECT TABLE_NAME, TABLE_ROWS FROM x WHERE TABLE_SCHEMA='lab'",
    "SELECT TABLE_NAME, (SELECT b.TABLE_ROWS FROM information_schema.TABLES b WHERE b.TABLE_SCHEMA = 'lab' AND "
    "b.TABLE_NAME = a.TABLE_NAME) AS n FROM information_schema.TABLES a WHERE TABLE_SCHEMA = 'lab'",
]


@pytest.mark.parametrize("sql", COUNTS)
async def test_table_rows(cluster, plain, sql):
    counted = {}
    connection = await RawConnection.open(cluster.address)
    twin = await RawConnection.open(plain.address)
    try:
        for name in NAMES:
            counted[name] = (await connection.fetch(f"SELECT COUNT(*) FROM lab.{name.decode()}"))[0][0]
        result, other = await connection.query(sql.encode()), await twin.query(sql.encode())
        await result.drain()
        await other.drain()
        for ours, theirs in zip(result.columns, other.columns, strict=True):
            mine, plains = ColumnDefinition.decode(ours), ColumnDefinition.decode(theirs)
            assert (mine.name, mine.type, mine.length) == (plains.name, plains.type, plains.length)
        told = {row[0]: row[1] for row in await connection.fetch(sql)}
        assert {name: told[name] for name in NAMES} == counted  # of replicated ones InnoDB estimates
    finally:
        await connection.close()
        await twin.close()


async def test_table_rows_of_the_default_database_and_in_binary(cluster):
    connection = await RawConnection.open(cluster.address, "information_schema")
    try:
        wanted = int((await connection.fetch("SELECT COUNT(*) FROM lab.Visit"))[0][0])
        sql = "SELECT TABLE_ROWS FROM TABLES WHERE TABLE_NAME = 'Visit' AND TABLE_SCHEMA = 'lab'"
        assert await connection.fetch(sql) == [[str(wanted).encode()]]
        result = await connection.execute(sql.encode(), ())
        assert b"".join([block.data async for block in result.blocks()]).endswith(
            wanted.to_bytes(8, "little")
        )
        whole = await connection.fetch("SELECT * FROM TABLES WHERE TABLE_SCHEMA = 'lab'")
        named = [column[0] for column in await connection.fetch("SHOW COLUMNS FROM TABLES")]
        rows = {row[named.index(b"TABLE_NAME")]: row[named.index(b"TABLE_ROWS")] for row in whole}
        assert rows[b"Visit"] == str(wanted).encode()
    finally:
        await connection.close()
