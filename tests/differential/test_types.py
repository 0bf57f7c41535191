"""Every SQL type that a chunk table may have, in everything that is done with columns: as one plain MariaDB answers it."""

import asyncio
import random
from collections import Counter

import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.packets import ColumnDefinition
from tests.differential.test_differential import packets, shape
from tests.support import twin
from tests.support.servers import skyshard

TYPES = {
    "ts": ("TIMESTAMP NULL", ("2024-01-15 00:30:00", "2024-09-15 03:30:00", "1970-01-02 00:00:00")),
    "ts6": ("TIMESTAMP(6) NULL", ("2024-10-27 00:30:00.000001", "2024-10-27 03:30:00.999999", "2038-01-01 00:00:00")),
    "dt": ("DATETIME(6)", ("2024-10-27 00:30:00.000005", "0000-00-00 00:00:00", "9999-12-31 23:59:59.999999")),
    "tm": ("TIME(6)", ("-838:59:59.000000", "838:59:59.000000", "12:00:00.500000", "-00:00:00.500000")),
    "da": ("DATE", ("0000-00-00", "2024-00-15", "9999-12-31", "1000-01-01")),
    "yr": ("YEAR", ("1901", "2155", "0000", "2024")),
    "js": ("JSON", ('{"a": 1}', "[1, 2]", '"x"', '{"a": 2, "b": null}')),
    "bb": ("BLOB", ("ab", "AB", "é", "x\x01y", "a ")),
    "bn": ("BINARY(4)", ("ab", "abcd", "a")),
    "lt": ("LONGTEXT", ("Å", "b", "c ", "")),
    "mt": ("MEDIUMTEXT CHARACTER SET utf8mb3 COLLATE utf8mb3_bin", ("Å", "a", "A", "b ")),
    "l1": ("VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_german2_ci", ("ä", "b", "C", "d ")),
    "vb": ("VARCHAR(10) COLLATE utf8mb4_bin", ("\U0001f600", "a", "A", "b ")),
    "uu": ("UUID", ("6ccd780c-baba-1026-9564-5b8c656024db", "00000000-0000-0000-0000-000000000001")),
    "i6": ("INET6", ("::1", "2001:db8::ff00:42:8329", "::192.0.2.128")),
    "i4": ("INET4", ("10.0.0.1", "192.168.1.2", "9.255.255.255")),
    "d65": ("DECIMAL(65,30)", ("12345678901234567890123456789012345.123456789012345678901234567890", "-1e-30", "7")),
    "d0": ("DECIMAL(20,0) UNSIGNED", ("18446744073709551615", "99999999999999999999", "0")),
    "zf": ("INT(6) UNSIGNED ZEROFILL", ("1", "42", "1234567")),
    "mi": ("MEDIUMINT", ("-8388608", "8388607", "0")),
    "ti": ("TINYINT(1)", ("-128", "127", "0", "1")),
    "bo": ("BOOLEAN", ("0", "1")),
    "b64": ("BIT(64)", ("0", "1", "18446744073709551615", "9223372036854775808")),
    "b1": ("BIT(1)", ("0", "1")),
    "bu": ("BIGINT UNSIGNED", ("0", "18446744073709551615", "9223372036854775808")),
    "fl": ("FLOAT(7,3)", ("1.5", "-3.125", "123.25")),
    "db": ("DOUBLE(10,2)", ("1.5", "-3.25", "12345.75")),
    "du": ("DOUBLE UNSIGNED", ("1.5", "0.25", "1048576")),
    "en": ("ENUM('b','a','','Ä') CHARACTER SET latin1 COLLATE latin1_bin", ("b", "a", "Ä")),
    "st": ("SET('z','y','x')", ("z", "y,x", "x", "z,x")),
}  # fmt: skip
"""Column → (its type, values; those of one column are not equal, as MariaDB compares them)."""
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
CATALOG = """\
database: odd
partitioning: {stripes: 3, sub_stripes: 4, overlap_deg: 1.0}
tables:
  - {name: Odd, kind: director, key: id, longitude: ra, latitude: decl, schema: odd.sql, files: [odd.csv],
     format: {type: csv, delimiter: "|", quote: null, escape: null, "null": "\\\\N", header: false}}
"""


@pytest.fixture(scope="module")
def odd(cluster, plain, tmp_path_factory):
    directory = tmp_path_factory.mktemp("odd")
    (directory / "catalog.yaml").write_text(CATALOG)
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())
    head = "id BIGINT NOT NULL, ra DOUBLE NOT NULL, decl DOUBLE NOT NULL, g INT, wide FLOAT(7,3) DEFAULT 0"
    (directory / "odd.sql").write_text(f"CREATE TABLE Odd ({head}, {columns})\n")
    rng = random.Random(5)
    lines = []
    for number in range(1, 121):
        values = [rng.choice([*values, "\\N"]) for _, values in TYPES.values()]
        row = [number, rng.uniform(0, 360), rng.uniform(-80, 80), rng.randint(0, 3), "1234.25", *values]
        lines.append("|".join(map(str, row)) + "\n")
    (directory / "odd.csv").write_text("".join(lines))
    cluster.ingest(directory / "catalog.yaml")
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
@pytest.mark.parametrize("column", TYPES)
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
