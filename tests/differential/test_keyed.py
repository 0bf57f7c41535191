"""Users' tables joined by key, and long lists of keys: split by the director index, and right as on one server."""

import asyncio
import re
from collections import Counter

import pytest

from backend.connection import RawConnection
from tests.differential.test_own import integer, outcome
from tests.support import twin

CATALOG = """\
database: keyed
partitioning: {stripes: 12, sub_stripes: 4, overlap_deg: 0.5}
tables:
  - {name: Big, kind: director, key: id, longitude: ra, latitude: decl, files: [big.csv],
     columns: {id: BIGINT UNSIGNED NOT NULL, ra: DOUBLE, decl: DOUBLE, g: INT}}
  - {name: Part, kind: dependent, director: Big, key: partId, director_key: id, files: [part.csv],
     columns: {partId: INT, id: BIGINT UNSIGNED, v: DOUBLE}}
  - {name: Twice, kind: director, key: k, longitude: ra, latitude: decl, files: [twice.csv],
     columns: {k: INT, ra: DOUBLE, decl: DOUBLE}}
"""
AGAIN = """\
database: keyed2
partitioning: {stripes: 10, sub_stripes: 3, overlap_deg: 0.4}
tables:
  - {name: Big, kind: director, key: id, longitude: ra, latitude: decl, files: [big2.csv],
     columns: {id: BIGINT UNSIGNED NOT NULL, ra: DOUBLE, decl: DOUBLE, g: INT}}
"""
LARGEST = (1 << 64) - 1
MINE = """\
CREATE OR REPLACE DATABASE mine
CREATE TABLE mine.u (n INT AUTO_INCREMENT PRIMARY KEY, k BIGINT UNSIGNED, w VARCHAR(25), d DECIMAL(20,0), s BIGINT, t TINYINT, UNIQUE KEY (n, k), UNIQUE KEY (w(3), n))
INSERT INTO mine.u (k, w, d, s, t) SELECT id, id, id, IF(id < 1000, id, -g), id % 100 FROM keyed.Big WHERE id % 3 = 0 ORDER BY id
INSERT INTO mine.u (k, w, d, s, t) VALUES (NULL, NULL, NULL, NULL, NULL), (3, 'a\\tb', 3.0, 3, 3), (3, '3x', 3, -3, 3), (18446744073709551615, 'x', 5, -1, 5), (777777, 'none', 1, 777777, 1), (9223372036854775808, 'y', 6, 6, 6)
CREATE TABLE mine.z (k INT(8) ZEROFILL, i BIGINT INVISIBLE DEFAULT 9, gen BIGINT AS (k + 1) VIRTUAL, txt TEXT UNIQUE)
INSERT INTO mine.z (k, i, txt) SELECT k, k, CONCAT('t', k) FROM keyed.Twice WHERE k < 40 GROUP BY k
CREATE TABLE mine.p (id INT PRIMARY KEY, pra DOUBLE, pdec DOUBLE)
INSERT INTO mine.p SELECT starId, ra, decl FROM lab.Star
""".strip().split("\n")  # fmt: skip
QUERIES = """\
SELECT u.*, b.id, b.g FROM mine.u u JOIN keyed.Big b ON b.id = u.k
SELECT u.n, b.g FROM mine.u u JOIN keyed.Big b ON u.s = b.id
SELECT u.n, b.g FROM keyed.Big b, mine.u u WHERE u.t = b.id AND u.n > 4
SELECT COUNT(*), SUM(b.g), MIN(u.w), MAX(u.n) FROM mine.u u JOIN keyed.Big b ON b.id = u.k
SELECT b.g, COUNT(*), COUNT(DISTINCT u.n) FROM mine.u u JOIN keyed.Big b ON b.id = u.k GROUP BY b.g HAVING COUNT(*) > 1
SELECT u.n, b.id, p.v FROM mine.u u JOIN keyed.Big b ON b.id = u.k JOIN keyed.Part p ON p.id = b.id
SELECT u.n, p.v FROM mine.u u JOIN keyed.Part p ON p.id = u.k
SELECT u.n, p.v FROM mine.u u JOIN keyed.Part p ON p.id = u.k WHERE p.v > 0 ORDER BY p.v DESC, u.n LIMIT 7
SELECT u.n, b.id, p.v FROM mine.u u JOIN keyed.Big b ON b.id = u.k LEFT JOIN keyed.Part p ON p.id = b.id AND p.v > 0
SELECT b.id, u.n, u.w FROM keyed.Big b LEFT JOIN mine.u u ON u.k = b.id
SELECT b.id, u.n, u.w FROM keyed.Big b LEFT JOIN mine.u u ON u.k = b.id AND u.n > 5 OR u.n = 1
SELECT b.id, u.n, u.w FROM keyed.Big b LEFT JOIN mine.u u ON u.k = b.id AND (u.n > 5 OR u.n = 1) WHERE u.n IS NULL
SELECT b.id, COUNT(u.n) FROM keyed.Big b LEFT JOIN mine.u u ON b.id = u.k GROUP BY b.id
SELECT u.n, b.id FROM mine.u u LEFT JOIN keyed.Big b ON b.id = u.k
SELECT u.n, b.id FROM keyed.Big b RIGHT JOIN mine.u u ON b.id = u.k
SELECT COUNT(*), COUNT(b.id) FROM mine.u u LEFT JOIN keyed.Big b ON b.id = u.k
SELECT b.id, u.n FROM mine.u u RIGHT JOIN keyed.Big b ON b.id = u.k
SELECT b.id, p.v, u.n FROM mine.u u JOIN keyed.Part p ON p.id = u.k RIGHT JOIN keyed.Big b ON b.id = p.id
SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON b.id = u.w WHERE b.id < 1000
SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON b.id = u.d
SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON b.id <=> u.k
SELECT b.id, a.n, c.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id JOIN mine.u c ON c.k = b.id
SELECT b.id, a.n, c.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id LEFT JOIN mine.u c ON c.k = b.id AND c.n <> a.n
SELECT b.id, a.n, c.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id JOIN mine.u c ON c.n = a.n + 1
SELECT b.id, a.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id WHERE EXISTS (SELECT 1 FROM mine.u c WHERE c.k > b.id)
SELECT b.id, a.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id WHERE b.id IN (3, 6, 9, 12, 15, 18, 21, 24, 27, 30)
SELECT b.id, a.n FROM mine.u a JOIN keyed.Big b ON a.k = b.id WHERE a.n < 0
SELECT COUNT(*), SUM(b.g) FROM mine.u a JOIN keyed.Big b ON a.k = b.id WHERE a.k = 777777
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT k FROM mine.u WHERE n > 3)
SELECT b.id FROM keyed.Big b WHERE b.id NOT IN (SELECT k FROM mine.u WHERE k IS NOT NULL)
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT x.k AS kk FROM mine.u x WHERE x.n > b.g) AND b.g > 0
SELECT b.g, COUNT(*) FROM keyed.Big b WHERE b.id IN (SELECT k FROM mine.u) GROUP BY b.g
SELECT p.v, b.g FROM keyed.Big b JOIN keyed.Part p ON p.id = b.id WHERE p.id IN (SELECT s FROM mine.u) AND b.id IN (SELECT k FROM mine.u WHERE t > 20)
SELECT b.id, a.n FROM keyed.Big b JOIN mine.u a ON a.k = b.id WHERE b.id IN (SELECT k FROM mine.u WHERE n < 20)
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT k FROM mine.u WHERE n < 20) OR b.g = 1
SELECT b.id FROM keyed.Big b WHERE (b.id IN (SELECT k FROM mine.u WHERE n < 20)) IS NULL
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT w FROM mine.u WHERE n < 20)
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT MAX(k) FROM mine.u)
SELECT b.id FROM keyed.Big b WHERE b.id IN (SELECT k FROM mine.u WHERE n = (SELECT MAX(n) FROM mine.u WHERE k < 50))
SELECT b.id FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id AND p.id IN (SELECT k FROM mine.u) WHERE b.g = 2
SELECT b.id, p.v FROM keyed.Part p JOIN keyed.Big c ON c.id = p.id AND c.id IN (SELECT k FROM mine.u) RIGHT JOIN keyed.Big b ON b.id = p.id
SELECT t.k FROM keyed.Twice t WHERE t.k IN (SELECT k FROM mine.z)
SELECT t.k, t.ra, z.i, z.gen FROM mine.z JOIN keyed.Twice t ON t.k = z.k
SELECT t.k, COUNT(*) FROM mine.z JOIN keyed.Twice t USING (k) GROUP BY t.k
SELECT t.k, z.i FROM keyed.Twice t LEFT JOIN mine.z ON z.k = t.k
SELECT t.k, z.i FROM keyed.Twice t LEFT JOIN mine.z USING (k)
SELECT t.k, z.i FROM keyed.Twice t JOIN mine.z ON z.i = t.k
SELECT t.k, z.i FROM keyed.Twice t JOIN mine.z ON z.gen = t.k
SELECT z.k FROM keyed.Twice t NATURAL JOIN mine.z
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 777777, 5, 5)
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -11, NULL)
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, -10, -1, 0)
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 18446744073709551615, 9223372036854775808)
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8.5, '9', 10)
SELECT * FROM keyed.Big WHERE NOT id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) OR g = 3
SELECT * FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) IS NOT TRUE AND g < 2
SELECT id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), COUNT(*) FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 30, 31, 32) GROUP BY 1
SELECT partId, v FROM keyed.Part WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40) ORDER BY partId
SELECT COUNT(*), AVG(v) FROM keyed.Part WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40) AND id IN (3, 4, 5, 6, 7, 8, 9, 10, 40, 50)
SELECT b.id, p.v FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id AND p.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) WHERE b.id < 20
SELECT b.id, p.v FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id WHERE p.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT b.id, p.v FROM keyed.Part p RIGHT JOIN keyed.Big b ON p.id = b.id WHERE b.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT b.id, p.v, c.g FROM keyed.Part p JOIN keyed.Big c ON p.id = c.id AND c.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9) RIGHT JOIN keyed.Big b ON p.id = b.id
SELECT k, ra FROM keyed.Twice WHERE k IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT q.id, q.n FROM (SELECT id, COUNT(*) n FROM keyed.Part GROUP BY id) q WHERE q.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT q.id, q.n, u.n FROM (SELECT id, COUNT(*) n FROM keyed.Part GROUP BY id) q JOIN mine.u u ON u.k = q.id
SELECT s.starId, r.refId, m.dist FROM lab.Star s JOIN lab.StarRef m ON m.starId = s.starId JOIN lab.Ref r ON r.refId = m.refId WHERE s.starId IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT p.id, r.refId, m.dist FROM mine.p p JOIN lab.StarRef m ON m.starId = p.id JOIN lab.Ref r ON r.refId = m.refId JOIN lab.Star s ON s.starId = m.starId
SELECT p.id, m.dist FROM mine.p p JOIN lab.StarRef m ON m.starId = p.id
SELECT p.id, x.n FROM (SELECT starId, COUNT(*) n FROM lab.Visit GROUP BY starId) x JOIN mine.p p ON p.id = x.starId
SELECT b.id, -1 n FROM keyed.Big b LEFT JOIN mine.u u ON u.k = b.id WHERE u.k IS NULL UNION ALL SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON u.k = b.id
SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON u.k = b.id UNION ALL SELECT b.id, u.n FROM keyed.Big b LEFT JOIN mine.u u ON u.k = b.id
SELECT b.id, u.n FROM keyed.Big b JOIN mine.u u ON u.k = b.id UNION ALL SELECT b.id, u.n FROM keyed2.Big b JOIN mine.u u ON u.k = b.id
SELECT a.id, a.g, b.g FROM keyed.Big a JOIN keyed2.Big b ON a.id = b.id JOIN mine.u u ON u.k = a.id AND u.k = b.id
SELECT id, g FROM keyed.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) UNION ALL SELECT id, g FROM keyed2.Big WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT a.id, a.ra, b.ra FROM keyed.Big a JOIN keyed2.Big b ON a.id = b.id WHERE a.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) AND b.id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
SELECT t.k, f.v, z.i FROM lab.Lut f RIGHT JOIN mine.z z ON f.n = z.i JOIN keyed.Twice t ON t.k = z.k
SELECT b.id, f.v FROM lab.Lut f RIGHT JOIN mine.u USING (n) JOIN keyed.Big b ON b.id = u.k
SELECT b.id IN (SELECT p.id FROM keyed.Part p WHERE p.id IS NOT NULL) AS has, COUNT(*) FROM keyed.Big b GROUP BY has
SELECT b.g, COUNT(*) FROM keyed.Big b GROUP BY b.g, b.id IN (SELECT p.id FROM keyed.Part p WHERE p.id IS NOT NULL) ORDER BY b.g, 2
SELECT b.id IN (SELECT p.id FROM keyed.Part p WHERE p.v > 0 AND p.id IS NOT NULL) AS has, b.g, COUNT(*) FROM keyed.Big b GROUP BY b.g, b.id HAVING b.id IN (SELECT p.id FROM keyed.Part p WHERE p.id IS NOT NULL)
SELECT b.g, MAX(b.id IN (SELECT p.id FROM keyed.Part p WHERE p.id IS NOT NULL)) FROM keyed.Big b GROUP BY b.g
SELECT b.g, COUNT(*) FROM keyed.Big b GROUP BY b.g HAVING MAX(b.id) IN (SELECT u.k FROM mine.u u)
SELECT k, COUNT(*) FROM (SELECT u.k, b.g FROM mine.u u JOIN keyed.Big b ON b.id = u.k) q GROUP BY k
""".strip().split("\n")  # fmt: skip

RANGES = [
    f"SELECT id, g FROM keyed.Big WHERE {condition}"
    for condition in """\
id > 5 AND id < 9
id >= 5 AND id <= 9 AND g <> 2
4.5 < id AND 9.5 >= id
id > -4.5 AND id < 5.0
id < 5
id > 110
id > 9223372036854775807
id >= 9223372036854775807 AND id < 18446744073709551615
id > 18446744073709551615
id >= 18446744073709551616
id <= 18446744073709551615.5
id < 99999999999999999999999999999999999999
id > -1
id < -1
id <= -9223372036854775809
id BETWEEN -1 AND 5
id BETWEEN 5 AND -1
id BETWEEN 9 AND 5
id BETWEEN 4.2 AND 4.8
id BETWEEN 100 AND 20000
id BETWEEN 100 AND 9223372036854775808
id BETWEEN 1e1 AND 2e1
id BETWEEN 110 AND 1e30
id BETWEEN '110' AND 2000
id BETWEEN 9223372036854775808 AND 1e19
id > 9.3e18
id > '110'
id > '110x'
id NOT BETWEEN 5 AND 20000
NOT id < 110
NOT (id > 5 AND id < 2000)
(id > 5) IS NOT TRUE
(id > 5 AND id < 110) = 0
id < 3 OR id BETWEEN 2 AND 7 OR id > 116
id < 3 OR g = 1
id < 3 OR id IS NULL
id < 3 XOR id > 110
id > NULL
id BETWEEN NULL AND 5
id BETWEEN 5 AND g + 6
id > TRUE AND id < 4
id > 0x10 AND id < 0x20
id > 5 AND id < 3
id > 5 AND id IN (3, 7, 9) AND id < 9""".strip().split("\n")
] + """\
SELECT partId, id FROM keyed.Part WHERE id > 100
SELECT COUNT(*), COUNT(id) FROM keyed.Part WHERE id < 18446744073709551615
SELECT b.id, p.v FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id AND p.id > 100
SELECT b.id, p.v FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id AND b.id < 100 WHERE p.v IS NULL
SELECT b.id, p.v FROM keyed.Big b LEFT JOIN keyed.Part p ON p.id = b.id WHERE p.id > 100
SELECT b.id, p.v FROM keyed.Part p RIGHT JOIN keyed.Big b ON p.id = b.id AND p.id > 100 WHERE b.id < 110
SELECT b.id, p.v FROM keyed.Part p JOIN keyed.Big b ON p.id = b.id WHERE p.id > 5 AND b.id < 12
SELECT a.id, b.id FROM keyed.Big a JOIN keyed.Big b ON a.g = b.g WHERE a.id < 4 AND b.id > 110
SELECT k, COUNT(*) FROM keyed.Twice WHERE k > 5 AND k < 4e9 GROUP BY k
SELECT q.id, q.n FROM (SELECT id, COUNT(*) n FROM keyed.Part WHERE id > 7 GROUP BY id) q WHERE q.id < 100
SELECT id FROM keyed.Big WHERE id IN (SELECT id FROM keyed.Part WHERE id > 90 AND id < 100)
SELECT id, (SELECT MAX(v) FROM keyed.Part p WHERE p.id = b.id AND p.id > 50) FROM keyed.Big b WHERE b.id > 40
SELECT s.starId, m.refId FROM lab.Star s JOIN lab.StarRef m ON m.starId = s.starId WHERE m.starId > 390 AND s.starId < 400
SELECT m.starId, r.refId FROM lab.Ref r JOIN lab.StarRef m ON m.refId = r.refId WHERE m.starId > 390
SELECT id FROM keyed.Big WHERE id > 100 ORDER BY id LIMIT 5""".strip().split("\n")  # fmt: skip


def write(directory):
    """Write a catalogue with unsigned keys up to the largest, NULL keys of dependents, and keys in two chunks."""
    directory.mkdir()
    keys = [*range(120), (1 << 63) - 1, 1 << 63, LARGEST]
    big = [f"{key},{(key * 37) % 360}.5,{(key * 13) % 170 - 85}.25,{key % 5}" for key in keys]
    part = [
        f"{n},{keys[n * 7 % len(keys)] if n % 5 else ''},{n * 3 % 11 - 5}.5" for n in range(1, 300) if n % 5
    ]
    big2 = [f"{key},{(key * 53 + 100) % 360}.25,{(key * 29) % 170 - 85}.75,{key % 7}" for key in keys]
    twice = [f"{n % 50},{n * 41 % 360}.5,{n * 17 % 170 - 85}.5" for n in range(100)]
    for name, head, lines in (
        ("big", "id,ra,decl,g", big),
        ("part", "partId,id,v", part),
        ("twice", "k,ra,decl", twice),
        ("big2", "id,ra,decl,g", big2),
    ):
        (directory / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")
    (directory / "catalog.yaml").write_text(CATALOG)
    (directory / "again.yaml").write_text(AGAIN)
    return directory / "catalog.yaml"


@pytest.fixture(scope="module")
def keyed(cluster, plain, tmp_path_factory):
    catalog = write(tmp_path_factory.mktemp("keyed") / "files")
    for file, database in ((catalog, "keyed"), (catalog.with_name("again.yaml"), "keyed2")):
        cluster.ingest(file)
        asyncio.run(twin.copy_database(cluster.directory, database, plain.address))

    async def make():
        for address in (cluster.address, plain.address):
            connection = await RawConnection.open(address)
            for sql in MINE:
                await connection.run(sql)
            await connection.close()

    asyncio.run(make())
    return cluster


@pytest.fixture
async def pair(keyed, plain):
    both = [await RawConnection.open(keyed.address), await RawConnection.open(plain.address)]
    yield both
    for connection in both:
        await connection.close()


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_answers(pair, binary):
    ours, theirs = pair
    wrong = []
    for sql in [*QUERIES, *RANGES]:
        got, want = await outcome(ours, sql, binary), await outcome(theirs, sql, binary)
        if got != want or want[0]:
            wrong.append((sql, got, want))
    assert not wrong


async def test_lists_of_parameters(pair):
    ours, theirs = pair
    for keys in ([3, 5, 7, 9, 11, 13, 15, 17, -1], list(range(200))):
        sql = f"SELECT id, g + ? FROM keyed.Big WHERE id IN ({', '.join('?' * len(keys))}) AND g < ?"
        given = [integer(1), *map(integer, keys), integer(4)]
        assert await outcome(ours, sql, True, given) == await outcome(theirs, sql, True, given)


async def test_ranges_of_parameters(pair):
    ours, theirs = pair
    sql = "SELECT id, g FROM keyed.Big WHERE id > ? AND ? >= id"
    for ends in ((5, 9), (-3, 1 << 40), (9, 5), ((1 << 63) - 2, (1 << 63) - 1)):
        given = list(map(integer, ends))
        assert await outcome(ours, sql, True, given) == await outcome(theirs, sql, True, given)


@pytest.mark.parametrize(
    ("condition", "chunks"),
    [
        ("id > 118", 4),
        ("id BETWEEN 119 AND 18446744073709551615", 4),
        ("id >= 0", None),
        ("id < 3 OR id > 9223372036854775807", 5),
        ("NOT id > 118", None),
    ],
)
async def test_a_range_asks_the_chunks_that_have_its_keys(pair, condition, chunks):
    ((_, _, _, asked, *_),) = await pair[0].fetch(f"EXPLAIN SELECT g FROM keyed.Big WHERE {condition}")
    ((every,),) = await pair[0].fetch("SELECT COUNT(DISTINCT chunkId) FROM keyed.Big")
    wanted = await pair[1].fetch(f"SELECT COUNT(DISTINCT chunkId) FROM keyed.Big WHERE {condition}")
    assert wanted[0][0] == asked if chunks else int(asked) >= int(every)
    assert chunks is None or int(asked) <= chunks < int(every)


@pytest.mark.parametrize(
    ("sql", "split"),
    [
        ("SELECT 1 FROM mine.u u JOIN keyed.Big b ON b.id = u.k", True),
        ("SELECT 1 FROM mine.u u JOIN keyed.Part p ON p.id = u.s", True),
        ("SELECT 1 FROM keyed.Big b LEFT JOIN mine.u u ON b.id = u.k", True),
        ("SELECT 1 FROM mine.u u JOIN keyed.Big b ON b.id = u.w", False),
        ("SELECT 1 FROM mine.u u JOIN keyed.Big b ON b.id = u.d", False),
        ("SELECT 1 FROM mine.u u JOIN keyed.Big b ON b.g = u.k", False),
        ("SELECT 1 FROM mine.z JOIN keyed.Twice t ON t.k = z.gen", False),
        ("SELECT 1 FROM keyed.Big b LEFT JOIN mine.u u ON b.id = u.k OR u.n = 1", False),
    ],
)
async def test_explain_says_what_is_split(pair, sql, split):
    steps = [row[1].decode() for row in await pair[0].fetch("EXPLAIN " + sql)]
    assert any("split by director index of" in step for step in steps) == split


async def test_chunks_without_rows_are_not_asked(pair, keyed):
    log = keyed.directory / "logs" / "proxy1.log"
    before = log.stat().st_size
    await pair[0].fetch("SELECT u.n FROM mine.u u JOIN keyed.Part p ON p.id = u.k WHERE u.n >= 0")
    every = await pair[0].fetch("SELECT COUNT(DISTINCT chunkId) FROM keyed.Big")
    said = re.findall(r"chunks=(\d+)/(\d+)", log.read_text()[before:])
    assert 0 < int(said[0][1]) < int(every[0][0])


async def test_cross_match_with_a_keyed_table(pair):
    """Rows of a table with a primary key go to several chunks."""
    near = "SELECT p.id, s.starId FROM mine.p p JOIN lab.Star s ON scisql_angSep(s.ra, s.decl, p.pra, p.pdec) < 0.001"
    got = Counter(map(tuple, await pair[0].fetch(near)))
    assert sum(got.values()) >= 400
    assert {(row[0], row[0]) for row in got} <= set(got)


async def test_cross_matches_of_two_radii(pair):
    """Each part of a statement has the rows that its own radius needs."""
    near = "SELECT p.id, s.starId FROM mine.p p JOIN lab.Star s ON scisql_angSep(s.ra, s.decl, p.pra, p.pdec) < {}"
    wide, narrow = near.format(0.4), near.format(0.001)
    apart = [await pair[0].fetch(sql) for sql in (wide, narrow)]
    for first, second in ((wide, narrow), (narrow, wide)):
        together = await pair[0].fetch(f"{first} UNION ALL {second}")
        assert Counter(map(tuple, together)) == Counter(tuple(row) for rows in apart for row in rows)
