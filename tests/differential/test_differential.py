"""Every query on skyshard and on one plain MariaDB with the same rows: same columns, same rows, same errno."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.packets import ColumnDefinition
from tests.fuzz.compare import decode

_IGNORED_FLAGS = 2 | 4 | 8 | 16384 | 32768
_STRINGS = {15, 247, 248, 249, 250, 251, 252, 253, 254}


@dataclass(frozen=True)
class Case:
    name: str
    sql: str
    plain: str
    ordered: bool
    approx: bool
    errnos: tuple[int, ...]
    database: str | None
    streams: bool


def cases():
    text = Path(__file__).with_name("queries.sql").read_text()
    for part in re.split(r"^-- name: ", text, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        sql, _, plain = body.partition("-- plain:\n")
        errno = re.search(r"\[errno=([\d,]+)\]", head)
        yield Case(
            head.split(" [")[0], sql.strip(), (plain or sql).strip(), "[ordered]" in head, "[approx]" in head,
            tuple(map(int, errno[1].split(","))) if errno else (), "lab" if "[in lab]" in head else None,
            "[streams]" in head,
        )  # fmt: skip


CASES = list(cases())


async def ask(address, sql, database, binary=False):
    connection = await RawConnection.open(address, database)
    try:
        result = await (connection.execute(sql.encode(), ()) if binary else connection.query(sql.encode()))
        blocks = [block.data async for block in result.blocks()]
        columns = [ColumnDefinition.decode(payload) for payload in result.columns]
        return columns, b"".join(blocks)
    finally:
        await connection.close()


def shape(column):
    flags = column.flags & ~_IGNORED_FLAGS & 0xFFFF
    if column.type not in _STRINGS:
        flags &= ~128
    return (
        column.schema, column.table, column.org_table, column.name, column.org_name, column.charset, column.length,
        column.type, flags, column.decimals,
    )  # fmt: skip


def same(a, b, approx):
    if a == b or not approx or a is None or b is None:
        return a == b
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-12)
    except ValueError:
        return False


def compare(case, got, want):
    if not case.ordered:
        key = lambda row: tuple((v is None, v or b"") for v in row)  # noqa: E731
        if not case.approx:
            assert Counter(map(tuple, got)) == Counter(map(tuple, want))
            return
        got, want = sorted(got, key=key), sorted(want, key=key)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert all(same(x, y, case.approx) for x, y in zip(a, b, strict=True)), (a, b)


@pytest.mark.parametrize("case", [case for case in CASES if not case.errnos], ids=lambda case: case.name)
async def test_text(case, cluster, plain):
    got_columns, got = await ask(cluster.address, case.sql, case.database)
    want_columns, want = await ask(plain.address, case.plain, case.database)
    if case.sql == case.plain:
        assert [shape(c) for c in got_columns] == [shape(c) for c in want_columns]
    else:
        assert [(c.name, c.type) for c in got_columns] == [(c.name, c.type) for c in want_columns]
    compare(case, rows.split(got), rows.split(want))


@pytest.mark.parametrize("case", [case for case in CASES if not case.errnos], ids=lambda case: case.name)
async def test_binary(case, cluster, plain):
    got_columns, got = await ask(cluster.address, case.sql, case.database, binary=True)
    want_columns, want = await ask(plain.address, case.plain, case.database, binary=True)
    if case.sql == case.plain:
        assert [shape(c) for c in got_columns] == [shape(c) for c in want_columns]
    assert rows.count(got) == rows.count(want)
    if case.approx:
        values = [
            decode(data, tuple(columns), True) for data, columns in ((got, got_columns), (want, want_columns))
        ]
        if not case.ordered:
            values = [sorted(found, key=exact_first) for found in values]
        for a, b in zip(*values, strict=True):
            assert all(same(x, y, isinstance(x, float)) for x, y in zip(a, b, strict=True)), (a, b)
        return
    payloads = [[block[4:] for block in packets(data)] for data in (got, want)]
    if case.ordered:
        assert payloads[0] == payloads[1]
    else:
        assert Counter(payloads[0]) == Counter(payloads[1])


def exact_first(row):
    """Return a key to sort rows by: what must be equal, then numbers that need only be near."""
    inexact = [value for value in row if isinstance(value, float)]
    return [repr(value) for value in row if not isinstance(value, float)], inexact


def packets(data):
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 3], "little")
        yield data[at:end]
        at = end


@pytest.mark.parametrize("case", [case for case in CASES if case.streams], ids=lambda case: case.name)
async def test_sorted_streams_are_merged(case, cluster):
    _, found = await ask(cluster.address, "EXPLAIN " + case.sql, case.database)
    assert {row[2] for row in rows.split(found)} == {b"scatter+sort"}


@pytest.mark.parametrize("case", [case for case in CASES if case.errnos], ids=lambda case: case.name)
async def test_errors(case, cluster, plain):
    with pytest.raises(ServerError) as ours:
        await ask(cluster.address, case.sql, case.database)
    with pytest.raises(ServerError) as theirs:
        await ask(plain.address, case.plain, case.database)
    assert theirs.value.errno in case.errnos
    assert ours.value.errno == theirs.value.errno


def test_there_are_enough_queries():
    assert len(CASES) >= 80
