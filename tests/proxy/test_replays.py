"""Statements of tools that do not run in the tests, most of them recorded, one session a tool, compared with plain MariaDB."""

import contextlib
import re
import struct
from pathlib import Path

import pytest

from tests.support.rawclient import CURSOR_EXISTS, LAST_ROW_SENT, MORE_RESULTS, RawClient, ServerError

LINES = (Path(__file__).parents[1] / "data" / "clients" / "recorded.sql").read_text().splitlines()


def tools():
    found = {}
    for line in LINES[2:]:
        if line.startswith("# "):
            statements = found[line[2:]] = []
        elif line.startswith("-- "):
            statements.append(line + "\n")
        elif statements and statements[-1].endswith("\n"):
            statements[-1] += line
        else:
            statements.append(line)
    return found


TOOLS = tools()
READS = re.compile(r"~?(/\*.*?\*/ ?|-- .*\n)*(SELECT|SHOW|DESCRIBE|EXPLAIN)", re.IGNORECASE)
AT_ONCE = re.compile(r"(SHOW TABLE STATUS FROM `lab`|SHOW VARIABLES$|SHOW SESSION STATUS)")
"""What the proxy answers itself: its few rows do not wait for FETCH, which clients do not mind."""
NOT_OURS = 0x31
"""Flags of a status that say what indexes were used, and that a transaction is open, which no distributed query opens."""
FETCHED = 3
"""Rows asked of a cursor at once."""


def shape(column):
    """Return a column's names and type: what tools look at; lengths of session values may differ."""
    names, at = [], 0
    for _ in range(6):
        size = column[at]
        names.append(column[at + 1 : at + 1 + size])
        at += 1 + size
    return names[1:], column[at + 7]


def replay(client, statement):
    """Return what each result of a packet is."""
    only_columns = statement.startswith("~")
    client.command(b"\x03" + statement.removeprefix("~").encode())
    found = []
    while True:
        try:
            result = client.result()
        except ServerError as error:
            return [*found, error.args]
        columns = [shape(column) for column in result.columns]
        found.append(
            (columns, None if only_columns else result.rows, None if only_columns else result.affected)
        )
        if not result.status & MORE_RESULTS:
            return found


def executed(client, statement, cursor):
    """Return what PREPARE says of a statement, and the columns, rows and flags when it is executed; or the error."""
    number = None
    try:
        number, *counts = client.prepare(statement.removeprefix("~"))
        prepared = [shape(column) for column in client.prepared_columns]
        result = client.execute(number, cursor=cursor)
        rows, flags = list(result.rows), [result.status & ~NOT_OURS]
        while result.status & CURSOR_EXISTS and not flags[-1] & LAST_ROW_SENT:
            more, status = client.fetch(number, FETCHED)
            rows += more
            flags.append(status & ~NOT_OURS)
    except ServerError as error:
        return error.args
    finally:
        if number is not None:
            client.command(b"\x19" + struct.pack("<I", number))
    columns = [shape(column) for column in result.columns]
    if "COUNT(*) FROM hip.Object" in statement and cursor:  # over an empty table MariaDB names it otherwise
        columns = [(names[:-1], kind) for names, kind in columns]
    content = () if statement.startswith("~") else (rows, flags, result.affected)
    return counts, prepared, columns, content


@contextlib.contextmanager
def both(cluster, plain):
    with RawClient(cluster.port) as ours, RawClient(plain.socket) as theirs:
        for client in (ours, theirs):
            client.connect(database="hip")
            client.query("CREATE DATABASE IF NOT EXISTS own_replays")
        try:
            yield ours, theirs
        finally:
            for client in (ours, theirs):
                client.query("DROP DATABASE IF EXISTS own_replays")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_recorded_session(cluster, plain, tool):
    with both(cluster, plain) as (ours, theirs):
        for statement in TOOLS[tool]:
            got, want = replay(ours, statement), replay(theirs, statement)
            assert got == want, statement


@pytest.mark.parametrize("tool", TOOLS)
def test_a_recorded_session_by_prepared_statements(cluster, plain, tool):
    with both(cluster, plain) as (ours, theirs):
        for statement in TOOLS[tool]:
            for cursor in (0, 1) if READS.match(statement) else (0,):
                got = executed(ours, statement, cursor)
                want = executed(theirs, statement, 0 if AT_ONCE.search(statement) else cursor)
                assert got == want, (statement, cursor)
            if want[0] == 1295 or "; " in statement:  # what cannot be prepared goes as a text
                assert replay(ours, statement) == replay(theirs, statement), statement
