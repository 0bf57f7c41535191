"""One session's own tables beside sharded ones: a script, statement by statement, on skyshard and on plain MariaDB."""

import re
import struct
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from lsst import sphgeom

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.planner import explain
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import ColumnDefinition
from skyshard.cluster import state as states
from skyshard.cluster.local import home_address
from tests.differential.test_differential import packets, shape
from tests.fuzz.areas import separation


def script(name):
    """Return the statements of a file."""
    text = re.sub(r"(?m)^--.*\n", "", Path(__file__).with_name(name).read_text())
    return [part.strip() for part in re.split(r";\s*\n", text) if part.strip()]


async def outcome(connection, sql, binary, parameters=()):
    """Return what a statement gives: columns and rows, or affected rows, or an error number."""
    try:
        query = connection.execute(sql.encode(), parameters) if binary else connection.query(sql.encode())
        result = await query
        blocks = b"".join([block.data async for block in result.blocks()])
    except ServerError as error:
        return error.errno, None, None, None
    columns = [shape(ColumnDefinition.decode(payload)) for payload in result.columns]
    found = (
        [packet[4:] for packet in packets(blocks)] if binary else [tuple(row) for row in rows.split(blocks)]
    )
    affected = result.end.affected_rows if result.end is not None and not columns else None
    ordered = re.search(r"(?i)order by[^()]*$", sql) is not None
    return 0, columns, found if ordered else Counter(found), affected


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("name", ["own.sql", "session.sql"])
async def test_script(cluster, plain, binary, name):
    ours, theirs = await RawConnection.open(cluster.address), await RawConnection.open(plain.address)
    try:
        for sql in script(name):
            assert (sql, *await outcome(ours, sql, binary)) == (sql, *await outcome(theirs, sql, binary))
    finally:
        await ours.close()
        await theirs.close()


async def test_cross_match_is_split_by_chunk(cluster, plain):
    """A list of positions meets each star within the radius once, across chunk borders, poles and 0/360 degrees."""
    ours, theirs = await RawConnection.open(cluster.address), await RawConnection.open(plain.address)
    near = (
        "IF(ABS(s.decl) > 90 OR ABS(t.tdec) > 90, NULL, 2e0 * DEGREES(ASIN(LEAST(1e0, SQRT(POW(SIN(RADIANS("
        "t.tdec - s.decl) * 0.5e0), 2) + COS(RADIANS(s.decl)) * COS(RADIANS(t.tdec)) * POW(SIN(RADIANS("
        "t.tra - s.ra) * 0.5e0), 2))))))"
    )
    try:
        for connection in (ours, theirs):
            await connection.run("CREATE DATABASE IF NOT EXISTS mine")
            await connection.run(
                "CREATE OR REPLACE TABLE mine.spots AS SELECT starId AS tid, ra + 0.3 AS tra, decl * 0.999 AS tdec "
                "FROM lab.Star"
            )
        for radius in (0, 0.01, 0.4, 1.0, 7.5, 40, 179, 200, 360):
            text = "SELECT t.tid, s.starId FROM mine.spots t JOIN lab.Star s ON {} <= " + str(radius)
            got = await ours.fetch(text.format("scisql_angSep(s.ra, s.decl, t.tra, t.tdec)"))
            want = await theirs.fetch(text.format(near))
            assert Counter(map(tuple, got)) == Counter(map(tuple, want))
            plan = await ours.fetch("EXPLAIN " + text.format("scisql_angSep(s.ra, s.decl, t.tra, t.tdec)"))
            # From 180 degrees on all are as near as that.
            assert (b"chunks that each row reaches" in plan[0][1]) == (radius < 180)
        text = (  # the inner query's join by positions is its own, also where its aliases are those of the outer one
            "SELECT s.starId, t.refId FROM lab.Star s JOIN lab.Ref t ON {} < 0.4 WHERE EXISTS (SELECT 1 FROM lab.Star x "
            "JOIN mine.spots t ON {} < 0.25 WHERE x.starId = s.starId)"
        )
        got = await ours.fetch(
            text.format(
                "scisql_angSep(s.ra, s.decl, t.lon, t.lat)", "scisql_angSep(x.ra, x.decl, t.tra, t.tdec)"
            )
        )
        pairs = (
            separation(("s.ra", "s.decl"), ("t.lon", "t.lat")),
            separation(("x.ra", "x.decl"), ("t.tra", "t.tdec")),
        )
        want = await theirs.fetch(text.format(*pairs))
        assert Counter(map(tuple, got)) == Counter(map(tuple, want))
        assert len(want) > 10
        text = "SELECT t.tid, s.starId FROM mine.spots t JOIN lab.Star s ON {} <= 40"
        await ours.run("SET skyshard_ship_limit = 100")
        plan = await ours.fetch("EXPLAIN " + text.format("scisql_angSep(s.ra, s.decl, t.tra, t.tdec)"))
        assert plan[-1][1] == b"statement in the session"
        got = await ours.fetch(text.format("scisql_angSep(s.ra, s.decl, t.tra, t.tdec)"))
        want = await theirs.fetch(text.format(near))
        assert Counter(map(tuple, got)) == Counter(map(tuple, want))
    finally:
        await ours.close()
        await theirs.close()


def integer(value):
    return Parameter(8, False, value.to_bytes(8, "little", signed=True))


def double(value):
    return Parameter(5, False, struct.pack("<d", value))


def text(value):
    return Parameter(253, False, bytes([len(value.encode())]) + value.encode())


PREPARED = [
    ("CREATE OR REPLACE TABLE mine.p (id BIGINT PRIMARY KEY, x DOUBLE, note VARCHAR(20))",),
    ("INSERT INTO mine.p SELECT starId, ra + ?, ? FROM lab.Star WHERE starId < ?", integer(3), text("hé"), integer(20)),
    ("INSERT INTO mine.p SELECT starId, ra, ? FROM lab.Star WHERE starId BETWEEN ? AND ? ON DUPLICATE KEY UPDATE "
     "note = ?, x = x + ?", text("b"), integer(10), integer(30), text("dup"), double(1.5)),
    ("CREATE OR REPLACE TABLE mine.p2 (extra INT DEFAULT 5) AS SELECT starId, f + ? AS ff, ? AS word FROM lab.Star "
     "WHERE g = ?", double(0.5), text("w"), integer(2)),
    ("SHOW CREATE TABLE mine.p2",),
    ("SELECT extra, starId, ff * 2 AS twice, word FROM mine.p2",),
    ("REPLACE INTO mine.p (id, x, note) SELECT k, MAX(x) + ?, ? FROM (SELECT starId % ? AS k, ra AS x FROM lab.Star) q "
     "GROUP BY k", integer(1), text("r"), integer(4)),
    ("INSERT INTO mine.p SELECT starId, ra, 'ret' FROM lab.Star WHERE starId BETWEEN 40 AND ? RETURNING id + ?, note",
     integer(42), integer(1000)),
    ("UPDATE mine.p t JOIN lab.Star s ON s.starId = t.id AND s.f > ? SET t.x = s.ra + ?, t.note = ? WHERE t.id < ?",
     double(0), integer(7), text("up"), integer(15)),
    ("UPDATE mine.p SET note = ? WHERE id IN (SELECT starId FROM lab.Star WHERE starId > ?) ORDER BY id LIMIT 3",
     text("lim"), integer(9)),
    ("SELECT * FROM mine.p",),
    ("DELETE FROM mine.p WHERE x > ? AND id IN (SELECT starId FROM lab.Visit WHERE flux > ?) RETURNING id, ?",
     integer(10), double(0.5), text("gone")),
    ("SELECT * FROM mine.p",),
    ("SELECT COUNT(*), ? INTO @a, @b FROM lab.Star WHERE f > ?", integer(4), integer(0)),
    ("SET @x = (SELECT COUNT(*) + ? FROM lab.Star)", integer(4)),
    ("SELECT @a, @b, @x",),
]  # fmt: skip


async def test_parameters_around_the_query(cluster, plain):
    """Statements that store rows, or change own tables, take parameters anywhere."""
    ours, theirs = await RawConnection.open(cluster.address), await RawConnection.open(plain.address)
    try:
        for connection in (ours, theirs):
            await connection.run("CREATE DATABASE IF NOT EXISTS mine")
        for sql, *parameters in PREPARED:
            got, wanted = [await outcome(one, sql, True, parameters) for one in (ours, theirs)]
            assert (sql, *got) == (sql, *wanted)
    finally:
        await ours.close()
        await theirs.close()


async def test_explain_is_prepared(cluster):
    connection = await RawConnection.open(cluster.address, "lab")
    try:
        for sql, *parameters in [
            ("EXPLAIN SELECT COUNT(*) FROM Star WHERE f > ?", integer(3)),
            ("EXPLAIN FORMAT=JSON SELECT * FROM Star WHERE starId = ? LIMIT ?", integer(5), integer(3)),
            ("EXPLAIN UPDATE mine.kinds SET g = ? WHERE kind IN (SELECT kind FROM Star WHERE f > ?)", integer(1), integer(2)),
            ("EXPLAIN INSERT INTO mine.kinds SELECT kind, ? FROM Star ON DUPLICATE KEY UPDATE g = ?", integer(1), integer(2)),
        ]:  # fmt: skip
            await connection.run("CREATE TABLE IF NOT EXISTS mine.kinds (kind VARCHAR(10), g INT)")
            number, columns, found, _ = await outcome(connection, sql, True, parameters)
            names = [column[3] for column in columns]
            assert (number, names) == (
                0,
                [b"EXPLAIN"] if "JSON" in sql else [n.encode() for n in explain.COLUMNS],
            )
            assert any(b"Star_%CHUNK%" in row for row in found)
        assert (await outcome(connection, "EXPLAIN SELECT nothing FROM Star", True))[0] == 1054
        assert (
            await outcome(
                connection, "ANALYZE DELETE FROM mine.kinds WHERE kind IN (SELECT kind FROM Star)", False
            )
        )[0] == 1235
    finally:
        await connection.close()


async def test_warnings_of_a_query_that_stops_early(cluster):
    connection = await RawConnection.open(cluster.address, "lab")
    try:
        for sql, rows_wanted in [
            ("SELECT starId, 1/0 FROM Star LIMIT 3", 3),
            ("SELECT starId, CAST('1x' AS SIGNED) FROM Star LIMIT 150", 150),
            ("SELECT starId, starId/0 FROM Star WHERE starId = 5 LIMIT 1", 1),
        ]:
            for _ in range(5):
                result = await connection.query(sql.encode())
                assert sum([block.rows async for block in result.blocks()]) == rows_wanted
                told = result.end.warnings
                assert rows_wanted <= told <= 400
                assert await connection.fetch("SHOW COUNT(*) WARNINGS") == [[str(told).encode()]]
                listed = await connection.fetch("SHOW WARNINGS")
                assert min(rows_wanted, 64) <= len(listed) <= 64
                assert all(row[0] == b"Warning" for row in listed)
    finally:
        await connection.close()


async def test_gather_limit(cluster):
    connection = await RawConnection.open(cluster.address, "lab")
    sql = "SELECT a.starId FROM Star a, Ref r WHERE r.mag = a.f"
    try:
        await connection.run("SET skyshard_gather_limit = 1000")
        assert await connection.fetch("SELECT @@skyshard_gather_limit") == [[b"1000"]]
        with pytest.raises(ServerError) as caught:
            await connection.fetch(sql)
        assert caught.value.errno == 1104
        assert "Star" in caught.value.message
        await connection.run("SET SESSION skyshard_gather_limit = DEFAULT")
        assert await connection.fetch(sql) == []
    finally:
        await connection.close()


async def test_found_rows_and_table_status(cluster):
    connection = await RawConnection.open(cluster.address, "lab")
    try:
        for sql, wanted in [
            ("SELECT SQL_CALC_FOUND_ROWS starId FROM Star WHERE f > 0 ORDER BY starId LIMIT 3, 4", None),
            ("SELECT SQL_CALC_FOUND_ROWS kind, COUNT(*) FROM Star GROUP BY kind ORDER BY kind LIMIT 1", 4),
            ("SELECT SQL_CALC_FOUND_ROWS starId FROM Star WHERE starId = 5 LIMIT 1", 1),
            ("SELECT starId FROM Star LIMIT 7", 7),
            ("SELECT starId FROM Star LIMIT 7 OFFSET 2", 9),
            ("SELECT starId FROM Star LIMIT 7 OFFSET 500", 400),
            ("SELECT starId FROM Star ORDER BY starId LIMIT 7 OFFSET 500", 400),
            ("SELECT starId FROM Star ORDER BY starId LIMIT 2000 OFFSET 500", 400),
            ("SELECT starId FROM Star WHERE starId = 5 ORDER BY ra LIMIT 7 OFFSET 2", 1),
            ("SELECT starId FROM Star LIMIT 0 OFFSET 2", 0),
            ("SELECT kind, COUNT(*) FROM Star GROUP BY kind ORDER BY 2 LIMIT 2 OFFSET 9", 4),
            ("SELECT starId FROM Star ORDER BY starId OFFSET 3 ROWS FETCH NEXT 2 ROWS ONLY", 5),
            ("SELECT starId FROM Star INTERSECT SELECT visitId FROM Visit LIMIT 1", 400),
            ("SELECT starId FROM Star UNION ALL SELECT starId FROM Star LIMIT 2 OFFSET 3", 5),
        ]:
            found = wanted
            if found is None:
                found = int((await connection.fetch("SELECT COUNT(*) FROM Star WHERE f > 0"))[0][0])
            await connection.fetch(sql)
            assert await connection.fetch("SELECT FOUND_ROWS()") == [[str(found).encode()]]
        status = {row[0]: row[4] for row in await connection.fetch("SHOW TABLE STATUS FROM lab")}
        for name in (b"Star", b"Visit", b"StarRef"):
            assert [[status[name]]] == await connection.fetch(f"SELECT COUNT(*) FROM {name.decode()}")
    finally:
        await connection.close()


async def test_medians(cluster):
    """scisql_median and scisql_percentile against numpy, over chunks, groups and joins."""
    connection = await RawConnection.open(cluster.address, "lab")
    try:
        raw = await connection.fetch("SELECT kind, small FROM Star")
        groups = {}
        for kind, value in raw:
            groups.setdefault(kind, []).extend([] if value is None else [float(value)])
        found = await connection.fetch(
            "SELECT kind, scisql_median(small), scisql_percentile(small, 12.5) AS p, COUNT(*) FROM Star GROUP BY kind"
        )
        assert len(found) == len(groups)
        for kind, median, part, _ in found:
            assert float(median) == pytest.approx(np.percentile(groups[kind], 50), rel=1e-14)
            assert float(part) == pytest.approx(np.percentile(groups[kind], 12.5), rel=1e-14)
        flux = [
            float(row[0])
            for row in await connection.fetch("SELECT flux FROM Visit WHERE starId = 3 AND flux IS NOT NULL")
        ]
        assert float(
            (await connection.fetch("SELECT scisql_median(flux) FROM Visit WHERE starId = 3"))[0][0]
        ) == pytest.approx(np.median(flux), rel=1e-14)
        assert await connection.fetch("SELECT scisql_median(flux) FROM Visit WHERE starId < 0") == [[None]]
    finally:
        await connection.close()


async def test_htm_ids_of_columns(cluster):
    """scisql_s2HtmId of columns against lsst-sphgeom, on the workers and at home."""
    connection = await RawConnection.open(cluster.address, "hip")
    try:
        for level in (0, 7, 20):
            pixels = sphgeom.HtmPixelization(level)
            found = await connection.fetch(
                f"SELECT ra, decl, scisql_s2HtmId(ra, decl, {level}) FROM Object WHERE objectId < 2000"
            )
            assert len(found) > 1500
            for ra, decl, number in found:
                place = sphgeom.UnitVector3d(sphgeom.LonLat.fromDegrees(float(ra), float(decl)))
                assert int(number) == pixels.index(place)
        assert await connection.fetch(
            "SELECT scisql_s2HtmId(a, 1, 5), scisql_s2HtmId(a, 91 + a, 5), scisql_s2HtmId(a, 0, 25), "
            "scisql_s2HtmId(NULL, a, 5) FROM (SELECT 7 AS a) x"
        ) == [[str(sphgeom.HtmPixelization(5).index(sphgeom.UnitVector3d(
            sphgeom.LonLat.fromDegrees(7, 1)))).encode(), None, None, None]]  # fmt: skip
    finally:
        await connection.close()


async def test_a_view_that_is_made_elsewhere_is_known_soon(cluster):
    """A view made at the home server itself, as through another proxy, works without a word to this one."""
    connection = await RawConnection.open(cluster.address)
    home = await RawConnection.open(home_address(cluster.directory, states.read(cluster.directory)))
    try:
        counted = await connection.fetch("SELECT COUNT(*) FROM lab.Star WHERE g > 2")
        await home.run("CREATE DATABASE IF NOT EXISTS elsewhere")
        await home.run("CREATE OR REPLACE VIEW elsewhere.bright AS SELECT starId FROM lab.Star WHERE g > 2")
        found, until = None, time.monotonic() + 20
        while found is None and time.monotonic() < until:
            try:
                found = await connection.fetch("SELECT COUNT(*) FROM elsewhere.bright")
            except ServerError as error:
                if error.errno != 1235:
                    raise
        assert found == counted
    finally:
        await home.run("DROP DATABASE IF EXISTS elsewhere")
        await home.close()
        await connection.close()
