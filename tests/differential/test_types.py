"""Every SQL type that a chunk table may have, in everything that is done with columns: as one plain MariaDB answers it."""

import asyncio
from collections import Counter

import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.packets import ColumnDefinition
from tests.differential.test_differential import packets, shape
from tests.support import every_type, twin
from tests.support.servers import Inside, skyshard

ORDERED = (
    "SELECT id, {c} FROM Odd ORDER BY id",
    "SELECT {c}, id FROM Odd ORDER BY {c}, id",
    "SELECT {c}, id FROM Odd ORDER BY {c} DESC, id LIMIT 17",
    "SELECT id, LAG({c}) OVER (ORDER BY id) AS l FROM Odd ORDER BY id",
    "SELECT id, {c} + 0 AS n, HEX({c}) AS h, LENGTH({c}) AS l FROM Odd ORDER BY n, id LIMIT 20",
)
UNORDERED = (
    "SELECT MIN({c}), MAX({c}), COUNT({c}), COUNT(DISTINCT {c}) FROM Odd",
    "SELECT SUM({c}), AVG({c}) FROM Odd",
    "SELECT g, MIN({c}) AS a, MAX({c}) AS b, BIT_OR({c}) AS c FROM Odd GROUP BY g",
    "SELECT {c}, COUNT(*) AS n FROM Odd GROUP BY {c} HAVING n > 1",
    "SELECT DISTINCT {c} FROM Odd",
    "SELECT COUNT(*) FROM Odd a JOIN Odd b ON a.{c} = b.{c}",
    "SELECT COUNT(*), MAX(a.{c}) FROM Odd a JOIN Odd b ON a.g = b.g + 1 WHERE a.{c} IS NULL",
    "SELECT COUNT(*), MAX(a.{c}) FROM Odd b LEFT JOIN Odd a ON a.g = b.g + 1 WHERE a.{c} IS NULL",
    "SELECT COUNT(*) FROM Odd WHERE {c} = (SELECT MAX({c}) FROM Odd)",
    "SELECT COUNT(*) FROM Odd WHERE {c} IN (SELECT {c} FROM Odd WHERE g = 1)",
    "SELECT GROUP_CONCAT({c} ORDER BY id SEPARATOR '|') FROM Odd",
    "SELECT {c} FROM Odd UNION SELECT {c} FROM Odd WHERE g = 2",
    "SELECT COALESCE({c}, {c}) AS x, IF(g, {c}, NULL) AS y, IFNULL({c}, 'none') AS z FROM Odd",
    "SELECT MAX(IFNULL({c}, '')), MIN(CASE WHEN g > 1 THEN {c} END) FROM Odd",
    "SELECT CAST({c} AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_bin AS x, COUNT(*) FROM Odd GROUP BY x",
    "SELECT JSON_ARRAYAGG({c}) FROM Odd WHERE id = 5",
    "SELECT {c} FROM (SELECT {c}, COUNT(*) AS n FROM Odd GROUP BY {c}) AS d WHERE n > 3",
)


SUMMER_TIME = (
    "INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')",
    "SET @zone = LAST_INSERT_ID()",
    "INSERT INTO mysql.time_zone_name (Name, Time_zone_id) VALUES ('Odd/Summer', @zone)",
    "INSERT INTO mysql.time_zone_transition_type (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation) "
    "VALUES (@zone, 0, 3600, 0, 'CET'), (@zone, 1, 7200, 1, 'CEST')",
    "INSERT INTO mysql.time_zone_transition (Time_zone_id, Transition_time, Transition_type_id) "
    "VALUES (@zone, 1711846800, 1), (@zone, 1729990800, 0)",
)
"""A time zone whose summer ends on 2024-10-27 at 1:00 UTC: from then on the local times of the last hour come again."""


@pytest.fixture(scope="module")
def odd(cluster, plain, tmp_path_factory):
    catalog = every_type.write(tmp_path_factory.mktemp("odd"))
    cluster.ingest(catalog)
    asyncio.run(twin.copy_database(cluster.directory, "odd", plain.address))
    yield cluster
    skyshard("catalog", "drop", "odd", "--dir", cluster.directory)


@pytest.fixture
async def pair(odd, plain):
    both = [await RawConnection.open(address, "odd") for address in (odd.address, plain.address)]
    yield both
    for connection in both:
        await connection.close()


async def answer(connection, sql, binary):
    """Return columns and rows, or an errno."""
    try:
        return await asked(connection, sql, binary)
    except ServerError as error:
        return error.errno, []


async def asked(connection, sql, binary):
    result = await (connection.execute(sql.encode(), ()) if binary else connection.query(sql.encode()))
    data = b"".join([block.data async for block in result.blocks()])
    found = [packet[4:] for packet in packets(data)] if binary else list(map(tuple, rows.split(data)))
    return [shape(ColumnDefinition.decode(payload)) for payload in result.columns], found


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("column", every_type.TYPES)
async def test_a_column_of_every_type(pair, column, binary):
    for text in ORDERED + UNORDERED:
        sql = text.format(c=column)
        got, want = [await answer(connection, sql, binary) for connection in pair]
        assert got[0] == want[0], sql
        if text in ORDERED:
            assert got[1] == want[1], sql
        else:
            assert Counter(got[1]) == Counter(want[1]), sql


@pytest.fixture(scope="module")
def summer_time(odd, plain):
    """Let all servers know a time zone with summer time."""

    async def tell():
        inside = Inside(odd.directory)
        names = ["home", *(f"worker{number + 1}" for number in range(inside.state.workers))]
        for address in (plain.address, *map(inside.server, names)):
            connection = await RawConnection.open(address)
            for statement in SUMMER_TIME:
                await connection.run(statement)
            await connection.close()

    asyncio.run(tell())
    return "Odd/Summer"


@pytest.mark.parametrize("column", ["ts", "ts6"])
async def test_two_moments_with_one_local_time(pair, summer_time, column):
    for connection in pair:
        await connection.run(f"SET SESSION time_zone='{summer_time}'")
    told = await answer(pair[0], f"SELECT {column}, COUNT(*) FROM Odd GROUP BY {column}", False)
    texts = Counter(row[0] for row in told[1])
    assert max(texts.values()) == 2
    for text in ORDERED + UNORDERED:
        sql = text.format(c=column)
        got, want = [await answer(connection, sql, False) for connection in pair]
        assert got[0] == want[0], sql
        assert Counter(got[1]) == Counter(want[1]), sql
        assert text in UNORDERED or got[1] == want[1], sql
    for connection in pair:
        await connection.run("CREATE DATABASE IF NOT EXISTS summer")
        await connection.run(
            f"CREATE OR REPLACE TABLE summer.kept AS SELECT {column}, id FROM Odd ORDER BY id"
        )
    for sql in (
        "SELECT @@time_zone",
        f"SELECT {column}, COUNT(*) FROM summer.kept GROUP BY {column}",
        f"SELECT COUNT(*) FROM Odd o JOIN summer.kept k ON o.{column} = k.{column}",
        f"SELECT COUNT(*) FROM Odd o JOIN summer.kept k ON o.{column} = k.{column} WHERE o.id = k.id + 1",
    ):
        got, want = [await answer(connection, sql, False) for connection in pair]
        assert Counter(got[1]) == Counter(want[1]), sql
    for connection in pair:
        await connection.run("DROP DATABASE summer")


async def test_values_longer_than_their_type_are_refused(pair):
    """MariaDB says of FLOAT(7,3) as text that it has seven characters; 1234.250 has eight."""
    with pytest.raises(ServerError) as caught:
        await asked(pair[0], "SELECT MAX(IFNULL(wide, '')) FROM Odd", False)
    assert (caught.value.errno, caught.value.sqlstate) == (1406, "22001")
    sql = "SELECT MAX(CAST(IFNULL(wide, '') AS CHAR(64))) AS x FROM Odd"
    assert await answer(pair[0], sql, False) == await answer(pair[1], sql, False)
