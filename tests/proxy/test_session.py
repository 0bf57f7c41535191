"""A real client against a real cluster: logins, prepared statements, traps, kills, own tables, faults."""

import socket
import threading

import pymysql
import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.frames import Parameter
from tests.support.rawclient import RawClient


def ask(client, sql, *arguments):
    with client.cursor() as cursor:
        cursor.execute(sql, *arguments)
        return cursor.fetchall()


def errno(client, sql):
    with pytest.raises(pymysql.MySQLError) as caught:
        ask(client, sql)
    return caught.value.args[0]


def test_a_wrong_password_closes_the_connection(cluster):
    with pytest.raises(pymysql.OperationalError) as caught:
        pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", password="wrong")
    assert caught.value.args[0] == 1045


def test_the_greeting_is_the_home_servers(client):
    assert client.server_version.startswith("5.5.5-10.11")
    assert ask(client, "SELECT CONNECTION_ID()") == ((client.thread_id(),),)


@pytest.mark.parametrize(
    "sql",
    [
        "EXECUTE IMMEDIATE CONCAT('SELECT COUNT(*) FROM hip.Ob', 'ject')",
        "DO (SELECT COUNT(*) FROM hip.Object)",
        "SELECT own.f()",
    ],
)
def test_nothing_that_slips_past_reads_nothing(client, sql):
    ask(client, "CREATE DATABASE IF NOT EXISTS own")
    ask(client, "CREATE OR REPLACE VIEW own.v AS SELECT * FROM hip.Object")
    ask(
        client,
        "CREATE OR REPLACE FUNCTION own.f() RETURNS BIGINT READS SQL DATA RETURN (SELECT COUNT(*) FROM hip.Object)",
    )
    assert errno(client, sql) == 1235
    assert ask(client, "SELECT 1") == ((1,),)


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("INSERT INTO Object (objectId) VALUES (1)", 1290),
        ("UPDATE hip.Object SET vmag = 1", 1290),
        ("DELETE FROM Object WHERE objectId = 1", 1290),
        ("ALTER TABLE Object ADD COLUMN x INT", 1290),
        ("DROP TABLE Object", 1290),
        ("TRUNCATE TABLE Object", 1290),
        ("CREATE TEMPORARY TABLE Object (a INT)", 1290),
        ("CREATE OR REPLACE TABLE Object (a INT)", 1290),
        ("UPDATE Filter SET zeropoint = 1", 1290),
        ("DROP DATABASE hip", 1290),
        ("EXECUTE IMMEDIATE 'TRUNCATE hip.Filter'", 1290),
        ("CREATE PROCEDURE own.p() DROP TABLE hip.Object", 1290),
        ("CREATE TABLE Object (a INT)", 1050),
        ("CREATE TABLE own.copy LIKE Object", 1235),
        ("SELECT * FROM Object_330", 1146),
        ("SELECT * FROM Object a, Object b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 1", 1235),
        ("SELECT scisql_s2PtInBox(ra, decl, 1) FROM Object", 1210),
        ("KILL QUERY 999999", 1094),
        ("SELECT objectId FROM Object LIMIT :starId", 1064),
        ("SELECT objectId FROM Object WHERE objectId = :1", 1064),
        ("SET STATEMENT max_statement_time=1 FOR SELECT objectId FROM Object WHERE :x = 3", 1064),
    ],
)
def test_refusals(client, sql, number):
    assert errno(client, sql) == number


@pytest.mark.parametrize(("digits", "number"), [(4, None), (6, 1235), (0, 1235), (12, 1235)])
def test_quotients_of_constants_are_folded_only_as_mariadb_would(client, digits, number):
    inside = "SELECT COUNT(*) FROM Object WHERE scisql_angSep(ra, decl, 101.28, -16.72) < 1800/3600"
    ask(client, f"SET SESSION div_precision_increment = {digits}")
    try:
        if number is None:
            assert ask(client, inside)[0][0] > 0
        else:
            assert errno(client, inside) == number
        assert ask(client, "SELECT COUNT(*) FROM Object WHERE vmag / 2 < 1")[0][0] > 0
    finally:
        ask(client, "SET SESSION div_precision_increment = DEFAULT")


def test_a_view_of_a_replicated_table_cannot_be_written(client):
    ask(client, "CREATE DATABASE IF NOT EXISTS own")
    ask(client, "CREATE OR REPLACE VIEW own.bands AS SELECT * FROM hip.Filter")
    ask(client, "CREATE OR REPLACE VIEW own.some AS SELECT * FROM own.bands")
    for name in ("own.bands", "own.some"):
        assert errno(client, f"UPDATE {name} SET zeropoint = 1") == 1290
        assert ask(client, f"SELECT COUNT(*) FROM {name} WHERE zeropoint = 1") == ((0,),)


def test_own_tables_are_mariadb(client):
    ask(client, "CREATE DATABASE IF NOT EXISTS own")
    ask(client, "CREATE OR REPLACE TABLE own.t (a INT PRIMARY KEY, b LONGTEXT)")
    ask(client, "INSERT INTO own.t VALUES (1, %s), (2, NULL)", ("x" * 17_000_000,))
    assert ask(client, "SELECT a, LENGTH(b) FROM own.t ORDER BY a") == ((1, 17_000_000), (2, None))
    assert len(ask(client, "SELECT b FROM own.t WHERE a = 1")[0][0]) == 17_000_000
    assert ask(client, "SELECT scisql_angSep(0, 0, 0, a) FROM own.t WHERE a = 1")[0][0] == pytest.approx(
        1, rel=1e-14
    )


def number(value):
    return Parameter(8, False, value.to_bytes(8, "little", signed=True))


async def test_prepared_statements_with_parameters(cluster):
    connection = await RawConnection.open(cluster.address, "hip")
    for sql, parameters, expected in [
        (b"SELECT objectId FROM Object WHERE objectId = ?", [number(32349)], 1),
        (b"SELECT objectId FROM Object WHERE objectId IN (?, ?)", [number(1), number(2)], 2),
        (
            b"SELECT objectId FROM Object WHERE objectId > ? AND objectId <= ?",
            [number(100), number(110)],
            None,
        ),
        (
            b"SELECT objectId FROM Object WHERE scisql_s2PtInCircle(ra, decl, ?, ?, ?) = 1",
            [number(84), number(-5), number(1)],
            None,
        ),
    ]:
        result = await connection.execute(sql, parameters)
        got = sum([block.rows async for block in result.blocks()])
        text = sql.decode()
        for parameter in parameters:
            text = text.replace("?", str(int.from_bytes(parameter.value, "little", signed=True)), 1)
        want = len(await connection.fetch(text))
        assert got == want
        assert want > 0
        assert expected in (None, got)
    with pytest.raises(ServerError) as caught:
        await connection.execute(b"SELECT nosuch FROM Object WHERE objectId = ?", [number(1)])
    assert caught.value.errno == 1054
    await connection.close()


async def test_a_prepared_statement_sees_a_view_as_it_is_now(cluster, client):
    ask(client, "CREATE DATABASE IF NOT EXISTS own")
    ask(client, "CREATE OR REPLACE VIEW own.few AS SELECT objectId FROM hip.Object WHERE objectId < 4")
    with RawClient(cluster.port) as raw:
        raw.connect(database="hip")
        statement = raw.prepare("SELECT * FROM own.few")[0]
        assert len(raw.execute(statement).rows) == 3
        ask(client, "CREATE OR REPLACE VIEW own.few AS SELECT objectId FROM hip.Object WHERE objectId < 3")
        assert len(raw.execute(statement).rows) == 2
        raw.query("USE own")
        ask(client, "CREATE OR REPLACE VIEW own.few AS SELECT objectId FROM hip.Object WHERE objectId < 2")
        assert len(raw.execute(statement).rows) == 1


SLOW = "SELECT COUNT(*) FROM Detection a JOIN Detection b ON a.objectId = b.objectId WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd) > 3"


def test_kill_query_from_another_connection(cluster, client):
    victim, seen = client.thread_id(), []

    def run():
        seen.append(errno(client, SLOW))

    thread = threading.Thread(target=run)
    thread.start()
    other = pymysql.connect(host="127.0.0.1", port=cluster.port, user="root")
    try:
        while not any(row[0] == victim and "chunks" in str(row[6]) for row in ask(other, "SHOW PROCESSLIST")):
            assert thread.is_alive()
        ask(other, f"KILL QUERY {victim}")
        thread.join(10)
    finally:
        other.close()
    assert seen == [1317]
    assert ask(client, "SELECT 1") == ((1,),)


def test_a_limit_on_time(client):
    ask(client, "SET max_statement_time = 0.2")
    assert errno(client, SLOW) == 1969


def test_limits_and_settings_apply_once(client):
    ask(client, "SET sql_select_limit = 7")
    assert len(ask(client, "SELECT objectId FROM Object")) == 7
    assert ask(client, "SELECT COUNT(*) FROM Object") == ((118216,),)


def test_results_in_wide_characters_are_refused(client):
    ask(client, "SET character_set_results = utf16")
    try:
        assert errno(client, "SELECT objectId FROM Object LIMIT 1") == 1235
    finally:
        ask(client, "SET character_set_results = utf8mb4")
    assert len(ask(client, "SELECT objectId FROM Object LIMIT 1")) == 1


def test_explain(client):
    steps = ask(client, "EXPLAIN SELECT band, COUNT(*) FROM Detection WHERE objectId = 5 GROUP BY band")
    assert [step[1:5] for step in steps] == [
        ("fragment", "scatter+merge", "1", "1"),
        ("merge", "scatter+merge", None, None),
    ]
    assert "skyshard" in ask(client, "EXPLAIN FORMAT=JSON SELECT * FROM Object")[0][0]


def test_explain_knows_the_polygon_in_a_variable(client):
    vertices = "10, 10, 20, 10, 20, 20, 10, 20"
    ask(client, f"SET @r = 1, @p = scisql_s2CPolyToBin({vertices}), @q = NULL;")
    sql = "EXPLAIN SELECT objectId FROM Object WHERE scisql_s2PtInCPoly(ra, decl, {}) = 1 AND {} IS NULL"
    ((*steps, shown),) = ask(client, sql.format("@p", "@q"))
    ((*same, written),) = ask(client, sql.format(vertices, "@q"))
    assert steps == same
    assert int(steps[3]) < int(ask(client, "EXPLAIN SELECT objectId FROM Object")[0][3])
    assert "@q" in shown
    assert shown.count("COS(RADIANS(`decl`))") == written.count("COS(RADIANS(`decl`))") > 0


def test_the_connection_is_cut_by_nonsense(cluster):
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=5) as raw:
        raw.recv(4096)
        raw.sendall(b"\x05\x00\x00\x01hello")
        said = b"".join(iter(lambda: raw.recv(4096), b""))
    assert said == b"\x16\x00\x00\x02\xff\x13\x04#08S01Bad handshake"


def test_rows_are_text(client):
    assert rows.COMPILED
    assert ask(client, "SELECT objectId, bv FROM Object WHERE objectId IN (1, 2) ORDER BY 1") == (
        (1, 0.482),
        (2, 0.999),
    )


@pytest.mark.parametrize("form", ["", "FORMAT=JSON "])
def test_bytes_that_are_no_text_may_be_explained(cluster, form):
    with RawClient(cluster.port).connect(database="hip") as client:
        sql = b"EXPLAIN %sSELECT COUNT(*) FROM Object WHERE '\x86' = 'a'" % form.encode()
        assert client.query(sql).rows
        assert client.query("SELECT 1").rows == [(b"1",)]
