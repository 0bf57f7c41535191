"""Statements recorded from tools that do not run in the tests, one session a tool, compared with plain MariaDB."""

from pathlib import Path

import pytest

from tests.support.rawclient import MORE_RESULTS, RawClient, ServerError

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


@pytest.mark.parametrize("tool", TOOLS)
def test_a_recorded_session(cluster, plain, tool):
    with RawClient(cluster.port) as ours, RawClient(plain.socket) as theirs:
        for client in (ours, theirs):
            client.connect(database="hip")
            client.query("CREATE DATABASE IF NOT EXISTS own_replays")
        try:
            for statement in TOOLS[tool]:
                got, want = replay(ours, statement), replay(theirs, statement)
                assert got == want, statement
        finally:
            for client in (ours, theirs):
                client.query("DROP DATABASE IF EXISTS own_replays")
