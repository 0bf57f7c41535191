"""What stores the rows of a query: where the query is, and where it is not one."""

import pytest

from shard.errors import SkyError
from shard.planner.envelope import Stores, find
from shard.planner.lexer import tokenize


@pytest.mark.parametrize(
    ("sql", "stores", "query", "tail"),
    [
        ("INSERT INTO t SELECT a FROM b", Stores.INSERT, "SELECT a FROM b", ""),
        ("REPLACE t (x, y) (SELECT a FROM b)", Stores.INSERT, "(SELECT a FROM b)", ""),
        ("INSERT INTO t WITH c AS (SELECT 1) SELECT * FROM c", Stores.INSERT, "WITH c AS (SELECT 1) SELECT * FROM c", ""),
        (
            "INSERT INTO t SELECT a FROM b JOIN c ON b.x = c.x ON DUPLICATE KEY UPDATE y = VALUES(y)",
            Stores.INSERT, "SELECT a FROM b JOIN c ON b.x = c.x ", "ON DUPLICATE KEY UPDATE y = VALUES(y)",
        ),
        ("INSERT INTO t SELECT a FROM b RETURNING id", Stores.INSERT, "SELECT a FROM b ", "RETURNING id"),
        ("CREATE TABLE t (k INT, KEY (k)) AS SELECT a FROM b", Stores.CREATE, "SELECT a FROM b", ""),
        ("CREATE OR REPLACE TEMPORARY TABLE t SELECT a FROM b", Stores.CREATE, "SELECT a FROM b", ""),
        ("SELECT a INTO @x FROM b", Stores.VARIABLES, "SELECT a   FROM b", "INTO @x"),
        ("SELECT a, c FROM b LIMIT 1 INTO @x, @y", Stores.VARIABLES, "SELECT a, c FROM b LIMIT 1  ", "INTO @x, @y"),
        ("SET @x = (SELECT MAX(a) FROM b)", Stores.VARIABLES, "SELECT MAX(a) FROM b", ")"),
    ],
)  # fmt: skip
def test_the_query_is_found(sql, stores, query, tail):
    found = find(sql, tokenize(sql))
    assert (found.stores, found.query, found.tail) == (stores, query, tail)
    assert found.around("Q").startswith(found.head)


def test_variables_stand_where_they_stood():
    early, late = (find(sql, tokenize(sql)) for sql in ("SELECT a INTO @x FROM b", "SELECT a FROM b INTO @x"))
    assert early.over("t").split() == "SELECT * INTO @x FROM t".split()
    assert late.over("t").split() == "SELECT * FROM t INTO @x".split()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES ((SELECT MAX(a) FROM b))",
        "INSERT INTO t SET a = (SELECT 1)",
        "CREATE TABLE t (a INT) WITH SYSTEM VERSIONING",
        "CREATE VIEW v AS SELECT a FROM b",
        "SELECT a FROM b",
        "SET @x = (SELECT 1) + (SELECT 2)",
        "SET @x = 5",
    ],
)
def test_there_is_none(sql):
    assert find(sql, tokenize(sql)) is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a INTO OUTFILE 'x' FROM b",
        "INSERT INTO t SELECT a FROM b ON DUPLICATE KEY UPDATE c = (SELECT 1)",
    ],
)
def test_what_is_refused(sql):
    with pytest.raises(SkyError) as caught:
        find(sql, tokenize(sql))
    assert caught.value.errno == 1235
