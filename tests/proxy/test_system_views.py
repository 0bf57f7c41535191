"""information_schema with the truth in it: rows of sharded tables, and what distributed queries do."""

import threading
import time

import pytest

from proxy.registry import RunningQuery
from proxy.system_views import may_read, process_values, references, rewritten
from shard.planner.lexer import LexerMode, tokenize
from shard.wire.packets import ColumnDefinition
from tests.support.rawclient import ServerError

SLOW = (
    "SELECT COUNT(*) FROM hip.Detection a JOIN hip.Detection b ON a.objectId = b.objectId "
    "WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd) > 3"
)


@pytest.mark.parametrize(
    ("sql", "database", "found"),
    [
        ("SELECT * FROM information_schema.PROCESSLIST", None, [("PROCESSLIST", False)]),
        ("SELECT * FROM `INFORMATION_SCHEMA` . `processlist` p", None, [("PROCESSLIST", True)]),
        ("SELECT * FROM information_schema.tables AS t WHERE 1", None, [("TABLES", True)]),
        ("SELECT 1 FROM x, information_schema.tables WHERE 1", None, [("TABLES", False)]),
        ("SELECT processlist.id FROM processlist ORDER BY 1", "information_schema", [("PROCESSLIST", False)]),
        ("SELECT id FROM processlist", "own", []),
        ("SELECT id FROM own.processlist", "information_schema", []),
        ("SELECT 'information_schema.tables', a.tables FROM a", None, []),
        ("SELECT information_schema.tables.table_rows FROM own.t", None, []),
        ("SELECT * FROM (SELECT * FROM information_schema.tables) t JOIN information_schema.tables u USING (table_name)",
         None, [("TABLES", False), ("TABLES", True)]),
    ],
)  # fmt: skip
def test_references_are_found_where_tables_stand(sql, database, found):
    mode = LexerMode()
    assert [(one.view, one.aliased) for one in references(tokenize(sql, mode), database)] == found


def test_a_reference_becomes_a_derived_table():
    sql = "SELECT TABLE_ROWS FROM information_schema.tables WHERE TABLE_NAME = 'x'"
    found = references(tokenize(sql, LexerMode()), None)
    columns = {"TABLES": ["TABLE_NAME", "TABLE_ROWS"]}
    assert rewritten(sql, found, columns, {"TABLES": {"TABLE_ROWS": "7"}}, {"TABLE_ROWS": "Table_Rows"}) == (
        "SELECT TABLE_ROWS FROM (SELECT `TABLE_NAME` AS `TABLE_NAME`, 7 AS `Table_Rows` FROM "
        "information_schema.TABLES) AS `tables` WHERE TABLE_NAME = 'x'"
    )


def test_names_keep_the_case_they_are_written_in(raw):
    client = raw()
    of = "FROM information_schema.tables WHERE tables.table_schema = 'hip'"
    found = client.query(f"SELECT tables.table_name, Table_Rows {of}")
    assert [ColumnDefinition.decode(column).name for column in found.columns] == [
        b"table_name",
        b"Table_Rows",
    ]
    star = client.query(f"SELECT *, table_rows {of}")
    assert [ColumnDefinition.decode(column).name for column in star.columns][:3] == [
        b"TABLE_CATALOG",
        b"TABLE_SCHEMA",
        b"TABLE_NAME",
    ]


def test_looking_at_a_statement_takes_time_that_grows_with_its_length():
    sql = b"INSERT INTO own.t VALUES " + b"('V* R Lyr, tables'), " * 40_000
    asking = b"SELECT * FROM own.t WHERE a IN (" + b"'* engine', " * 40_000 + b"'x')"
    started = time.process_time()
    assert not may_read(sql)
    assert not may_read(asking)
    assert time.process_time() - started < 0.5
    assert may_read(b" /* x */ (select * from tables)")


def test_long_texts_of_queries_are_cut_and_only_named_columns_are_filled(raw):
    queries = [
        RunningQuery(number, number, "u", "SELECT '" + "é" * 4_000_000).shown() for number in range(100)
    ]
    values = process_values(queries)
    assert sum(map(len, values.values())) < 10 << 20
    client = raw(database="information_schema")
    of = "information_schema.TABLES.TABLE_SCHEMA = 'hip' AND information_schema . `tables`.TABLE_NAME = 'Object'"
    sql = f"SELECT information_schema.TABLES.TABLE_ROWS, TABLES.ENGINE FROM information_schema.TABLES WHERE {of}"
    counted = client.query("SELECT COUNT(*) FROM hip.Object").rows[0][0]
    assert client.query(sql).rows == [(counted, b"skyshard")]


def test_rows_of_sharded_tables_are_true(raw):
    client = raw(database="information_schema")
    counted = client.query("SELECT COUNT(*) FROM hip.Object").rows
    of = "WHERE TABLE_SCHEMA = 'hip' AND TABLE_NAME = 'Object'"
    for table in ("information_schema.TABLES", "tables", "`TABLES` x"):
        assert client.query(f"SELECT table_rows FROM {table} {of}").rows == counted
    whole = client.query(f"SELECT * FROM tables {of}")
    before = client.query(f"SELECT TABLE_CATALOG, TABLE_SCHEMA, TABLE_NAME FROM TABLES {of}")
    assert whole.rows[0][:3] == before.rows[0]
    names = client.query(
        "SELECT COLUMN_NAME FROM COLUMNS WHERE TABLE_NAME = 'TABLES' ORDER BY ORDINAL_POSITION"
    ).rows
    assert [(ColumnDefinition.decode(column).name,) for column in whole.columns] == names
    assert client.query(f"SELECT ENGINE FROM tables {of}").rows == [(b"skyshard",)]
    client.query("SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', NAMES latin1")
    assert client.query(f'SELECT table_rows FROM information_schema."tables" {of}').rows == counted
    here = client.query(
        "SELECT SUM(table_rows) FROM tables WHERE table_schema = 'hip' AND engine = 'skyshard'"
    ).rows
    shown = client.query("SHOW TABLE STATUS FROM hip").rows
    assert here == [(b"%d" % sum(int(row[4]) for row in shown if row[1] == b"skyshard"),)]


def test_running_queries_are_shown_to_those_who_may_see_them(raw):
    victim, root = raw(), raw()
    root.query("CREATE OR REPLACE USER watcher IDENTIFIED BY ''")
    watcher = raw(user="watcher")
    mine = f"WHERE ID = {victim.thread_id}"

    def run():
        with pytest.raises(ServerError, match="interrupted"):
            victim.query(SLOW)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        sql = f"SELECT COMMAND, STATE, INFO, PROGRESS, TIME_MS > 0 FROM information_schema.PROCESSLIST {mine}"
        while b"chunks" not in ((found := root.query(sql).rows)[0][1] or b""):
            assert time.monotonic() < deadline
            assert thread.is_alive()
        assert (found[0][0], found[0][2], found[0][4]) == (b"Query", SLOW.encode(), b"1")
        assert 0 <= float(found[0][3]) <= 100
        same = root.query(
            f"SELECT COUNT(*) FROM information_schema.processlist p {mine} AND p.INFO_BINARY = p.INFO"
        )
        assert same.rows == [(b"1",)]
        assert watcher.query(f"SELECT * FROM information_schema.PROCESSLIST {mine}").rows == []
        with pytest.raises(ServerError) as caught:
            watcher.query("SELECT * FROM information_schema.PROCESSLIST WHERE nosuch = 1")
        assert "Detection" not in caught.value.message
    finally:
        root.query(f"KILL QUERY {victim.thread_id}")
        thread.join(20)
        root.query("DROP USER watcher")
    assert not thread.is_alive()
    idle = f"SELECT COMMAND, INFO FROM information_schema.PROCESSLIST {mine}"
    assert root.query(idle).rows[0] in ((b"Sleep", None), (b"Killed", None))  # killed, until its next command
