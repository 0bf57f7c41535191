"""Prepared statements: cursors, long data, parameters, what PREPARE knows and when it is executed again."""

import struct

import pytest

from tests.support.rawclient import DEPRECATE_EOF, ServerError, outcome, refused

BOTH_ENDS = pytest.mark.parametrize("flags", [0, DEPRECATE_EOF], ids=["eof", "ok"])


@BOTH_ENDS
def test_cursors(pair, flags):
    ours, theirs = pair(flags=flags)
    seen = []
    for client in (ours, theirs):
        number, columns, parameters = client.prepare("SELECT objectId, bv FROM Object WHERE objectId < ?")
        assert (columns, parameters) == (2, 1)
        opened = client.execute(number, [8], cursor=1)
        fetched = [client.fetch(number, 3) for _ in range(3)]
        seen.append(
            (
                opened.status, opened.rows, [len(rows) for rows, _ in fetched], [status for _, status in fetched],
                sorted(row for rows, _ in fetched for row in rows), refused(client.fetch, number, 1),
            )
        )  # fmt: skip
    assert seen[0] == seen[1]
    assert seen[0][2] == [3, 3, 1]


def test_cursors_end_with_reset_close_and_the_next_execution(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT objectId FROM Object WHERE objectId < ?")
    client.execute(number, [500], cursor=1)
    assert len(client.fetch(number, 10)[0]) == 10
    assert len(client.query("SELECT objectId FROM Object WHERE objectId < 5").rows) == 4  # between fetches
    assert len(client.fetch(number, 1000)[0]) == 489
    client.execute(number, [500], cursor=1)
    client.simple(b"\x1a" + number.to_bytes(4, "little"))
    assert refused(client.fetch, number, 1) == 1421
    client.execute(number, [500], cursor=1)
    assert len(client.execute(number, [3]).rows) == 2
    assert refused(client.fetch, number, 1) == 1421
    client.command(b"\x19" + number.to_bytes(4, "little"))
    assert refused(client.fetch, number, 1) == 1243


def test_cursors_over_own_tables(raw, own):
    client = raw(database=own)
    client.query("CREATE TABLE t AS SELECT seq FROM seq_1_to_10")
    number, _, _ = client.prepare("SELECT seq FROM t WHERE seq > ?")
    client.execute(number, [4], cursor=1)
    assert [len(client.fetch(number, 4)[0]) for _ in range(2)] == [4, 2]


def test_a_cursor_keeps_no_more_than_it_may(proxy, raw):
    client = raw(proxy(cursor_bytes=100_000).port, database="hip")
    number, _, _ = client.prepare("SELECT objectId FROM Object")
    assert refused(client.execute, number, (), 1) == 1104
    assert refused(client.fetch, number, 1) == 1421
    assert len(client.execute(number).rows) == 118216


def test_executing_again_with_other_types(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT objectId FROM Object WHERE objectId = ?")
    expected = [struct.pack("<BBq", 0, 0, 7)]
    assert client.execute(number, [7]).rows == expected
    assert client.execute(number, [7], types=False).rows == expected
    assert client.execute(number, ["7"]).rows == expected
    assert client.execute(number, [7.0]).rows == expected
    assert client.execute(number, [None]).rows == []


def test_long_data(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT objectId FROM Object WHERE objectId = ?")
    for piece in (b"1", b"2"):
        client.command(b"\x18" + struct.pack("<IH", number, 0) + piece)
    assert client.execute(number, [""]).rows == [struct.pack("<BBq", 0, 0, 12)]
    client.command(b"\x18" + struct.pack("<IH", number, 0) + b"5")
    client.simple(b"\x1a" + number.to_bytes(4, "little"))
    assert client.execute(number, ["7"]).rows == [struct.pack("<BBq", 0, 0, 7)]


def test_prepare_never_reaches_the_workers_and_knows_its_errors(pair):
    for sql in ("SELECT nosuch FROM Object", "SELECT FROM", "SELECT * FROM nosuch WHERE a = ?"):
        ours, theirs = pair()
        found = []
        for client in (ours, theirs):
            with pytest.raises(ServerError) as caught:
                client.prepare(sql)
            found.append(caught.value.args)
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT starId, name, d FROM lab.Star WHERE starId IN (?, ?, ?) AND name <> ? ORDER BY starId", (3, 7, 12, "a b")),
        ("SELECT kind, COUNT(*) FROM lab.Star WHERE d > ? AND dt > ? GROUP BY kind ORDER BY kind", (-500.5, "2024-02-29 12:34:30")),
        ("SELECT kind, SUM(d * ?), MAX(CONCAT(name, ?)) FROM lab.Star WHERE g <=> ? GROUP BY kind ORDER BY 1", (3, "ä'\\", None)),
        ("SELECT COUNT(*), ?, SUM(starId) FROM lab.Star WHERE name = ?", ("x\\'y", "ANGSTROM")),
        ("SELECT starId FROM lab.Star WHERE starId > ? ORDER BY d DESC, starId LIMIT 5", (100,)),
        ("SELECT name FROM lab.Star WHERE starId IN (SELECT starId FROM lab.Visit WHERE n > ?) AND d < ? ORDER BY starId", (2000000000, 10.5)),
    ],
)  # fmt: skip
def test_parameters_of_merged_statements(pair, sql, values):
    found = []
    for client in pair():
        number, _, _ = client.prepare(sql)
        found.append(
            [(result.columns, result.rows) for result in (client.execute(number, values) for _ in range(2))]
        )
    assert [rows for _, rows in found[0]] == [rows for _, rows in found[1]]
    assert found[0][0][1]


@pytest.mark.parametrize("end", [";", " ;; ", "; -- done", ";/* ; */"])
def test_a_statement_may_end_with_a_semicolon(pair, end):
    found = []
    for client in pair(database="lab"):
        one = f"SELECT starId, name FROM Star WHERE starId = ?{end}"
        number, columns, parameters = client.prepare(one)
        client.query(f"EXECUTE IMMEDIATE 'SET @n = (SELECT COUNT(*) FROM Star){end}'")
        client.query(f"PREPARE s FROM '{one}'")
        found.append(
            (
                columns, parameters, client.execute(number, [7]).rows, client.query("EXECUTE s USING 7").rows,
                client.query("SELECT @n").rows, refused(client.prepare, f"SELECT starId FROM Star; SELECT 1{end}"),
            )
        )  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0][2]) == 1


@pytest.mark.parametrize(
    "question",
    ["SHOW WARNINGS", "SHOW COUNT(*) WARNINGS", "SHOW ERRORS", "SELECT @@warning_count, @@error_count", "SELECT FOUND_ROWS()"],
)  # fmt: skip
def test_questions_may_be_prepared(pair, question):
    found = []
    for client in pair():
        number, _, _ = client.prepare(question)
        seen = []
        statements = [
            "SELECT objectId + '1x' FROM Object WHERE objectId < 4",
            "SELECT nosuch FROM Object",
            "SELECT 5",
        ]
        if "FOUND_ROWS" in question:  # an error keeps the count of the statement before
            del statements[1]
        for sql in statements:
            client.command(b"\x03" + sql.encode())
            assert outcome(client) in (3, 1054, 1)
            seen.append(client.execute(number).rows)
        found.append(seen)
    assert found[0] == found[1]


def test_the_last_statement_prepared_is_executed_without_its_number(pair):
    found = []
    for client in pair():
        client.prepare("SELECT COUNT(*) FROM Object WHERE objectId < ?")
        found.append(client.execute(0xFFFFFFFF, [10]).rows)
        client.prepare("SELECT 1")
        found.append(client.execute(0xFFFFFFFF).rows)
        with pytest.raises(ServerError):
            client.prepare("SELECT nosuch FROM Object")
        found.append(refused(client.execute, 0xFFFFFFFF))
    assert found[:3] == found[3:]


def test_a_check_at_home_closes_no_statement_of_the_client(raw):
    client = raw(database="hip")
    first = client.prepare("SELECT 1 + ?")[0]
    second = client.prepare("SELECT COUNT(*) FROM Object WHERE objectId < ?")[0]
    for number in range(20):
        assert client.query(f"SELECT objectId FROM Object WHERE objectId = {number} + 1")
        refused(client.query, "SELECT nosuch FROM Object")
        assert client.execute(first, [number]).rows
        assert client.execute(second, [number]).rows


def test_names_mean_what_they_did_when_the_statement_was_prepared(pair):
    """MariaDB executes in the database that a statement was prepared in, and goes back."""
    found = []
    for client in pair(flags=0):
        asked = []
        client.query("USE hip")
        number, _, _ = client.prepare("SELECT COUNT(*), DATABASE() FROM Object WHERE objectId < ?")
        other, _, _ = client.prepare("SELECT objectId FROM Object WHERE objectId = ?")
        client.query("PREPARE s FROM 'SELECT COUNT(*), DATABASE() FROM Object WHERE objectId < ?'")
        client.query("SET @a = 50")
        for database in ("hip", "lab", "mysql", "hip"):
            client.query(f"USE {database}")
            asked.append(client.execute(number, [50]).rows)
            asked.append([client.execute(other, [key]).rows for key in (7, 8, 9)])
            client.execute(number, [50], cursor=1)
            asked.append(client.fetch(number, 10)[0])
            asked.append(client.query("EXECUTE s USING @a").rows)
            asked.append(client.query("SELECT DATABASE()").rows)
        found.append(asked)
    assert found[0] == found[1]


def test_a_statement_that_fails_leaves_the_session_in_its_database(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT objectId FROM Object WHERE objectId + ? < 5")
    client.query("USE lab")
    client.query("SET max_statement_time = 0.000001")
    assert refused(client.execute, number, [1]) == 1969
    client.query("SET max_statement_time = 0")
    assert client.query("SELECT DATABASE()").rows == [(b"lab",)]


def test_keys_of_every_type_find_their_rows(pair):
    """Some drivers send every number as DOUBLE, or as text."""
    found = []
    for client in pair(flags=0):
        number, _, _ = client.prepare("SELECT objectId, ra FROM Object WHERE objectId = ?")
        listed, _, _ = client.prepare("SELECT COUNT(*), MIN(objectId) FROM Object WHERE objectId IN (?, ?)")
        keys = [
            7,
            7.0,
            7.5,
            "7",
            "07",
            "7.0",
            "7x",
            " 7",
            "x",
            "",
            "7'",
            "\\7",
            -7.0,
            1e300,
            float(1 << 53),
            None,
        ]
        asked = [client.execute(number, [key]).rows for key in keys]
        asked += [
            client.execute(listed, both).rows for both in ([7, "9"], [7.0, 9.0], ["7", "9"], [7.5, "9 "])
        ]
        found.append(asked)
    assert found[0] == found[1]
