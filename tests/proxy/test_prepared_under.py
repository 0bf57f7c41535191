"""Prepared statements run as they were read, and no other in their place; what they leave behind at home."""

import struct

import pytest

from tests.proxy.test_traps import home_of
from tests.support.rawclient import CURSOR_EXISTS, refused

LAST = 0xFFFFFFFF


@pytest.fixture
def both(pair):
    """Return the same client at skyshard and at plain MariaDB, with two databases of their own."""
    clients = pair(database="hip")
    for client in clients:
        for name in ("under_a", "under_b"):
            client.query(f"CREATE OR REPLACE DATABASE {name}")
            client.query(f"CREATE TABLE {name}.t (a BIGINT, b BIGINT DEFAULT 0)")
    yield clients
    for client in clients:
        client.query("DROP DATABASE under_a")
        client.query("DROP DATABASE under_b")


# the last one prepared -----------------------------------------------------------------------------


def pipelined(client, *payloads):
    """Send commands without waiting."""
    data = b""
    for payload in payloads:
        client.seq = 0
        data += client.frame(payload)
    client.socket.sendall(data)


def execute(number):
    return b"\x17" + struct.pack("<IBI", number, 0, 1)


def test_what_was_refused_is_not_executed_as_the_one_before(raw, own):
    client = raw(database=own)
    client.query("CREATE TABLE log (a INT)")
    first, _, _ = client.prepare("INSERT INTO log VALUES (1)")
    for refusal in ("DELETE FROM hip.Object", "SELECT FROM"):
        pipelined(client, b"\x16" + refusal.encode(), execute(LAST))
        numbers = []
        for _ in range(2):
            client.seq = 1
            numbers.append(refused(client.read_ok))
        assert numbers[0] in (1290, 1064)
        assert numbers[1] == 1243
    assert client.query("SELECT COUNT(*) FROM log").rows == [(b"0",)]
    client.execute(first)
    assert client.query("SELECT COUNT(*) FROM log").rows == [(b"1",)]
    assert client.prepare("INSERT INTO log VALUES (2)")
    assert client.execute(LAST).affected == 1


@pytest.mark.parametrize("sql", ["SELECT 1", "SELECT COUNT(*) FROM Object"])
def test_the_last_one_may_be_gone(pair, sql):
    found = []
    for client in pair():
        seen = []
        kept, _, _ = client.prepare("SELECT 5")
        number, _, _ = client.prepare(sql)
        client.command(b"\x19" + number.to_bytes(4, "little"))
        seen.append(refused(client.execute, LAST))
        seen.append(refused(client.fetch, LAST, 1))
        seen.append(refused(client.simple, b"\x1a" + LAST.to_bytes(4, "little")))
        client.command(b"\x18" + struct.pack("<IH", LAST, 0) + b"x")  # no reply, nor has the next
        client.command(b"\x19" + LAST.to_bytes(4, "little"))
        seen.append(client.execute(kept).rows)
        found.append(seen)
    assert found[0] == found[1]


# names and modes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("INSERT INTO t (a) SELECT objectId FROM hip.Object WHERE objectId < ?", (5,)),
        ("REPLACE INTO t (a) SELECT objectId FROM hip.Object WHERE objectId < 4", ()),
        ("CREATE TABLE made AS SELECT objectId AS a FROM hip.Object WHERE objectId < 4", ()),
        ("UPDATE t SET b = 9 WHERE a IN (SELECT objectId FROM hip.Object WHERE objectId < ?)", (3,)),
        ("DELETE FROM t WHERE a IN (SELECT objectId FROM hip.Object WHERE objectId < 2)", ()),
        ("DELETE t FROM t JOIN hip.Object o ON o.objectId = t.a WHERE o.objectId > ?", (1,)),
    ],
)
def test_what_is_stored_or_changed_is_in_the_database_of_prepare(both, sql, values):
    found = []
    for client in both:
        for name in ("under_a", "under_b"):
            client.query(f"INSERT INTO {name}.t VALUES (1, 0), (2, 0), (3, 0)")
        client.query("USE under_a")
        number, _, _ = client.prepare(sql)
        client.query("USE under_b")
        client.execute(number, values)
        seen = [client.query("SELECT DATABASE()").rows]
        for name in ("under_a", "under_b"):
            seen.append(sorted(client.query(f"SELECT * FROM {name}.t").rows))
            seen.append(client.query(f"SHOW TABLES FROM {name}").rows)
        found.append(seen)
    assert found[0] == found[1]
    assert len(found[0][3]) == 3


@pytest.mark.parametrize(
    ("before", "sql", "then"),
    [
        ("sql_mode = ''", r"SELECT 'a\\b', COUNT(*) FROM lab.Star WHERE name <> 'a\\'", "sql_mode = 'NO_BACKSLASH_ESCAPES'"),
        ("sql_mode = 'NO_BACKSLASH_ESCAPES'", r"SELECT 'a\\b', COUNT(*) FROM lab.Star WHERE name <> '\'", "sql_mode = ''"),
        ("sql_mode = ''", 'SELECT "x", COUNT(*) FROM lab.Star WHERE name <> "name"', "sql_mode = 'ANSI_QUOTES'"),
        ("sql_mode = 'ANSI_QUOTES'", 'SELECT COUNT("name") FROM lab.Star WHERE "g" > 0', "sql_mode = ''"),
        ("sql_mode = ''", "SELECT COUNT(*) FROM lab.Star WHERE starId || g", "sql_mode = 'PIPES_AS_CONCAT'"),
        ("sql_mode = 'ANSI'", "SELECT MAX(starId || '-'), COUNT (*) FROM lab.Star", "sql_mode = 'STRICT_ALL_TABLES'"),
        ("sql_mode = ''", "SELECT COUNT(*) FROM lab.Star WHERE NOT g BETWEEN -5 AND 5", "sql_mode = 'HIGH_NOT_PRECEDENCE'"),
        ("NAMES utf8mb4", "SELECT '日', COUNT(*) FROM lab.Star WHERE name < '日'", "NAMES latin1"),
        ("NAMES latin1", "SELECT HEX('é'), COUNT(*) FROM lab.Star WHERE name <> 'Ã…ngstrÃ¶m'", "NAMES utf8mb4"),
        ("NAMES utf8mb4", "SELECT COUNT(*) FROM lab.Star WHERE 'a' = 'A'", "NAMES utf8mb4 COLLATE utf8mb4_bin"),
    ],
)  # fmt: skip
def test_a_statement_is_read_as_when_it_was_prepared(both, before, sql, then):
    found = []
    for client in both:
        client.query(f"SET {before}")
        number, _, _ = client.prepare(sql)
        client.query(f"SET {then}")
        client.query("USE under_a")
        seen = [client.execute(number).rows for _ in range(2)]
        client.query("SET @@character_set_results = utf8mb4")
        seen.append(
            client.query("SELECT @@sql_mode, @@character_set_client, @@collation_connection, DATABASE()").rows
        )
        found.append(seen)
    assert found[0] == found[1]


def test_values_keep_the_present_character_set(both):
    """Which a text read in another cannot go with; one that has no literals can."""
    found = []
    for client in both:
        client.query("SET NAMES utf8mb4")
        plain, _, _ = client.prepare(
            "SELECT starId, name FROM lab.Star WHERE name = ? ORDER BY starId LIMIT 3"
        )
        mixed, _, _ = client.prepare("SELECT starId, 'ö' FROM lab.Star WHERE starId = ? ORDER BY starId")
        client.query("SET NAMES latin1")
        found.append([client.execute(plain, ("angstrom",)).rows, client.execute(mixed, (7,)).rows])
        last = mixed
    assert found[0] == found[1]
    assert found[0][0]
    assert refused(both[0].execute, last, ("7",)) == 1235
    both[0].query("SET NAMES utf8mb4")
    assert len(both[0].execute(last, ("7",)).rows) == 1


def test_a_text_of_prepare_is_refused_under_another_character_set(raw):
    client = raw(database="lab")
    client.query("PREPARE s FROM 'SELECT COUNT(*) FROM Star WHERE name <> ''日'''")
    assert client.query("EXECUTE s").rows
    client.query("SET NAMES latin1")
    assert refused(client.query, "EXECUTE s") == 1235
    client.query("SET NAMES utf8mb4")
    assert client.query("EXECUTE s").rows


def test_what_the_proxy_answers_is_of_the_database_of_prepare(both):
    found = []
    for client in both:
        client.query("USE under_a")
        number, _, _ = client.prepare("SHOW TABLE STATUS")
        client.query("USE hip")
        found.append(len(client.execute(number).rows))
    assert found == [1, 1]


# cursors and files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "answers"),
    [
        ("INSERT INTO t (a) SELECT objectId FROM hip.Object WHERE objectId < ?", [4, (None, b"4"), 2, (None, b"6")]),
        (
            "SELECT objectId FROM hip.Object WHERE objectId < ? ORDER BY objectId DESC LIMIT 1 INTO @x",
            [1, (b"4", b"0"), 1, (b"2", b"0")],
        ),
    ],
)  # fmt: skip
def test_what_sends_no_rows_takes_no_cursor(both, sql, answers):
    """MariaDB, too, has none for INSERT; SELECT … INTO with a cursor it refuses."""
    client = both[0]
    client.query("USE under_a")
    number, _, _ = client.prepare(sql)
    seen = []
    for most in (5, 3):
        answer = client.execute(number, (most,), cursor=1)
        assert (answer.columns, answer.status & CURSOR_EXISTS) == ([], 0)
        seen += [answer.affected, *client.query("SELECT @x, COUNT(*) FROM t").rows]
    assert seen == answers
    assert refused(client.fetch, number, 1) == 1421


def test_a_question_about_the_last_statement_takes_no_cursor(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT FOUND_ROWS()")
    client.query("SELECT objectId FROM Object WHERE objectId < 8")
    answer = client.execute(number, cursor=1)
    assert (answer.rows, answer.status & CURSOR_EXISTS) == ([struct.pack("<BBq", 0, 0, 7)], 0)
    assert refused(client.fetch, number, 1) == 1421
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_a_cursor_over_own_tables_leaves_none_behind(raw, own):
    client = raw(database=own)
    client.query("CREATE TABLE t AS SELECT seq AS a FROM seq_1_to_6")
    client.query("SET skyshard_ship_limit = 0")  # it stays at home
    number, _, _ = client.prepare("SELECT t.a FROM t JOIN hip.Object o ON o.objectId = t.a ORDER BY t.a")
    client.execute(number, cursor=1)
    assert len(client.fetch(number, 10)[0]) == 6
    assert client.query("SELECT COUNT(*) FROM t").rows == [(b"6",)]
    assert refused(client.query, "SELECT COUNT(*) FROM skyshard_scratch.gather_0") == 1146


def test_what_fails_is_closed_at_home(cluster, raw, own):
    client = raw(database=own)
    client.query("CREATE TABLE t AS SELECT seq AS a FROM seq_1_to_6")
    client.query("SET skyshard_ship_limit = 0")
    number, _, _ = client.prepare(
        "SELECT t.a, (SELECT seq FROM seq_1_to_2 WHERE seq <= ?) FROM t JOIN hip.Object o ON o.objectId = t.a ORDER BY 1"
    )

    def opened():
        with home_of(cluster) as home, home.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")
            return int(cursor.fetchall()[0][1])

    def fail():
        assert refused(client.execute, number, (2,)) == 1242
        client.query("SELECT 1")

    fail()
    before = opened()
    for _ in range(5):
        fail()
    assert opened() == before
    assert len(client.execute(number, (1,)).rows) == 6


# limits of a session -------------------------------------------------------------------------------


def test_limits_hold_for_all_statements_of_a_session(proxy, raw):
    client = raw(proxy(cursor_bytes=100_000, long_data_bytes=100).port, database="hip")
    small = "SELECT objectId FROM Object WHERE objectId < 5000"  # 10 bytes and a head a row
    first, _, _ = client.prepare(small)
    second, _, _ = client.prepare(small)
    client.execute(first, cursor=1)
    assert refused(client.execute, second, (), 1) == 1104
    client.simple(b"\x1a" + first.to_bytes(4, "little"))
    client.execute(second, cursor=1)
    client.execute(second, cursor=1)  # in the place of the rows before
    client.command(b"\x19" + second.to_bytes(4, "little"))
    client.execute(first, cursor=1)
    asked = "SELECT objectId FROM Object WHERE objectId = ?"
    first, _, _ = client.prepare(asked)
    second, _, _ = client.prepare(asked)
    for number in (first, second):
        client.command(b"\x18" + struct.pack("<IH", number, 0) + b"0" * 60 + b"7")
    assert refused(client.execute, second, ("",)) == 1153
    assert client.execute(first, ("",)).rows == [struct.pack("<BBq", 0, 0, 7)]
    client.command(b"\x18" + struct.pack("<IH", second, 0) + b"0" * 60 + b"7")
    assert client.execute(second, ("",)).rows == [struct.pack("<BBq", 0, 0, 7)]


def test_a_view_that_has_come_to_read_the_catalogue_is_executed(cluster, raw, own):
    """Though the proxy knows that already when it is executed."""
    client = raw(database=own)
    client.query("CREATE TABLE t (objectId BIGINT)")
    client.query("CREATE VIEW v AS SELECT objectId FROM t")
    number, _, _ = client.prepare("SELECT COUNT(*) FROM v")
    with home_of(cluster) as home:
        home.query(f"CREATE OR REPLACE VIEW {own}.v AS SELECT objectId FROM hip.Object")
        assert raw(database=own).query("SELECT COUNT(*) FROM v").rows == [(b"118216",)]
        assert client.execute(number).rows == [struct.pack("<BBq", 0, 0, 118216)]
