"""skyshard's own settings: set beside MariaDB's, for one statement, read anywhere, listed, and reset."""

import pytest

from proxy.session.limits import RowLimits
from proxy.session.own_settings import filled, find
from shard.errors import SkyError
from shard.planner.lexer import text_of, tokenize
from shard.wire.packets import ColumnDefinition
from tests.proxy.test_owned import EVERY_FORM
from tests.support.rawclient import NATIVE, refused

GATHER, SHIP = RowLimits().gather, RowLimits().ship
HEAVY = "SELECT COUNT(*) FROM Object a, Object b WHERE a.ra = b.decl"
"""What gathers more than a kilobyte."""


def gather(client):
    return int(client.query("SELECT @@skyshard_gather_limit").rows[0][0])


def names(result):
    return [ColumnDefinition.decode(column).name.decode() for column in result.columns]


@pytest.mark.parametrize(
    ("sql", "ours", "others"),
    [
        ("skyshard_gather_limit = 5", ["5"], []),
        ("autocommit=1, Skyshard_Gather_Limit := 512*(1+1), NAMES utf8", ["512*(1+1)"], ["autocommit=1", "NAMES utf8"]),
        ("@@session . `skyshard_ship_limit`=DEFAULT, @x = f(1, 2)", ["DEFAULT"], ["@x = f(1, 2)"]),
        ("SESSION sql_mode='a,b', @@skyshard_ship_limit=1, sql_select_limit=2", ["1"], ["SESSION sql_mode='a,b'", "SESSION sql_select_limit=2"]),
        ("GLOBAL a=1, b=2, LOCAL skyshard_ship_limit=3, c=4, @d=5", ["3"], ["GLOBAL a=1", "GLOBAL b=2", "LOCAL c=4", "@d=5"]),
        ("/*!50000 skyshard_ship_limit=/* , */3, c=4 */", ["3"], ["c=4"]),
    ],
)  # fmt: skip
def test_what_a_set_is_taken_apart_into(sql, ours, others):
    found = find(tokenize(sql))
    assert ([text_of(one.value) for one in found.ours], list(found.others)) == (ours, others)


@pytest.mark.parametrize(
    "sql", ["a = @@skyshard_gather_limit", "@skyshard_gather_limit = 1", "x.skyshard_ship_limit = 1", ""]
)
def test_a_set_of_other_things_is_none_of_ours(sql):
    assert find(tokenize(sql)) is None


@pytest.mark.parametrize(
    "sql",
    ["GLOBAL skyshard_ship_limit=1", "GLOBAL a=1, skyshard_ship_limit=1", "@@global.skyshard_ship_limit=1"],
)
def test_there_are_no_global_values(sql):
    with pytest.raises(SkyError) as caught:
        find(tokenize(sql))
    assert caught.value.errno == 1228


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        (
            "SELECT @@skyshard_ship_limit + 1, '@@skyshard_ship_limit'",
            f"SELECT ({SHIP}|0) + 1 AS `@@skyshard_ship_limit + 1`, '@@skyshard_ship_limit'",
        ),
        ("SELECT @@session . skyshard_ship_limit", f"SELECT ({SHIP}|0) AS `@@session . skyshard_ship_limit`"),
        ("SET @@skyshard_ship_limit = 2 * @@skyshard_ship_limit", f"SET @@skyshard_ship_limit = 2 * ({SHIP}|0)"),
        ("SET @a = (@@skyshard_ship_limit = 2)", f"SET @a = (({SHIP}|0) = 2)"),
        ("SET STATEMENT @@skyshard_ship_limit = 2 FOR SELECT 1", "SET STATEMENT @@skyshard_ship_limit = 2 FOR SELECT 1"),
        ("SELECT @@sql_mode", "SELECT @@sql_mode"),
    ],
)  # fmt: skip
def test_where_it_reads_them_a_statement_has_their_values(sql, wanted):
    assert filled(sql, tokenize(sql), RowLimits()) == wanted


@EVERY_FORM
def test_set_and_select(raw, form):
    client = raw(database="hip")
    client.query(form.format("SET skyshard_gather_limit = 1000"))
    shown = client.query(form.format("SELECT @@session.skyshard_gather_limit"))
    assert (shown.rows, names(shown)) == ([(b"1000",)], ["@@session.skyshard_gather_limit"])
    assert refused(client.query, HEAVY) == 1104


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        (
            "SET autocommit=1, skyshard_gather_limit=1000, sql_mode = concat(@@sql_mode,',STRICT_ALL_TABLES')",
            1000,
        ),
        ("SET skyshard_gather_limit = 512*1024*1024", 512 << 20),
        ("SET SESSION skyshard_gather_limit = DEFAULT", GATHER),
        ("SET @@skyshard_gather_limit = 5, @@local.skyshard_gather_limit = 6", 6),
        ("SET skyshard_gather_limit = @@skyshard_gather_limit / 2 DIV 1, @y = 2", GATHER // 2),
        ("SET @n = 9, skyshard_gather_limit = @x", 7),
        ("SET skyshard_gather_limit = (SELECT MAX(a) FROM (SELECT 3 AS a) AS t), NAMES latin1", 3),
    ],
)
def test_set_of_several_items(raw, sql, value):
    client = raw()
    client.query("SET @x = 7")
    client.query(sql)
    assert gather(client) == value
    client.query(f"SET skyshard_gather_limit = 1; {sql}" if "@@skyshard_gather_limit /" not in sql else sql)


def test_a_set_sets_all_or_nothing(raw):
    client = raw(database="hip")
    client.query("SET sql_select_limit = 3, @x = 1")
    for sql, errno in [
        ("SET skyshard_gather_limit = 5, nosuch = 1", 1193),
        ("SET sql_select_limit = 4, skyshard_gather_limit = 'x'", 1231),
        ("SET sql_select_limit = 4, skyshard_gather_limit = -1", 1231),
        ("SET sql_select_limit = 4, skyshard_gather_limit = 1.5", 1231),
        ("SET sql_select_limit = 4, skyshard_gather_limit = NULL", 1231),
        ("SET sql_select_limit = 4, skyshard_gather_limit = many", 1231),
        ("SET sql_select_limit = 4, skyshard_gather_limit = nosuch + 1", 1054),
        ("SET sql_select_limit = 4, skyshard_gather_limit =", 1231),
        ("SET sql_select_limit = 4, GLOBAL skyshard_gather_limit = 5", 1228),
        ("SET sql_select_limit = 4, skyshard_gather_limit = (SELECT MAX(objectId) FROM Object)", 1235),
        ("SET @x = (SELECT MAX(objectId) FROM Object), skyshard_gather_limit = 5", 1235),
        ("SET skyshard_gather_limits = 5", 1193),
        ("SELECT @@global.skyshard_gather_limit", 1238),
    ]:
        assert refused(client.query, sql) == errno, sql
    found = client.query("SELECT @@sql_select_limit, @x, @@skyshard_gather_limit").rows
    assert found == [(b"3", b"1", str(GATHER).encode())]


def test_the_rest_of_a_set_is_the_home_servers(raw):
    client = raw(database="hip")
    done = client.query("SET autocommit = 0, skyshard_gather_limit = 5, max_sort_length = 5")
    assert (done.status & 2, done.warnings) == (0, 1)
    assert [row[:2] for row in client.query("SHOW WARNINGS").rows] == [(b"Warning", b"1292")]
    assert client.query("SELECT COUNT(*) FROM Object").status & 2 == 0
    results = client.query_all("SET skyshard_gather_limit = 6; SET time_zone = '+02:00'; SELECT @@time_zone")
    assert results[-1].rows == [(b"+02:00",)]
    assert gather(client) == 6
    client.query("SET sql_select_limit = 2, skyshard_gather_limit = DEFAULT")
    assert len(client.query("SELECT objectId FROM Object").rows) == 2


def test_selects_of_them(raw):
    client = raw(database="hip")
    shown = client.query("SELECT @@skyshard_gather_limit AS x, 1, @@SKYSHARD_ship_limit, @@autocommit y")
    assert names(shown) == ["x", "1", "@@SKYSHARD_ship_limit", "y"]
    assert shown.rows == [(str(GATHER).encode(), b"1", str(SHIP).encode(), b"1")]
    counted = client.query(
        "SELECT @@skyshard_ship_limit, COUNT(*) FROM Object WHERE objectId < @@skyshard_ship_limit"
    )
    assert counted.rows == [(str(SHIP).encode(), b"118216")]
    number, _, _ = client.prepare("SELECT COUNT(*) FROM Object WHERE objectId < @@skyshard_ship_limit")
    client.query("SET skyshard_ship_limit = 10")
    assert client.execute(number).rows[0][-8:] == (9).to_bytes(8, "little")


def test_for_one_statement(raw):
    client = raw(database="hip")
    for more in ("", "sql_select_limit=100, "):
        sql = f"SET STATEMENT {more}skyshard_gather_limit=500+500 FOR {HEAVY}"
        assert refused(client.query, sql) == 1104
        number, _, _ = client.prepare(sql)
        assert refused(client.execute, number) == 1104
        assert client.query(
            f"SET STATEMENT {more}skyshard_gather_limit=9 FOR SELECT @@skyshard_gather_limit"
        ).rows == [(b"9",)]
    assert refused(client.query, "SET STATEMENT skyshard_gather_limit=5, nosuch=1 FOR SELECT 1") == 1193
    assert refused(client.query, "SET STATEMENT skyshard_gather_limit='x' FOR SELECT 1") == 1231
    assert refused(client.query, "SET STATEMENT skyshard_gather_limit=5") == 1064
    assert gather(client) == GATHER


def test_they_are_prepared(raw):
    client = raw()
    number, columns, parameters = client.prepare("SET sql_select_limit = ?, skyshard_gather_limit = ? * 2")
    assert (columns, parameters) == (0, 2)
    client.execute(number, (77, 21))
    assert client.query("SELECT @@skyshard_gather_limit, @@sql_select_limit").rows == [(b"42", b"77")]
    client.query("PREPARE s FROM 'SELECT @@skyshard_gather_limit, ?'")
    client.query("SET skyshard_gather_limit = 43")
    assert client.query("EXECUTE s USING 1").rows == [(b"43", b"1")]


@EVERY_FORM
def test_show_variables(raw, form):
    client = raw()
    client.query("SET skyshard_ship_limit = 5")

    def listed(sql):
        return [(row[0].decode(), row[1].decode()) for row in client.query(form.format(sql)).rows]

    both = [("skyshard_gather_limit", str(GATHER)), ("skyshard_ship_limit", "5")]
    assert listed("SHOW VARIABLES LIKE 'SKYSHARD%'") == both
    assert listed("SHOW SESSION VARIABLES LIKE '%shard\\_ship_limit'") == both[1:]
    assert listed("SHOW LOCAL VARIABLES WHERE Variable_name IN ('autocommit', 'skyshard_ship_limit')") == [
        ("autocommit", "ON"),
        both[1],
    ]
    assert listed("SHOW VARIABLES LIKE 'skip_net%'") == [
        (
            "skip_networking",
            listed("SELECT 1, @@skip_networking")[0][1].replace("0", "OFF").replace("1", "ON"),
        )
    ]
    everything = [name.lower() for name, _ in listed("SHOW VARIABLES")]
    assert (
        everything.index("skip_show_database")
        < everything.index("skyshard_gather_limit")
        < everything.index("slave_compressed_protocol")
    )
    assert listed("SHOW GLOBAL VARIABLES LIKE 'skyshard%'") == []


@pytest.mark.parametrize("how", ["reset", "change user"])
def test_they_end_with_the_session(raw, how):
    client = raw()
    client.query("SET skyshard_gather_limit = 5, skyshard_ship_limit = 6")
    if how == "reset":
        assert client.simple(b"\x1f")[0] == 0
    else:
        client.command(b"\x11root\0\0\0\x2d\0" + NATIVE.encode() + b"\0")
        client.dialogue("", NATIVE)
    assert client.query("SELECT @@skyshard_gather_limit, @@skyshard_ship_limit").rows == [
        (str(GATHER).encode(), str(SHIP).encode())
    ]
