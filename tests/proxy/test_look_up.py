"""Look-ups of a known shape: what is remembered must be forgotten when it no longer holds."""

import asyncio
import contextlib
import struct
import threading
import time

import pymysql
import pytest
import yaml

from backend.connection import RawConnection
from proxy.shapes import ALLOWED_S
from tests.proxy.test_session import ask
from tests.support.rawclient import RawClient, ServerError, refused

BY_KEY = "SELECT objectId, ra, decl FROM hip.Object WHERE objectId = "


@pytest.fixture
def keys(client):
    found = ask(client, "SELECT objectId FROM hip.Object WHERE objectId < 100000 ORDER BY objectId LIMIT 12")
    return [row[0] for row in found]


@pytest.fixture
def twin(plain):
    connection = pymysql.connect(unix_socket=plain.socket, user="root", database="hip")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM Object WHERE objectId = {}",
        "SELECT o.ra + 1, '7', 17 AS n FROM hip.Object AS o WHERE o.objectId IN ({}) AND o.decl < 1e3 -- {}",
        "SELECT objectId FROM Object WHERE objectId = {} /* 77 */ LIMIT 1",
        "SELECT objectId FROM Object WHERE objectId = {} OR objectId = 3",
        "SELECT objectId, {} FROM Object WHERE objectId = {}",
        "SELECT objectId FROM Object WHERE objectId = {}.0",
        "SELECT objectId FROM Object WHERE objectId = '{}'",
        "SELECT objectId FROM Object WHERE objectId = -{}",
        "SELECT objectId FROM Object WHERE objectId = 0{}",
        "SELECT objectId FROM Object WHERE objectId = {} LIMIT 0",
        "SELECT COUNT(*) FROM Object WHERE objectId = {} AND ra > 5",
        "SELECT x.ra FROM (SELECT ra FROM Object WHERE objectId = {}) x",
        "SELECT objectId FROM Object WHERE objectId = {} ORDER BY ra LIMIT 1, 5",
    ],
)
def test_every_key_has_its_own_answer(client, twin, keys, sql):
    others = [1, 9, 10, 99, 999_999_999, 10**12, 10**18 - 1, 10**19, 2**63]
    for key in [*keys, *others, *reversed(keys)]:
        text = sql.replace("{}", str(key))
        with twin.cursor() as plainly, client.cursor() as cursor:
            plainly.execute(text)
            cursor.execute(text)
            assert sorted(cursor.fetchall()) == sorted(plainly.fetchall()), text
            assert [column[:6] for column in cursor.description] == [c[:6] for c in plainly.description]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*), MIN(ra), AVG(decl), STD(vMag) FROM Object WHERE objectId = {}",
        "SELECT * FROM Detection WHERE objectId = {} ORDER BY mjd DESC, detectionId LIMIT 2 OFFSET 1",
        "SELECT detectionId AS n FROM hip.Detection WHERE objectId = {} ORDER BY n LIMIT 3",
        "SELECT band, COUNT(*) AS n, SUM(flux) FROM Detection WHERE objectId = {} GROUP BY band ORDER BY n DESC, band",
        "SELECT COUNT(*) AS n, MAX(flux) FROM Detection WHERE objectId = {} HAVING n > 0",
        "SELECT DISTINCT band FROM Detection WHERE objectId = {} ORDER BY band",
        "SELECT COUNT(DISTINCT d.band), ROUND(MAX(o.ra), 2) FROM Object o JOIN Detection d USING (objectId) "
        "WHERE o.objectId = {}",
        "SELECT band, COUNT(*) FROM Detection WHERE objectId = {} GROUP BY band WITH ROLLUP",
    ],
)
def test_one_chunk_answers_what_is_merged_otherwise(client, twin, keys, short, sql):
    others = [1, 9, 999_999_999]
    for key in [*keys, *others, *reversed(keys)]:
        text = sql.replace("{}", str(key))
        with twin.cursor() as plainly, client.cursor() as cursor:
            plainly.execute(text)
            cursor.execute(text)
            found = cursor.fetchall()
            assert found == plainly.fetchall() or "SUM" in text or "AVG" in text, text
            assert len(found) == plainly.rowcount
            assert [column[:6] for column in cursor.description] == [c[:6] for c in plainly.description]
    assert short() >= len(keys)


def test_a_view_with_a_short_name_is_in_nobodys_way(client, keys, short):
    ask(client, "CREATE DATABASE IF NOT EXISTS own")
    ask(client, "CREATE OR REPLACE VIEW own.o AS SELECT * FROM hip.Object")
    try:
        for key in keys:
            assert ask(client, f"SELECT vMag, objectId FROM Object WHERE objectId = {key}")[0][1] == key
        assert short() >= len(keys) - 2
    finally:
        ask(client, "DROP VIEW own.o")


def test_the_short_way_is_taken(client, keys, short):
    for key in keys:
        assert ask(client, f"{BY_KEY}{key}")[0][0] == key
    assert short() >= len(keys) - 2  # the first is learnt, and the catalogue may have been read too long ago


def test_many_at_once_take_it_too(cluster, client, keys, short):
    """More look-ups than a worker has slots wait for their turn; none is planned anew for that."""
    for key in keys:
        ask(client, f"{BY_KEY}{key}")
    clients, each = 48, 20

    async def one(number):
        connection = await RawConnection.open(cluster.address)
        for turn in range(each):
            key = keys[(number + turn) % len(keys)]
            assert (await connection.fetch(f"{BY_KEY}{key}"))[0][0] == str(key).encode()
        await connection.close()

    async def all_of_them():
        await asyncio.gather(*map(one, range(clients)))

    short()
    asyncio.run(all_of_them())
    assert short() >= 0.7 * clients * each  # of those in flight when what is known is too old, none


def test_a_revoked_privilege_is_missed_within_its_time(cluster, client, account, keys):
    account("'viewer'@'%'")
    with contextlib.closing(
        pymysql.connect(host="127.0.0.1", port=cluster.port, user="viewer", password="geheim")
    ) as viewer:
        for key in keys:
            assert len(ask(viewer, f"{BY_KEY}{key}")) == 1
        ask(client, "REVOKE SELECT ON hip.* FROM 'viewer'@'%'")
        revoked = time.monotonic()
        while (refused := _refusal(viewer, f"{BY_KEY}{keys[0]}")) is None:
            assert time.monotonic() < revoked + ALLOWED_S + 5
        assert refused in (1044, 1142)


def _refusal(connection, sql):
    try:
        ask(connection, sql)
    except pymysql.MySQLError as error:
        return error.args[0]
    return None


def test_what_goes_home_ends_what_was_allowed(cluster, client, account, keys):
    account("'viewer'@'%'")
    with contextlib.closing(
        pymysql.connect(host="127.0.0.1", port=cluster.port, user="viewer", password="geheim")
    ) as viewer:
        for key in keys:
            assert len(ask(viewer, f"{BY_KEY}{key}")) == 1
        ask(client, "REVOKE SELECT ON hip.* FROM 'viewer'@'%'")
        ask(viewer, "DO 1")
        with pytest.raises(pymysql.MySQLError):
            ask(viewer, f"{BY_KEY}{keys[0]}")


def test_the_first_look_up_of_a_session_is_checked_as_its_own(raw, client, account, keys, short):
    sql = f"SELECT objectId, vMag FROM Object WHERE objectId = {keys[0]}"
    want = [tuple(str(value).encode() for value in row) for row in ask(client, sql)]
    account("colourblind", grants=("SELECT (objectId, ra) ON hip.Object",))
    for last in (False, False, True):
        short()
        assert raw(database="hip").query(sql).rows == want
        if short() == 1:
            break
        assert not last  # the catalogue may have been read too long ago, but not each time
    assert refused(raw(user="colourblind", password="geheim", database="hip").query, sql) == 1143
    assert refused(raw(database="mysql").query, sql) == 1146
    assert refused(raw().query, sql) == 1046
    ansi = raw(database="hip")
    ansi.query("SET sql_mode = 'ANSI_QUOTES', character_set_results = NULL, collation_connection = utf16_bin")
    assert ansi.query(sql).rows == want
    assert ansi.query('SELECT "objectId" FROM Object WHERE "objectId" = ' + str(keys[1])).rows == [
        (str(keys[1]).encode(),)
    ]


def test_settings_are_those_of_the_moment(client, keys):
    sql = f'SELECT "objectId", 1 / 3 FROM hip.Object WHERE objectId = {keys[0]}'
    for _ in range(3):
        assert str(ask(client, sql)[0]) == "('objectId', Decimal('0.3333'))"
        ask(client, "SET SESSION sql_mode = 'ANSI_QUOTES', div_precision_increment = 6")
        assert str(ask(client, sql)[0]) == f"({keys[0]}, Decimal('0.333333'))"
        ask(client, "SET SESSION sql_mode = DEFAULT, div_precision_increment = DEFAULT")
    ask(client, "SET SESSION sql_select_limit = 0")
    assert ask(client, sql) == ()
    ask(client, "SET SESSION sql_select_limit = DEFAULT")
    assert len(ask(client, sql)) == 1


def test_another_default_database_is_another_table(client, keys):
    sql = f"SELECT * FROM Object WHERE objectId = {keys[0]}"
    ask(client, "CREATE OR REPLACE DATABASE mine")
    ask(client, "CREATE TABLE mine.Object (objectId BIGINT, word TEXT)")
    ask(client, f"INSERT INTO mine.Object VALUES ({keys[0]}, 'mine')")
    try:
        for _ in range(3):
            client.select_db("hip")
            assert ask(client, sql) == ask(client, sql) != ((keys[0], "mine"),)
            client.select_db("mine")
            assert ask(client, sql) == ((keys[0], "mine"),)
    finally:
        ask(client, "DROP DATABASE mine")


def test_a_view_is_read_as_it_is(cluster, client, keys):
    sql = f"SELECT * FROM mine.seen WHERE objectId = {keys[0]}"
    ask(client, "CREATE OR REPLACE DATABASE mine")
    (want,) = ask(client, f"{BY_KEY}{keys[0]}")
    try:
        with contextlib.closing(
            pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", autocommit=True)
        ) as other:
            for columns, values in (("objectId, ra", want[:2]), ("decl, objectId", want[2::-2])):
                ask(client, f"CREATE OR REPLACE VIEW mine.seen AS SELECT {columns} FROM hip.Object")
                for _ in range(3):
                    assert ask(other, sql) == (values,)
    finally:
        ask(client, "DROP DATABASE mine")


def test_the_last_statement_is_the_look_up(client, keys, short):
    sql = "SELECT CAST('x7' AS INT) FROM hip.Object WHERE objectId = "
    for key in keys[:4]:
        assert ask(client, f"{sql}{key}") == ((0,),)
        assert [row[1] for row in ask(client, "SHOW WARNINGS")] == [1292]
        assert ask(client, "SELECT FOUND_ROWS()") == ((1,),)
    for key in keys[:4]:
        ask(client, f"{sql}{key}")
    assert short() >= 2


CATALOG = {
    "database": "turns",
    "partitioning": {"stripes": 18, "sub_stripes": 3, "overlap_deg": 0.01},
    "tables": [
        {
            "name": "Star", "kind": "director", "key": "id", "longitude": "ra", "latitude": "decl",
            "columns": {"id": "BIGINT", "ra": "DOUBLE", "decl": "DOUBLE", "turn": "INT"},
            "files": ["star.csv"], "format": {"type": "csv", "header": True},
        }
    ],
}  # fmt: skip


def _write(directory, turn):
    """Write a catalogue of 200 stars, which are elsewhere every turn."""
    lines = [
        f"{n},{(n * 1.7 + turn * 90) % 360},{(n - 100) * 0.8 * (-1) ** turn},{turn}" for n in range(1, 201)
    ]
    (directory / "star.csv").write_text("id,ra,decl,turn\n" + "\n".join(lines) + "\n")
    path = directory / "CATALOG.yaml"
    path.write_text(yaml.safe_dump(CATALOG))
    return path


def test_a_replaced_catalogue_is_never_mixed(cluster, tmp_path, short):
    """While a database is swapped every look-up is answered of one version, or refused; then of the new one."""
    cluster.ingest(_write(tmp_path, 0), "--replace")
    stop = threading.Event()
    met = {(how, turn): threading.Event() for how in ("text", "prepared") for turn in range(3)}
    seen: list[tuple] = []

    def look():
        with contextlib.closing(
            pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", autocommit=True)
        ) as mine:
            number = 0
            while not stop.is_set():
                number = number % 200 + 1
                try:
                    seen.append(ask(mine, f"SELECT id, turn FROM turns.Star WHERE id = {number}"))
                    assert [row[0] for row in seen[-1]] == [number]
                    met["text", seen[-1][0][1]].set()
                except pymysql.MySQLError as error:
                    seen.append(error.args)

    def execute():
        """Look up by a statement that was prepared once."""
        with RawClient(cluster.port).connect() as mine:
            number, _, _ = mine.prepare("SELECT id, turn FROM turns.Star WHERE id = ?")
            key = 0
            while not stop.is_set():
                key = key % 200 + 1
                try:
                    (row,) = mine.execute(number, [key]).rows
                    executed.append(struct.unpack("<2xqi", row))
                    assert executed[-1][0] == key
                    met["prepared", executed[-1][1]].set()
                except ServerError as error:
                    refused.append(error)

    executed: list[tuple] = []
    refused: list[ServerError] = []
    threads = [threading.Thread(target=look), threading.Thread(target=execute)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            if turn:
                cluster.ingest(_write(tmp_path, turn), "--replace")
            assert all(met[how, turn].wait(30) for how in ("text", "prepared"))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    turns = [answer[0][1] for answer in seen if isinstance(answer[0], tuple)]
    assert [answer for answer in seen if answer == ()] == []
    assert turns == sorted(turns)
    assert set(turns) == {0, 1, 2}
    prepared = [turn for _, turn in executed]
    assert prepared == sorted(prepared)
    assert set(prepared) == {0, 1, 2}
    assert short() > 50
