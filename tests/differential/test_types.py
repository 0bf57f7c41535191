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
from tests.support.servers import skyshard

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


async def test_values_longer_than_their_type_are_refused(pair):
    """MariaDB says of FLOAT(7,3) as text that it has seven characters; 1234.250 has eight."""
    with pytest.raises(ServerError) as caught:
        await asked(pair[0], "SELECT MAX(IFNULL(wide, '')) FROM Odd", False)
    assert (caught.value.errno, caught.value.sqlstate) == (1406, "22001")
    sql = "SELECT MAX(CAST(IFNULL(wide, '') AS CHAR(64))) AS x FROM Odd"
    assert await answer(pair[0], sql, False) == await answer(pair[1], sql, False)
