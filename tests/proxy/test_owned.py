"""Statements that the proxy answers itself are recognised whatever comments stand in and around them."""

import threading
import time

import pytest

from proxy.session import owned
from proxy.session.owned import Kill, ShowConditions, ShowProcesses, ShowTableStatus
from shard.planner.lexer import LexerMode, opening_word
from tests.proxy.test_cancel import PAIRS
from tests.support.rawclient import refused

FORMS = {
    "none": "{}",
    "block": "/* ApplicationName=DBeaver 24 */ {}",
    "dashes": "-- a tool's name\n{}",
    "hash": "# a tool's name\n\t{}",
    "executable": "/*!50000 {} */",
    "newer": "/*!110000 SELECT */{}/*M!110000 NOW */",
    "trailing": "{} /* b */ ; -- c",
    "ends": "{};;\n;",
}
EVERY_FORM = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@EVERY_FORM
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("KILL 5", Kill("5")),
        ("kill/**/hard/**/query 5", Kill("5")),
        ("KILL CONNECTION CONNECTION_ID() + 1", Kill("CONNECTION_ID() + 1")),
        ("SHOW PROCESSLIST", ShowProcesses(False)),
        ("SHOW/**/FULL PROCESSLIST", ShowProcesses(True)),
        ("SHOW WARNINGS", ShowConditions(False)),
        ("SHOW ERRORS LIMIT 3", ShowConditions(True, most=3)),
        ("SHOW -- x\n WARNINGS LIMIT 1,2", ShowConditions(False, skip=1, most=2)),
        ("SHOW WARNINGS LIMIT 1 OFFSET 2", ShowConditions(False, skip=2, most=1)),
        ("SHOW COUNT(/* */*) ERRORS", ShowConditions(True, counted=True)),
        ("SHOW TABLE STATUS", ShowTableStatus(None)),
        ("SHOW TABLE # x\n STATUS LIKE 'a%'", ShowTableStatus(None)),
        ("SHOW TABLE STATUS FROM `a``b` WHERE 1", ShowTableStatus("a`b")),
        ("SHOW TABLE STATUS IN ü", ShowTableStatus("ü")),
        ("KILL QUERY ID 5", None),
        ("KILL USER root", None),
        ("KILL ?", None),
        ("KILL", None),
        ("SHOW", None),
        ("SHOW WARNINGS LIMIT x", None),
        ("SHOW PROCESSLIST LIKE 'x'", None),
        ("SHOW TABLES", None),
        ("SELECT 'KILL 5'", None),
    ],
)
def test_what_is_recognised(form, sql, said):
    assert owned.read(form.format(sql).encode(), LexerMode()) == said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("KILL /*!50000 QUERY */ 5", Kill("5")),
        ("KILL /*!50000 QUERY 5 + */ 1", Kill("5 + 1")),
        ("SHOW/*!50002 FULL */ PROCESSLIST", ShowProcesses(True)),
        ("SHOW/*!110000 FULL */ PROCESSLIST", ShowProcesses(False)),
    ],
)
def test_executable_comments_inside(sql, said):
    assert owned.read(sql.encode(), LexerMode()) == said


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("", ""), ("/* x", ""), ("-- x", ""), ("--x\nSHOW", ""), ("5", ""), ("(SELECT 1)", ""), ("\n\tset x", "SET"),
        ("/**//***/ # /*\n/*!*/ /*M! show", "SHOW"), ("/*! /* x */ kill */", "KILL"), ("/*!50700 a */b", "B"),
    ],
)  # fmt: skip
def test_the_first_word(sql, word):
    assert opening_word(sql.encode()) == word


@EVERY_FORM
def test_they_are_answered(raw, form):
    victim, client = raw(database="hip"), raw()

    def ask(sql):
        return client.query(form.format(sql))

    status = {row[0]: row[1] for row in ask("SHOW TABLE STATUS FROM hip").rows}
    assert status[b"Object"] == b"skyshard"
    assert refused(client.query, "SELECT nosuch FROM hip.Object") == 1054
    assert [row[:2] for row in ask("SHOW WARNINGS").rows] == [(b"Error", b"1054")]
    assert ask("SHOW COUNT(*) ERRORS").rows == [(b"1",)]
    seen = []
    thread = threading.Thread(target=lambda: seen.append(refused(victim.query, PAIRS)))
    thread.start()
    try:
        deadline, mine = time.monotonic() + 30, str(victim.thread_id).encode()
        listed = {}
        while b"chunks" not in (listed.get(mine, ())[6:7] or (b"",))[0]:
            assert time.monotonic() < deadline
            assert thread.is_alive()
            listed = {row[0]: row for row in ask("SHOW FULL PROCESSLIST").rows}
        assert listed[mine][7] == PAIRS.encode()
    finally:
        ask(f"KILL QUERY {victim.thread_id}")
        thread.join(20)
    assert seen == [1317]


def test_the_id_of_a_kill_may_be_an_expression(raw):
    victim, client = raw(database="hip"), raw()
    client.query(f"SET @victim = {victim.thread_id - 1}")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(refused(victim.query, PAIRS)))
    thread.start()
    try:
        while not any(row[6] and b"chunks" in row[6] for row in client.query("SHOW PROCESSLIST").rows):
            assert thread.is_alive()
    finally:
        client.query("KILL QUERY @victim + 1")
        thread.join(20)
    assert seen == [1317]
    assert refused(client.query, "KILL QUERY nosuch") == 1054
    assert refused(client.query, "KILL 999999999") == 1094
