"""Prepared look-ups of a known shape: the answers of the long way and of plain MariaDB, whatever they are executed with."""

import contextlib
import struct
import threading
import time

import pymysql
import pytest

from proxy.shapes import ALLOWED_S
from tests.proxy.test_flights import held, waiting
from tests.proxy.test_session import ask
from tests.support.rawclient import DEPRECATE_EOF, RawClient, ServerError, refused
from tests.support.servers import Inside

BY_KEY = "SELECT objectId, ra, decl, vMag FROM hip.Object WHERE objectId = ?"
OTHERS = (
    1, 9, 99, 0, -1, -5, 999_999_999, 10**18 - 1, 10**18, 2**63 - 1, -(2**63), None, "7", "07", " 7x", "", "abc",
    7.0, 7.5, -7.0, 1e300,
)  # fmt: skip
"""Values that are no key, or no plain one."""


@pytest.fixture
def keys(client):
    found = ask(client, "SELECT objectId FROM hip.Object WHERE objectId < 100000 ORDER BY objectId LIMIT 12")
    return [row[0] for row in found]


def key_of(row):
    return struct.unpack_from("<q", row, 2)[0]


def run(client, number, *values):
    """Execute with values as (type byte, is unsigned, bytes)."""
    nulls = sum(1 << at for at, (_, _, data) in enumerate(values) if data is None)
    payload = b"\x17" + struct.pack("<IBI", number, 0, 1) + nulls.to_bytes((len(values) + 7) // 8, "little")
    payload += b"\x01" + b"".join(bytes((kind, 0x80 * unsigned)) for kind, unsigned, _ in values)
    client.command(payload + b"".join(data or b"" for _, _, data in values))
    return client.result(binary=True)


def found(client, number, values, **options):
    try:
        return sorted(client.execute(number, values, **options).rows)
    except ServerError as error:
        return error.errno


@pytest.mark.parametrize("flags", [0, DEPRECATE_EOF], ids=["eof", "ok"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM Object WHERE objectId = ?",
        "SELECT o.ra + 1, '7', 17 AS n, ra = 5 FROM hip.Object AS o WHERE o.objectId IN (?) AND o.decl < 1e3;",
        "SELECT COUNT(*), MIN(ra), MAX(decl) FROM Object WHERE objectId = ?",
        "SELECT * FROM Detection WHERE ? = objectId ORDER BY mjd DESC, detectionId LIMIT 2 OFFSET 1",
    ],
)
def test_every_value_has_its_own_answer(pair, keys, sql, flags):
    ours, theirs = pair(flags=flags)
    numbers = [client.prepare(sql)[0] for client in (ours, theirs)]
    heads = set()
    for value in [*keys[:6], *OTHERS, *keys]:
        answers = [
            found(client, number, [value]) for client, number in zip((ours, theirs), numbers, strict=True)
        ]
        assert answers[0] == answers[1], value
        heads.add(tuple(ours.execute(numbers[0], [value]).columns)) if value in keys else None
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT * FROM Detection WHERE objectId = ? AND flux > ?", [0.5, 100, "0.1", None, 1e9]),
        ("SELECT ra, CONCAT(?, 'x') FROM Object WHERE objectId = ?", ["a", "bc", 5, None, 2.5]),
        ("SELECT detectionId FROM Detection WHERE objectId = ? ORDER BY detectionId LIMIT ?", [0, 1, 2, 100]),
        ("SELECT detectionId, mjd FROM Detection WHERE objectId = ? ORDER BY ?", [1, 2, "1"]),
        ("SELECT objectId FROM Object WHERE objectId = ? AND ? = 5", [5, 6, "5", None, 5.0]),
        ("SELECT objectId FROM Object WHERE objectId = ? OR objectId = ?", [7, 9, None, "7"]),
        ("SELECT objectId FROM Object WHERE objectId BETWEEN ? AND ?", [7, 9, 30]),
        ("SELECT objectId FROM Object WHERE objectId = ? AND ra BETWEEN 0 AND ?", [0, 180, 360.0]),
        ("SELECT objectId FROM Object WHERE objectId = -? AND ra > ?", [0]),
    ],
)
def test_other_parameters_mean_what_they_are(pair, keys, sql, values):
    ours, theirs = pair()
    numbers = [client.prepare(sql)[0] for client in (ours, theirs)]
    first = "CONCAT" in sql
    for value in values:
        for key in [*keys[:3], 999_999_999, -keys[0], keys[0]]:
            given = [value, key] if first else [key, value]
            answers = [
                found(client, number, given) for client, number in zip((ours, theirs), numbers, strict=True)
            ]
            assert answers[0] == answers[1], given


def test_integers_of_all_types(pair, keys):
    ours, theirs = pair()
    numbers = [
        client.prepare("SELECT objectId, ra FROM Object WHERE objectId = ?")[0] for client in (ours, theirs)
    ]
    seen = []
    for kind, size in ((1, 1), (2, 2), (3, 4), (9, 4), (8, 8), (13, 2)):
        top = 256**size - 1
        for unsigned in (False, True):
            for value in (7, 9, 127, top, top // 2, top // 2 + 1, 2):
                given = kind, unsigned, value.to_bytes(size, "little")
                answers = [
                    run(client, number, given).rows
                    for client, number in zip((ours, theirs), numbers, strict=True)
                ]
                assert answers[0] == answers[1], given
                seen += answers[0]
    assert len(seen) >= 40


def test_the_short_way_is_taken(raw, keys, short):
    client = raw(database="hip")
    number, _, _ = client.prepare(BY_KEY)
    for turn in range(2):
        for key in keys:  # the types are bound once
            assert [key_of(row) for row in client.execute(number, [key], types=not turn).rows] == [key]
    assert (
        short() >= 2 * len(keys) - 2
    )  # the first is learnt, and the catalogue may have been read too long ago
    other = raw(database="hip")
    number, _, _ = other.prepare(BY_KEY + ";")
    assert all(len(other.execute(number, [key]).rows) == 1 for key in keys)
    assert short() >= len(keys) - 1  # one session's shapes are another's


def test_what_is_unusual_takes_the_long_way(raw, keys, short):
    client = raw(database="hip")
    number, _, _ = client.prepare(BY_KEY)
    for key in keys:
        client.execute(number, [key])
    short()
    client.execute(number, [keys[1]], cursor=1)
    assert len(client.fetch(number, 5)[0]) == 1
    client.execute(number, [keys[1]], cursor=1)
    assert [key_of(row) for row in client.execute(number, [keys[0]]).rows] == [keys[0]]  # ends the cursor
    assert refused(client.fetch, number, 1) == 1421
    client.command(b"\x18" + struct.pack("<IH", number, 0) + str(keys[2]).encode())
    assert [key_of(row) for row in client.execute(number, [""]).rows] == [keys[2]]
    client.command(b"\x18" + struct.pack("<IH", number, 0) + b"5")
    client.simple(b"\x1a" + number.to_bytes(4, "little"))
    assert short() <= 1
    assert [key_of(row) for row in client.execute(number, [keys[3]]).rows] == [keys[3]]
    cut = b"\x17" + struct.pack("<IBI", number, 0, 1) + b"\0\x01\x08\0" + b"\x07\0\0"
    assert refused(client.simple, cut) == 1835
    assert [key_of(row) for row in client.execute(number, [keys[3]]).rows] == [keys[3]]
    client.command(b"\x19" + number.to_bytes(4, "little"))
    assert refused(client.execute, number, [keys[3]]) == 1243


def test_several_that_are_sent_at_once_are_answered_in_turn(raw, keys):
    client = raw(database="hip")
    number, _, _ = client.prepare(BY_KEY)
    wanted = [*keys, *keys]
    for last in (number, 0xFFFFFFFF):
        for size in (None, 1, 7, 30):
            sent = b""
            for key in wanted:
                client.seq = 0
                execute = b"\x17" + struct.pack("<IBI", last, 0, 1) + b"\0\x01\x08\0" + struct.pack("<q", key)
                sent += client.frame(execute)
            for start in range(0, len(sent), size or len(sent)):
                client.socket.sendall(sent[start : start + (size or len(sent))])
            for key in wanted:
                client.seq = 1
                assert [key_of(row) for row in client.result(binary=True).rows] == [key]


@pytest.fixture
def revoked(raw, client, account, keys):
    """A viewer's connection, a statement of his that has been executed, and the moment his privileges were taken away."""
    account("'viewer'@'%'")
    viewer = raw(user="viewer", password="geheim")
    number, _, _ = viewer.prepare(BY_KEY)
    for key in keys:
        assert len(viewer.execute(number, [key]).rows) == 1
    ask(client, "REVOKE SELECT ON hip.* FROM 'viewer'@'%'")
    return viewer, number, time.monotonic()


def test_a_revoked_privilege_is_missed_within_its_time(revoked, client, keys):
    viewer, number, since = revoked
    while not isinstance(found(viewer, number, [keys[0]]), int):
        assert time.monotonic() < since + ALLOWED_S + 5
    assert refused(viewer.execute, number, [keys[1]]) in (1044, 1142)
    ask(client, "GRANT SELECT ON hip.* TO 'viewer'@'%'")
    assert len(viewer.execute(number, [keys[1]]).rows) == 1


def test_what_goes_home_ends_what_was_allowed(revoked, keys):
    viewer, number, _ = revoked
    viewer.query("DO 1")
    assert refused(viewer.execute, number, [keys[0]]) in (1044, 1142)


def test_settings_are_those_of_the_moment(pair, keys):
    sets = (
        "SET SESSION div_precision_increment = 6", "SET SESSION div_precision_increment = DEFAULT",
        "SET SESSION sql_select_limit = 0", "SET SESSION sql_select_limit = DEFAULT",
        "SET SESSION time_zone = '+05:00'", "USE mysql", "SET NAMES latin1", "USE hip", "SET NAMES utf8mb4",
        "SET SESSION max_statement_time = 20",
    )  # fmt: skip
    clients = pair()
    numbers = [
        client.prepare("SELECT objectId, 1 / 3, FROM_UNIXTIME(86400) FROM hip.Object WHERE objectId = ?")[0]
        for client in clients
    ]
    for sql in ("DO 1", *sets):
        for client in clients:
            client.query(sql)
        for key in keys[:3]:
            answers = [found(client, number, [key]) for client, number in zip(clients, numbers, strict=True)]
            assert answers[0] == answers[1], sql


def test_a_view_is_read_as_it_is(raw, client, keys):
    ask(client, "CREATE OR REPLACE DATABASE mine")
    try:
        ask(client, "CREATE OR REPLACE VIEW mine.seen AS SELECT objectId, ra FROM hip.Object")
        viewer = raw()
        number, _, _ = viewer.prepare("SELECT * FROM mine.seen WHERE objectId = ?")
        plain, _, _ = viewer.prepare(BY_KEY)
        for columns, size in (("objectId", 10), ("decl, objectId", 18), ("objectId", 10)):
            ask(client, f"CREATE OR REPLACE VIEW mine.seen AS SELECT {columns} FROM hip.Object")
            for key in keys[:3]:
                (row,) = viewer.execute(number, [key]).rows
                assert len(row) == size
                assert [key_of(row) for row in viewer.execute(plain, [key]).rows] == [key]
    finally:
        ask(client, "DROP DATABASE mine")


def test_prepared_again_a_statement_means_what_it_means_now(raw, client, keys):
    sql = 'SELECT objectId, "ra", word FROM Object JOIN mine.seen USING (objectId) WHERE objectId = ?'
    ask(client, "CREATE OR REPLACE DATABASE mine")
    user = raw(database="hip")

    def rows():
        number, _, _ = user.prepare(sql)
        return [row[10:] for row in user.execute(number, [keys[0]]).rows]

    try:
        ask(client, f"CREATE TABLE mine.seen AS SELECT {keys[0]} AS objectId, 'a table' AS word")
        assert rows() == rows() == [b"\x02ra\x07a table"]
        ask(client, "DROP TABLE mine.seen")
        ask(client, "CREATE VIEW mine.seen AS SELECT objectId, 'a view' AS word FROM hip.Object")
        assert rows() == rows() == [b"\x02ra\x06a view"]
        user.query("SET SESSION sql_mode = 'ANSI_QUOTES'")
        assert [row[8:] for row in rows()] == [b"\x06a view"]  # ra is a number
    finally:
        ask(client, "DROP DATABASE mine")


def test_a_view_with_a_short_name_is_in_nobodys_way(raw, client, keys, short):
    ask(client, "CREATE OR REPLACE DATABASE mine")
    ask(client, "CREATE VIEW mine.o AS SELECT * FROM hip.Object")
    try:
        other = raw(database="hip")
        number, _, _ = other.prepare("SELECT objectId, vMag + 1 FROM Object WHERE objectId = ?")
        short()
        for key in keys:
            assert [key_of(row) for row in other.execute(number, [key]).rows] == [key]
        assert short() >= len(keys) - 2
    finally:
        ask(client, "DROP DATABASE mine")


def test_the_last_statement_is_the_look_up(raw, keys):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT CAST('x7' AS INT), ra FROM Object WHERE objectId = ?")
    quiet, _, _ = client.prepare(BY_KEY)
    for key in keys[:4]:
        assert client.execute(number, [key]).warnings == 1
        assert [row[1] for row in client.query("SHOW WARNINGS").rows] == [b"1292"]
        client.execute(number, [key])
        assert client.execute(quiet, [key]).warnings == 0
        assert client.query("SHOW WARNINGS").rows == []
        assert client.execute(quiet, [key]).warnings == 0
        assert client.query("SELECT FOUND_ROWS()").rows == [(b"1",)]


def test_a_kill_ends_one_and_the_session_goes_on(cluster, client, raw, keys):
    victim, killer = raw(database="hip"), raw()
    number, _, _ = victim.prepare(BY_KEY)
    for key in (*keys, *keys):
        victim.execute(number, [key])
    with held(cluster, client, keys[0]) as inside:
        asked = threading.Thread(target=lambda: seen.append(found(victim, number, [keys[0]])))
        seen: list[object] = []
        asked.start()
        waiting(inside, "?", 1)
        killer.query(f"KILL QUERY {victim.thread_id}")
        asked.join(30)
        assert seen == [1317]
        waiting(inside, "?", 0)
        victim.command(
            b"\x17" + struct.pack("<IBI", number, 0, 1) + b"\0\x01\x08\0" + struct.pack("<q", keys[0])
        )
        waiting(inside, "?", 1)
    assert keys_in(victim) == [keys[0]]  # one that takes long is answered all the same
    for key in keys:
        assert [key_of(row) for row in victim.execute(number, [key]).rows] == [key]


def keys_in(client):
    return [key_of(row) for row in client.result(binary=True).rows]


def test_many_at_once(cluster, keys, short):
    """Sessions that prepare the same share its shape; each has its own answers."""
    wrong: list[object] = []

    def work(number):
        with RawClient(cluster.port).connect(database="hip") as client:
            statement, _, _ = client.prepare(BY_KEY)
            for turn in range(40):
                key = keys[(number + turn) % len(keys)]
                rows = client.execute(statement, [key]).rows
                if [key_of(row) for row in rows] != [key]:
                    wrong.append((key, rows))

    short()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert short() >= 0.8 * 12 * 40


def test_nothing_stays_prepared_on_the_workers(cluster, raw, keys):
    client = raw(database="hip")
    number, _, _ = client.prepare(BY_KEY)
    for key in (*keys, *keys):
        client.execute(number, [key])
    inside = Inside(cluster.directory)
    for worker in range(1, inside.state.workers + 1):
        address = inside.server(f"worker{worker}")
        with contextlib.closing(
            pymysql.connect(unix_socket=address.socket, user=address.user, password=address.password)
        ) as server:
            assert int(ask(server, "SHOW GLOBAL STATUS LIKE 'Com_stmt_close'")[0][1]) > 0
            deadline = time.monotonic() + 10  # a server answers before it closes
            while ask(server, "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")[0][1] != "0":
                assert time.monotonic() < deadline


def test_our_own_settings_are_those_of_the_execution(raw):
    client = raw(database="hip")
    number, _, _ = client.prepare("SELECT objectId, @@skyshard_gather_limit FROM Object WHERE objectId = ?")
    for limit in (1000, 1000, 7, 7):
        client.query(f"SET skyshard_gather_limit = {limit}")
        for _ in range(3):
            (row,) = client.execute(number, [7]).rows
            assert row.endswith(limit.to_bytes(8, "little"))
