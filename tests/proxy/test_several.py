"""Packets of several statements, and statements with statements within: cut where MariaDB does, run once, looked through."""

import pytest

from shard.planner.lexer import LexerMode
from tests.proxy.test_traps import home_of
from tests.support.rawclient import ServerError, refused

CHANGE = "UPDATE hip.Filter SET zeropoint = zeropoint"
"""Of a published catalogue: it would harm nobody."""


@pytest.fixture
def both(pair, own):
    """Return the same client at skyshard and at plain MariaDB, each with a database of its own by the same name."""
    ours, theirs = pair(database="hip")
    theirs.query(f"CREATE OR REPLACE DATABASE {own}")
    for client in (ours, theirs):
        client.query(f"USE {own}")
    yield ours, theirs
    theirs.query(f"DROP DATABASE {own}")


def answers(client, sql):
    """Return the rows of each result, or how many rows it changed, and the error that ended them."""
    client.command(b"\x03" + sql.encode())
    out, more = [], True
    while more:
        try:
            result = client.result()
        except ServerError as error:
            return [*out, error.errno]
        out.append(result.rows if result.columns else result.affected)
        more = bool(result.status & 8)
    return out


def without_several(client):
    client.simple(b"\x1b\x01\x00")
    return client


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    "sql",
    [
        f"BEGIN NOT ATOMIC {CHANGE}; END",
        f"IF 1 THEN SELECT 1; {CHANGE}; END IF",
        f"CREATE PROCEDURE p() BEGIN SELECT 1; {CHANGE}; END",
        f"SET STATEMENT max_statement_time=5 FOR BEGIN NOT ATOMIC SELECT 1; {CHANGE}; END",
        f"BEGIN NOT ATOMIC SELECT 1; END; {CHANGE}",
        f"BEGIN NOT ATOMIC EXECUTE IMMEDIATE '{CHANGE}'; END",
        f"SET STATEMENT max_statement_time=5 FOR ANALYZE {CHANGE}",
        f"SET STATEMENT sql_mode=SUBSTR('x' FROM 1 FOR 0) FOR {CHANGE}",
        f"SET STATEMENT max_statement_time=5 FOR EXECUTE IMMEDIATE '{CHANGE}'",
        f"{CHANGE}; 'x",
        f"BEGIN NOT ATOMIC {CHANGE}; END; 'x",
    ],
)
def test_no_form_of_a_change_reaches_the_home_server(raw, own, several, sql):
    client = raw(database=own)
    if not several:
        without_several(client)
    assert refused(client.query, sql) == 1290
    assert client.query("SELECT 1").rows == [(b"1",)]


@pytest.mark.parametrize("several", [True, False])
def test_bodies_may_say_what_the_proxy_answers_elsewhere(both, several):
    """Statements within a body are the home server's, whatever names they have."""
    found = []
    for client in both:
        if not several:
            without_several(client)
        seen = [
            answers(client, sql)
            for sql in (
                "CREATE PROCEDURE p() BEGIN DECLARE errors INT; SET errors = 1; SELECT errors AS `Object`; END",
                "CALL p()",
                "CREATE PROCEDURE q() BEGIN IF 1 THEN SELECT 'kill'; END IF; SELECT 2 AS warnings; END;",
                "CALL q()",
                "BEGIN NOT ATOMIC DECLARE hip INT DEFAULT 5; SELECT hip; END",
                "CREATE TABLE event (errors INT); INSERT INTO event VALUES (7); SELECT errors FROM event",
                "SELECT 1; CREATE PROCEDURE r() BEGIN DECLARE warnings INT; END; SELECT 2",
                "SELECT COUNT(*) FROM hip.Object; SELECT 1; SELECT 'x",
            )
        ]
        found.append(seen)
    assert found[0] == found[1]


def test_a_definition_asks_when_it_runs(both):
    """FOUND_ROWS() in a body is no question about the statement before its definition."""
    found = []
    for client in both:
        client.query("SELECT objectId FROM hip.Object WHERE objectId < 4")
        client.query("CREATE FUNCTION f() RETURNS INT RETURN FOUND_ROWS()")
        client.query("SELECT objectId FROM hip.Object WHERE objectId < 4")
        client.query("CREATE VIEW v AS SELECT ROW_COUNT() AS n")
        client.query("SELECT objectId FROM hip.Object WHERE objectId < 4")
        client.query("CREATE PROCEDURE p() BEGIN SELECT seq FROM seq_1_to_5; SELECT FOUND_ROWS(); END")
        shown = [
            client.query(f"SHOW CREATE {what}").rows[0][at].lower()
            for what, at in (("FUNCTION f", 2), ("VIEW v", 1), ("PROCEDURE p", 2))
        ]
        found.append(
            [[text.count(word) for word in (b"found_rows()", b"row_count()", b"if(")] for text in shown]
        )
    assert found[0] == found[1] == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("mode", "sql"),
    [
        ("NO_BACKSLASH_ESCAPES", rf"SELECT '\'; {CHANGE} -- '"),
        ("ANSI_QUOTES", rf'SELECT 1 AS "\"; {CHANGE} -- "'),
        ("ANSI_QUOTES,NO_BACKSLASH_ESCAPES", rf"""SELECT 1 AS "\", '\'; {CHANGE} -- '"""),
    ],
)
def test_a_packet_is_cut_under_the_mode_it_will_be_read_by(raw, mode, sql):
    client = raw(database="hip")
    client.query(f"SET sql_mode = '{mode}'")
    first, second = answers(client, sql)
    assert len(first) == 1
    assert second == 1290
    one = raw(database="hip")
    none, first, second = answers(one, f"SET sql_mode = '{mode}'; {sql}")
    assert (none, len(first), second) == (0, 1, 1290)
    other = raw(database="hip")
    other.query(f"PREPARE s FROM {LITERAL(f'SET sql_mode = {LITERAL(mode)}')}")
    none, first, second = answers(other, f"EXECUTE s; {sql}")
    assert (none, len(first), second) == (0, 1, 1290)


def LITERAL(text):  # noqa: N802
    return "'" + text.replace("'", "''") + "'"


def test_the_first_packet_of_a_session_is_cut_under_the_global_mode(cluster, proxy, raw):
    with home_of(cluster) as home, home.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.sql_mode")
        ((before,),) = cursor.fetchall()
        assert not LexerMode.of(before).no_backslash_escapes
        cursor.execute("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
        try:  # connections to the home server that were opened before have the mode before
            client = raw(proxy().port, database="hip")
        finally:
            cursor.execute("SET GLOBAL sql_mode = %s", (before,))
    first, second = answers(client, rf"SELECT '\'; {CHANGE} -- '")
    assert (first, second) == ([(b"\\",)], 1290)


def test_cutting_leaves_what_is_asked_about_the_statement_before(both):
    found = []
    for client in both:
        client.query("SET sql_mode = ''")
        client.query("SELECT seq FROM seq_1_to_5")
        found.append(answers(client, r"""SELECT FOUND_ROWS(), 'a\'b', "c"; SELECT '\\', 2"""))
    assert found[0] == found[1]
    assert found[0][0][0][0] == b"5"


# once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [True, False])
def test_what_has_read_a_trap_does_not_run_again(cluster, raw, own, several):
    """Neither when something was published meanwhile, as a view is here."""
    client = raw(database=own)
    client.query("CREATE TABLE log (a INT) ENGINE=Aria")
    client.query(
        "CREATE PROCEDURE p() BEGIN INSERT INTO log VALUES (1); SELECT COUNT(*) FROM hip.Object; END"
    )
    if not several:
        without_several(client)
    with home_of(cluster) as home:
        home.query(f"CREATE VIEW {own}.seen AS SELECT objectId FROM hip.Object")
        assert refused(client.query, "CALL p()") == 1235
    assert client.query("SELECT COUNT(*) FROM log").rows == [(b"1",)]


def test_what_came_before_a_trap_is_answered(cluster, raw, own):
    client = raw(database=own)
    client.query("CREATE TABLE log (a INT)")
    client.query("CREATE PROCEDURE p() SELECT COUNT(*) FROM hip.Object")
    with home_of(cluster) as home:
        home.query(f"CREATE VIEW {own}.seen AS SELECT objectId FROM hip.Object")
        assert answers(client, "INSERT INTO log VALUES (1); CALL p()") == [1, 1235]
    assert client.query("SELECT COUNT(*) FROM log").rows == [(b"1",)]


def test_a_view_made_a_moment_ago_is_read_in_a_packet(cluster, raw, own):
    client = raw(database=own)
    with home_of(cluster) as home:
        for number, sql in enumerate(
            ("SELECT COUNT(*) FROM lately_0", "SELECT COUNT(*) FROM lately_1; SELECT 2")
        ):
            home.query(f"CREATE VIEW {own}.lately_{number} AS SELECT objectId FROM hip.Object")
            assert answers(client, sql)[0] == [(b"118216",)]


# settings ----------------------------------------------------------------------------------------


def test_settings_that_a_trigger_changes_count_at_once(both):
    found = []
    for client in both:
        client.query("CREATE TABLE t (a BIGINT, b INT)")
        client.query("CREATE TRIGGER i AFTER INSERT ON t FOR EACH ROW SET SESSION sql_select_limit = 2")
        client.query("CREATE TRIGGER u AFTER UPDATE ON t FOR EACH ROW SET SESSION sql_select_limit = 3")
        client.query("INSERT INTO t SELECT objectId, 1 FROM hip.Object WHERE objectId < 5")
        seen = [len(client.query("SELECT objectId FROM hip.Object WHERE objectId < 9").rows)]
        client.query("UPDATE t SET b = 2 WHERE a IN (SELECT objectId FROM hip.Object WHERE objectId < 3)")
        seen.append(len(client.query("SELECT objectId FROM hip.Object WHERE objectId < 9").rows))
        found.append(seen)
    assert found[0] == found[1] == [2, 3]
