"""Statements that the proxy answers itself may be prepared, by COM_STMT_PREPARE and as SQL; headers of EXECUTE."""

import struct
import threading
import time

import pytest

from shard.wire.packets import ColumnDefinition, lenenc_bytes, read_lenenc_bytes
from tests.proxy.test_cancel import PAIRS
from tests.support.rawclient import DEPRECATE_EOF, RawClient, refused

SLOW_COUNT = PAIRS


@pytest.fixture
def pair(raw, plain):
    with RawClient(plain.socket) as other:
        yield raw(database="hip"), other.connect(database="hip")


def names(result):
    return [ColumnDefinition.decode(column).name for column in result.columns]


def submitted(row):
    """Return the number in a binary row of SUBMIT's answer."""
    (number,) = struct.unpack_from("<q", row, 2)
    assert row[10:] == lenenc_bytes(b"table:result_%d" % number)
    return number


def state(client, number):
    found = client.query(f"SELECT STATUS, QUERY FROM information_schema.queries WHERE ID = {number}").rows
    return found[0] if found else None


@pytest.mark.parametrize("flags", [0, DEPRECATE_EOF], ids=["eof", "ok"])
def test_submit_and_cancel_are_prepared(raw, flags):
    client = raw(database="hip", flags=flags)
    statement, columns, parameters = client.prepare(f"SUBMIT {SLOW_COUNT}")
    assert (columns, parameters) == (2, 0)
    asked = [client.execute(statement) for _ in range(2)]
    assert names(asked[0]) == [b"jobId", b"resultLocation"]
    numbers = [submitted(answer.rows[0]) for answer in asked]
    assert numbers[0] < numbers[1]
    assert state(client, numbers[0])[0] in (b"QUEUED", b"EXECUTING")
    literal, columns, parameters = client.prepare(f"CANCEL {numbers[0]}")
    assert (columns, parameters) == (0, 0)
    assert client.execute(literal).rows == []
    marked, columns, parameters = client.prepare("CANCEL ?")
    assert (columns, parameters) == (0, 1)
    client.execute(marked, (numbers[1],))
    for number in numbers:
        assert state(client, number)[0] == b"ABORTED"
    assert refused(client.execute, marked, (987654321,)) == refused(client.query, "CANCEL 987654321")
    assert refused(client.query, "CANCEL ?") == 1235
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_what_is_submitted_may_have_parameters(raw):
    client = raw(database="hip")
    statement, columns, parameters = client.prepare(
        "SUBMIT SELECT objectId, ? AS label FROM Object WHERE objectId < ? AND ra > ?"
    )
    assert (columns, parameters) == (2, 3)
    number = submitted(client.execute(statement, ("it's ü", 9, -0.5)).rows[0])
    while state(client, number)[0] in (b"QUEUED", b"EXECUTING"):
        pass
    assert state(client, number)[0] == b"COMPLETED", state(client, number)
    found = client.query(f"SELECT * FROM qserv_result({number}) AS r ORDER BY objectId").rows
    wanted = client.query("SELECT objectId FROM Object WHERE objectId < 9 ORDER BY objectId").rows
    assert found == [(row[0], "it's ü".encode()) for row in wanted]
    assert wanted
    deleting, _, parameters = client.prepare("CALL qserv_result_delete(?)")
    assert parameters == 1
    client.execute(deleting, (number,))
    assert refused(client.query, f"SELECT * FROM qserv_result({number}) AS r") > 0


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("SUBMIT SELECT nosuch FROM Object", 1054),
        ("SUBMIT SELECT FROM FROM", 1064),
        ("SUBMIT UPDATE Object SET ra = 1", 1235),
        ("SUBMIT SELECT 1 FROM nosuch", 1146),
        ("CANCEL x", 1064),
    ],
)
def test_errors_come_when_it_is_prepared(raw, sql, number):
    client = raw(database="hip")
    assert refused(client.prepare, sql) == number
    assert refused(client.query, f"PREPARE s FROM '{sql}'") == number
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_as_sql(raw):
    client = raw(database="hip")
    client.query(f"PREPARE s FROM 'SUBMIT {SLOW_COUNT}'")
    (first,) = client.query("EXECUTE s").rows
    (second,) = client.query(f"EXECUTE IMMEDIATE 'SUBMIT {SLOW_COUNT}'").rows
    assert int(first[0]) < int(second[0])
    client.query(f"SET @n = {int(first[0])}")
    client.query("PREPARE c FROM 'CANCEL ?'")
    client.query("EXECUTE c USING @n")
    client.query(f"EXECUTE c USING {int(second[0])}")
    assert state(client, int(first[0]))[0] == state(client, int(second[0]))[0] == b"ABORTED"
    client.query("DEALLOCATE PREPARE c")
    assert refused(client.query, "EXECUTE c USING @n") == 1243
    assert refused(client.query, "PREPARE s FROM 'EXECUTE IMMEDIATE ''SUBMIT SELECT 1'''") == 1295


def test_our_settings_are_set_when_executed(raw):
    client = raw()
    setting, columns, _ = client.prepare("SET skyshard_gather_limit = 4096")
    showing, shown, _ = client.prepare("SELECT @@skyshard_gather_limit")
    assert (columns, shown) == (0, 1)
    before = client.execute(showing)
    assert names(before) == [b"@@skyshard_gather_limit"]
    assert struct.unpack_from("<Q", before.rows[0], 2) != (4096,)
    client.execute(setting)
    assert struct.unpack_from("<Q", client.execute(showing).rows[0], 2) == (4096,)
    client.query("EXECUTE IMMEDIATE 'SET skyshard_gather_limit = 8192'")
    assert client.query("SELECT @@skyshard_gather_limit").rows == [(b"8192",)]


def test_lists_of_tables_and_processes_are_prepared(raw):
    client = raw(database="hip")
    told = {row[0]: row for row in client.query("SHOW TABLE STATUS").rows}
    statement, columns, _ = client.prepare("SHOW TABLE STATUS")
    found = client.execute(statement)
    assert columns == len(found.columns) == len(told[b"Object"])
    seen = {}
    for row in found.rows:
        name, at = read_lenenc_bytes(row, 1 + (columns + 9) // 8)
        seen[name] = read_lenenc_bytes(row, at)[0]
    assert seen == {name: row[1] for name, row in told.items()}
    assert seen[b"Object"] == b"skyshard"
    client.query("PREPARE listing FROM 'SHOW TABLE STATUS'")
    again = client.query("EXECUTE listing").rows
    assert [row[:5] for row in again] == [row[:5] for row in told.values()]
    assert client.query("EXECUTE IMMEDIATE 'SHOW TABLE STATUS'").rows[0][:5] == again[0][:5]
    listing, _, _ = client.prepare("SHOW FULL PROCESSLIST")
    answer = client.execute(listing)
    start = 1 + (len(answer.columns) + 9) // 8
    numbers = {struct.unpack_from("<q", row, start)[0] for row in answer.rows}
    assert client.thread_id in numbers


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ?, ? + 1 FROM Object LIMIT 1",
        "SELECT ? q, ? AS w FROM Object LIMIT 1",
        "SELECT DISTINCT CASE WHEN ? THEN 1 END, (SELECT ?) FROM Object LIMIT 1",
        "SELECT COUNT(*) + ?, ? IS NULL FROM Object",
        "SELECT `?` FROM (SELECT ? FROM Object WHERE objectId < ? ) t LIMIT 1".replace(" < ?", " < 5 AND 2 = ?"),
        "SELECT -?, 'a?', ? FROM Object LIMIT 1".replace(", ? FROM", " FROM").replace("-?", "-?, ?"),
    ],
)  # fmt: skip
def test_headers_of_execute_are_the_texts(pair, text):
    found = []
    for client in pair:
        client.query("SET @a = 2, @b = 'x'")
        assert client.query(f"PREPARE s FROM '{text.replace(chr(39), chr(39) * 2)}'").info == (
            b"\x12Statement prepared"
        )
        answer = client.query("EXECUTE s USING @a, @a")
        found.append((names(answer), answer.rows))
    assert found[0] == found[1]


@pytest.mark.parametrize("value", ["5", "18446744073709551615", "1.5", "1.5e0", "'a'", "x'00ff'", "NULL"])
def test_a_variable_keeps_its_type_when_it_is_null(pair, value):
    found = []
    for client in pair:
        client.query(f"SET @v = {value}")
        client.query("SET @v = NULL")
        column = ColumnDefinition.decode(client.query("SELECT @v FROM Object LIMIT 1").columns[0])
        found.append((column.type, column.charset, column.length, column.decimals))
    assert found[0] == found[1]


def test_a_prepared_look_at_the_processes_sees_what_runs_now(raw):
    victim, watcher = raw(database="hip"), raw()
    statement, columns, parameters = watcher.prepare(
        "SELECT STATE, INFO, STAGE, MAX_STAGE FROM information_schema.PROCESSLIST WHERE ID = ? AND STATE LIKE ?"
    )
    assert (columns, parameters) == (4, 2)
    values = (victim.thread_id, "%chunks")
    assert watcher.execute(statement, values).rows == []
    seen = []
    thread = threading.Thread(target=lambda: seen.append(refused(victim.query, PAIRS)))
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not (found := watcher.execute(statement, values)).rows:
            assert time.monotonic() < deadline
            assert thread.is_alive()
        state, at = read_lenenc_bytes(found.rows[0], 2)
        info, at = read_lenenc_bytes(found.rows[0], at)
        assert [ColumnDefinition.decode(column).type for column in found.columns[2:]] == [3, 3]
        stage, stages = struct.unpack_from("<ii", found.rows[0], at)
        assert state.endswith(b" chunks")
        assert info == PAIRS.encode()
        assert 1 <= stage <= stages <= 2
    finally:
        watcher.query(f"KILL QUERY {victim.thread_id}")
        thread.join(20)
    assert seen == [1317]
    assert watcher.execute(statement, values).rows == []
