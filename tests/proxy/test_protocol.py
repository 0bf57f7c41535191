"""The command phase: framing, compression, cursors, several statements in a packet, what follows a statement."""

import asyncio
import threading
import time

import pytest

from backend.address import Address
from backend.connection import RawConnection
from skyshard.cluster import state as states
from tests.proxy.test_cancel import GONE_S
from tests.support.rawclient import (
    COMPRESS,
    DEPRECATE_EOF,
    LOCAL_FILES,
    MORE_RESULTS,
    Closed,
    RawClient,
    ServerError,
    outcome,
    refused,
)
from tests.support.servers import LOOK

SLOW = "SELECT COUNT(*) FROM hip.Detection a JOIN hip.Detection b ON a.objectId = b.objectId WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd) > 3"
BOTH_ENDS = pytest.mark.parametrize("flags", [0, DEPRECATE_EOF], ids=["eof", "ok"])


# framing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [None, True], ids=["plain", "tls"])
@BOTH_ENDS
def test_compression(raw, own, tls, flags):
    client = raw(database="hip", flags=COMPRESS | flags, tls=tls)
    assert client.query("SELECT COUNT(*) FROM Object").rows == [(b"118216",)]
    assert len(client.query("SELECT objectId, ra, decl FROM Object").rows) == 118216
    text = "abc" * 7_000_000
    client.query(f"CREATE TABLE {own}.t (a LONGTEXT)")
    assert client.query(f"INSERT INTO {own}.t VALUES ('{text}')").affected == 1
    assert client.query(f"SELECT a FROM {own}.t").rows == [(text.encode(),)]
    assert refused(client.query, "SELECT nosuch FROM Object") == 1054
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_a_compressed_packet_is_what_it_says(raw):
    for bad in (
        b"\x05\0\0\0\x20\0\0hello",  # no deflated data
        b"\x0c\0\0\0\xff\xff\xff" + b"x\x9c\xcbH\xcd\xc9\xc9\x07\0\x06,\x02\x15"[:12],  # not so long
    ):
        client = raw(flags=COMPRESS)
        client.socket.sendall(bad)
        with pytest.raises((Closed, ConnectionError)):
            client._bytes(1)


def test_packets_of_16_mib(raw):
    client = raw()
    for size in (0xFFFFFF - 10, 0xFFFFFF - 9, 0xFFFFFF - 8, 0xFFFFFF, 2 * 0xFFFFFF):
        text = b"y" * size
        assert client.query(b"SELECT '" + text + b"'").rows == [(text,)]


def test_one_byte_at_a_time(raw):
    client = raw(database="hip")
    client.seq = 0
    for byte in client.frame(b"\x03SELECT COUNT(*) FROM Object"):
        client.socket.sendall(bytes((byte,)))
    assert client.result().rows == [(b"118216",)]


def test_commands_without_waiting(raw):
    client = raw(database="hip")
    texts = [
        "SELECT 1",
        "SELECT COUNT(*) FROM Object",
        "SELECT nosuch",
        "SELECT objectId FROM Object WHERE objectId = 7",
    ]
    data = b""
    for text in texts:
        client.seq = 0
        data += client.frame(b"\x03" + text.encode())
    client.socket.sendall(data)
    got = []
    for _ in texts:
        client.seq = 1
        try:
            got.append(client.result().rows)
        except ServerError as error:
            got.append(error.errno)
    assert got == [[(b"1",)], [(b"118216",)], 1054, [(b"7",)]]


# commands ----------------------------------------------------------------------------------------


def test_small_commands(raw):
    client = raw()
    assert client.simple(b"\x0e")[0] == 0
    assert client.simple(b"\x02hip")[0] == 0
    assert client.query("SELECT DATABASE()").rows == [(b"hip",)]
    assert client.query("SELECT COUNT(*) FROM Object").rows == [(b"118216",)]
    assert refused(client.simple, b"\x02nosuch") == 1049
    client.command(b"\x09")
    assert client.read().startswith(b"Uptime: ")
    assert refused(client.simple, b"\x0c" + (999_999).to_bytes(4, "little")) == 1094
    assert refused(client.simple, b"\x55") == 1047
    assert client.simple(b"\x1b\x01\x00")[0] == 0xFE
    assert refused(client.query, "SELECT 1; SELECT 2") == 1064
    assert client.simple(b"\x1b\x00\x00")[0] == 0xFE
    assert [result.rows for result in client.query_all("SELECT 1; SELECT 2")] == [[(b"1",)], [(b"2",)]]


@BOTH_ENDS
def test_field_list(pair, flags):
    ours, theirs = pair(flags=flags)
    found = []
    for client in (ours, theirs):
        client.command(b"\x04Object\0")
        columns = []
        while (payload := client.read_ok())[:1] != b"\xfe":
            columns.append(payload)
        found.append(columns)
    assert found[0] == found[1]
    assert len(found[0]) > 5


def test_reset_connection(raw):
    client = raw(database="hip")
    client.query("SET @x = 1, sql_select_limit = 3")
    assert len(client.query("SELECT objectId FROM Object").rows) == 3
    number, _, _ = client.prepare("SELECT COUNT(*) FROM Object")
    assert len(client.execute(number).rows) == 1
    assert client.simple(b"\x1f")[0] == 0
    assert refused(client.execute, number) == 1243
    assert client.query("SELECT @x").rows == [(None,)]
    assert len(client.query("SELECT objectId FROM hip.Object WHERE objectId < 10").rows) == 9


def test_idle_sessions_end_as_at_mariadb(pair):
    said = []
    for client in pair():
        client.query("SET wait_timeout = 1")
        client.seq = 0
        try:
            said.append(client.read())
        except (Closed, ConnectionError):
            said.append(b"closed")
    assert said[0] == said[1]


def test_local_infile_into_own_tables(raw, own):
    client = raw(flags=LOCAL_FILES, database=own)
    client.query("CREATE TABLE t (a INT, b TEXT)")
    client.command(b"\x03LOAD DATA LOCAL INFILE '/some/file' INTO TABLE t FIELDS TERMINATED BY ','")
    assert client.read_ok() == b"\xfb/some/file"
    client.send(b"1,one\n2,t")
    client.send(b"wo\n")
    client.send(b"")
    assert client.result().affected == 2
    assert client.query("SELECT * FROM t ORDER BY a").rows == [(b"1", b"one"), (b"2", b"two")]


def test_a_file_may_come_in_packets_of_16_mib(raw, own):
    """An empty packet behind one of full length only ends it."""
    client = raw(flags=LOCAL_FILES, database=own)
    client.query("CREATE TABLE t (a MEDIUMTEXT)")
    text = (b"x" * (1 << 20) + b"\n") * 15
    text += b"y" * (0xFFFFFF - len(text) - 1) + b"\n"
    client.command(b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t")
    assert client.read_ok() == b"\xfbf"
    client.send(text)
    client.send(b"last\n")
    client.send(b"")
    assert client.result().affected == 17
    assert client.query("SELECT a FROM t WHERE a LIKE 'last%'").rows == [(b"last",)]


# what follows a statement ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT objectId + '1x' FROM Object WHERE objectId < 4",
        "SELECT SUM(objectId + '1x') FROM Object WHERE objectId < 4",
        "SELECT objectId FROM Object WHERE objectId < 4",
        "SELECT nosuch FROM Object",
        "SELECT objectId / 0 FROM Object WHERE objectId = 7",
    ],
)
@pytest.mark.parametrize(
    "question",
    [
        "SHOW WARNINGS", "SHOW ERRORS", "SHOW COUNT(*) WARNINGS", "SELECT @@warning_count",
        "SELECT @@session.warning_count, @@error_count AS e", "SHOW WARNINGS LIMIT 1, 1",
    ],
)  # fmt: skip
def test_warnings_after_a_distributed_statement(pair, sql, question):
    found = []
    for client in pair():
        try:
            warnings = client.query(sql).warnings
        except ServerError as error:
            warnings = error.errno
        asked = client.query(question)
        found.append((warnings, asked.rows, [column[4:] for column in asked.columns]))
    assert found[0] == found[1]


def test_rows_put_into_variables_leave_mariadbs_warnings(pair):
    clients = pair()
    for sql in (
        "SELECT COUNT(*) INTO @n FROM Object",
        "SELECT 1 INTO @one",
        "SELECT MAX(objectId), MIN(objectId) INTO @most, @least FROM Object WHERE ra < 400 /* all */",
        "SELECT @n, @most, @least, @one",
        "SELECT COUNT(*) FROM Object INTO @n",
    ):
        results = [client.query(sql) for client in clients]
        ours, theirs = ((result.rows, result.affected, result.warnings) for result in results)
        assert ours == theirs, sql
        ours, theirs = (client.query("SHOW WARNINGS").rows for client in clients)
        assert ours == theirs, sql


def test_found_rows_and_row_count(pair):
    found = []
    for client in pair():
        client.query("SELECT objectId FROM Object WHERE objectId < 9")
        found.append(client.query("SELECT FOUND_ROWS()").rows)
        client.query("SELECT objectId FROM Object WHERE objectId < 9")
        found.append(client.query("SELECT ROW_COUNT()").rows)
    assert found[:2] == found[2:] == [[(b"8",)], [(b"-1",)]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT COUNT(*) FROM Object; SELECT 2",
        "SELECT COUNT(*) FROM Object; SELECT FOUND_ROWS(); SELECT COUNT(*) FROM Object WHERE objectId < 10;",
        "SET @a = 5; SELECT @a; SELECT COUNT(*) FROM Object; USE hip; SELECT DATABASE()",
        "SELECT objectId + '1x' FROM Object WHERE objectId = 3; SHOW WARNINGS",
        "SELECT CAST('seen_12' AS INT) FROM Object WHERE objectId = 3; SHOW WARNINGS",
        "SELECT 1; SELECT nosuch FROM Object; SELECT 2",
        "SELECT COUNT(*) FROM Object; SELECT nosuch; SELECT 2",
        "SELECT COUNT(*) FROM Object; ; SELECT 2",
        "/* SELECT 3; */ SELECT ';', COUNT(*) FROM Object -- ; SELECT 4\n; SELECT 2 # ; SELECT 5",
        "SELECT 1; /* x */ SHOW WARNINGS; SHOW /*!50002 FULL */ COLUMNS FROM Object",
    ],
)
@BOTH_ENDS
def test_several_statements_in_a_packet(pair, sql, flags):
    found = []
    for client in pair(flags=flags):
        client.command(b"\x03" + sql.encode())
        got, more = [], True
        while more:
            try:
                result = client.result()
                got.append(
                    (result.rows, len(result.columns), result.status, result.warnings, result.affected)
                )
                more = bool(result.status & MORE_RESULTS)
            except ServerError as error:
                got.append(error.args)
                more = False
        found.append((got, client.query("SELECT 'still there'").rows))
    assert [item[:2] for item in found[0][0]] == [item[:2] for item in found[1][0]]
    for ours, theirs in zip(found[0][0], found[1][0], strict=True):
        if not isinstance(ours[0], int):  # status flags: MORE_RESULTS and AUTOCOMMIT; not what no client uses
            assert ours[2] & 0x200B == theirs[2] & 0x200B
            assert ours[3:] == theirs[3:]
    assert found[0][1] == found[1][1]


@BOTH_ENDS
def test_what_the_proxy_answers_may_stand_among_several(raw, flags):
    client = raw(database="hip", flags=flags)
    results = client.query_all("SHOW TABLE STATUS; SELECT 1")
    assert {row[0]: row[1] for row in results[0].rows}[b"Object"] == b"skyshard"
    assert results[1].rows == [(b"1",)]
    asked = "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'Object'"
    assert [found.rows for found in client.query_all(f"SELECT 2; {asked}")] == [[(b"2",)], [(b"118216",)]]
    submitted, listed = client.query_all(
        "SUBMIT SELECT COUNT(*) FROM Object; SELECT QUERY FROM information_schema.queries ORDER BY ID DESC LIMIT 1"
    )
    assert listed.rows == [(b"SELECT COUNT(*) FROM Object",)]
    number = submitted.rows[0][0].decode()
    status = [(b"QUEUED",)]
    while status in ([(b"QUEUED",)], [(b"EXECUTING",)]):
        status = client.query(f"SELECT STATUS FROM information_schema.queries WHERE ID = {number}").rows
    assert status == [(b"COMPLETED",)]
    found = client.query_all(f"SELECT 3; SELECT * FROM qserv_result({number}) AS r; -- x\n SELECT 5")
    assert [one.rows for one in found] == [[(b"3",)], [(b"118216",)], [(b"5",)]]
    client.query("PREPARE s FROM 'SELECT COUNT(*) FROM Object'")
    assert [one.rows for one in client.query_all("SELECT 4; EXECUTE s")] == [[(b"4",)], [(b"118216",)]]


def test_an_error_in_the_middle_of_rows_is_an_error_packet(raw):
    client = raw(database="hip")
    sql = "SELECT objectId, CAST(118217 AS UNSIGNED) - objectId * 1.0, CAST(objectId AS UNSIGNED) - 3 FROM Object"
    with pytest.raises(ServerError) as caught:
        client.query(sql)
    assert (caught.value.errno, caught.value.sqlstate) == (1690, "22003")
    assert "Object_" not in caught.value.message
    assert client.query("SHOW WARNINGS").rows[0][:2] == (b"Error", b"1690")
    assert client.query("SELECT COUNT(*) FROM Object").rows == [(b"118216",)]


def test_a_client_that_leaves_cancels_its_work(cluster, raw):
    client = raw(database="hip")
    watcher = raw()
    client.command(b"\x03" + SLOW.encode())
    mine = str(client.thread_id).encode()
    while not any(
        row[0] == mine and b"chunks" in (row[6] or b"") for row in watcher.query("SHOW PROCESSLIST").rows
    ):
        time.sleep(0.01)

    async def running():
        state = states.read(cluster.directory)
        password = (cluster.directory / "secrets" / "service").read_text().strip()
        count = 0
        for name, path in state.sockets.items():
            if name != "home":
                connection = await RawConnection.open(Address("skyshard", password, socket=path))
                found = await connection.fetch(
                    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%flux%' "
                    f"AND INFO NOT LIKE '%{LOOK}%'"
                )
                count += int(found[0][0])
                await connection.close()
        return count

    while not asyncio.run(running()):
        pass
    client.socket.close()
    left = time.monotonic()
    while asyncio.run(running()):
        assert time.monotonic() - left < GONE_S
    while any(row[0] == mine for row in watcher.query("SHOW PROCESSLIST").rows):
        assert time.monotonic() - left < 5.0


def test_kill_connection_ends_the_session(raw):
    victim, other = raw(database="hip"), raw()
    seen = []

    def run():
        try:
            victim.query(SLOW)
        except (ServerError, Closed, ConnectionError) as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    mine = str(victim.thread_id).encode()
    while not any(
        row[0] == mine and b"chunks" in (row[6] or b"") for row in other.query("SHOW PROCESSLIST").rows
    ):
        assert thread.is_alive()
    other.query(f"KILL {victim.thread_id}")
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises((Closed, ConnectionError, ServerError)):
        victim.query("SELECT 1")
    deadline = time.monotonic() + GONE_S  # the home server's thread ends a moment after its connection
    while mine in [row[0] for row in other.query("SHOW PROCESSLIST").rows]:
        assert time.monotonic() < deadline


def test_a_command_may_be_too_long(proxy, raw):
    client = raw(proxy(packet_bytes=1000).port)
    assert len(client.query("SELECT '" + "x" * 900 + "'").rows) == 1
    assert refused(client.query, "SELECT '" + "x" * 1000 + "'") == 1153
    with pytest.raises((Closed, ConnectionError)):
        client.query("SELECT 1")


def test_a_session_is_in_step_whenever_its_query_is_killed(raw):
    victim, killer = raw(database="hip"), raw()
    for number in range(60):
        victim.command(b"\x03SELECT SUM(flux) FROM Detection WHERE flux > " + str(number).encode())
        time.sleep(number * 0.005)  # at another moment each time
        killer.query(f"KILL QUERY {victim.thread_id}")
        assert outcome(victim) in (1, 1317)
        text = f"still {number}"
        assert victim.query(f"SELECT '{text}'").rows == [(text.encode(),)]


@pytest.mark.parametrize(
    "sql",
    [
        "SET STATEMENT sql_select_limit = 3 FOR SELECT objectId FROM Object ORDER BY objectId",
        "/* a */ SET STATEMENT sql_mode = 'ANSI_QUOTES', max_statement_time=60 FOR SELECT COUNT(\"objectId\") FROM Object",
        "SET STATEMENT sql_mode = 'ANSI_QUOTES' FOR SELECT COUNT(*), \"objectId\" FROM Object WHERE \"objectId\" < 'p'",
        "SET STATEMENT max_statement_time=0.3 FOR " + SLOW,
        "SET STATEMENT nosuch=1 FOR SELECT COUNT(*) FROM Object",
        "SET STATEMENT div_precision_increment=1 FOR SELECT COUNT(*) / 7 FROM Object",
        "SET STATEMENT sql_select_limit = 1 FOR SHOW TABLES",
    ],
)
def test_settings_of_one_statement(pair, sql):
    found = []
    for client in pair():
        try:
            found.append(client.query(sql).rows)
        except ServerError as error:
            found.append(error.args[:2])
        assert client.query("SELECT @@sql_select_limit, @@max_statement_time").rows[0][1] == b"0.000000"
    assert found[0] == found[1]


def test_progress_is_reported_to_who_asks(cluster, raw):
    client = RawClient(cluster.port)
    with client:
        client.flags &= ~1  # MariaDB's own capabilities follow
        client.own = 1
        client.connect(database="hip")
        killer = raw()
        client.command(b"\x03" + SLOW.encode())
        reports = [client.read(), client.read()]
        killer.query(f"KILL QUERY {client.thread_id}")
        assert all(
            report.startswith(b"\xff\xff\xff\x01\x01\x02") and b"chunks" in report for report in reports
        )
        assert refused(client.read_ok) == 1317
        assert client.query("SELECT COUNT(*) FROM Object").rows == [(b"118216",)]


OF_LATIN1 = [
    "SELECT objectId, CONVERT(_latin1 X'FC' USING latin1) AS x, 'ü' FROM Object WHERE objectId = 32349",
    "SELECT CONVERT(_latin1 X'FC' USING latin1) AS x, 'ü', objectId FROM Object ORDER BY objectId LIMIT 2",
    "SELECT MIN(objectId), MAX(CONVERT(_latin1 X'FC' USING latin1)), 'ü' FROM Object",
    "SELECT DISTINCT CONVERT(_latin1 X'FC' USING latin1) AS x FROM Object",
    "SELECT GROUP_CONCAT(DISTINCT CONVERT(_latin1 X'FC' USING latin1)) FROM Object",
]


@pytest.mark.parametrize("names", ["utf8mb4", "latin1"])
def test_results_without_a_character_set_come_in_that_of_each_column(pair, names):
    clients = pair()
    for client in clients:
        client.query(f"SET NAMES {names}, character_set_results = NULL")
    for sql in OF_LATIN1:
        ours, theirs = (client.query(sql.encode()).rows for client in clients)
        assert ours == theirs, sql
        ours, theirs = (client.execute(client.prepare(sql)[0]).rows for client in clients)
        assert ours == theirs, sql
