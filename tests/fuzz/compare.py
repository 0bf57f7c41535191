"""Whether two servers gave the same answer, as far as the query decides it.

Errors: the same number. Columns: the same definitions, as one plan or another of the plain server gives
them (flags that two plain servers do not agree on excepted). Rows: the same, in order where the query
orders them, else as a multiset; with LIMIT and no total order the right number of rows of the full answer.
"""

from __future__ import annotations

import math
import struct
import unicodedata
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from shard.wire import rows
from shard.wire.packets import INTEGER_TYPES, ColumnDefinition
from tests.fuzz.tree import Node, Query

_IGNORED_FLAGS = 2 | 4 | 8 | 16384 | 32768
_STRINGS = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
_TEXT, _INTEGER = 253, 8
_FLOATING = frozenset({4, 5})
_SIZES = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 8: 8}
_DECIMAL = frozenset({0, 246})
Value = bytes | float | int | Decimal | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: an errno, or columns and rows of comparable values."""

    errno: int = 0
    message: str = ""
    columns: tuple[ColumnDefinition, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()


def shape(column: ColumnDefinition, nested: bool, outer: bool) -> tuple:
    """Return what must be equal of a column's definition in a query with inner queries, with outer joins."""
    flags = column.flags & ~_IGNORED_FLAGS & 0xFFFF
    if column.type not in _STRINGS:
        flags &= ~128
    if nested or outer:  # a join turned around, a table read before, decide on NOT NULL and NO DEFAULT
        flags &= ~(1 | 4096)
    if column.type in _STRINGS and (nested or not column.schema):
        described: tuple = (_TEXT,)  # computed texts have other types and lengths in temporary tables
    elif not column.schema and (nested or outer):  # and so have numbers, if empty tables make another plan
        described = (_INTEGER if column.type in INTEGER_TYPES else column.type, flags, column.decimals)
    else:
        described = (column.type, column.length, flags, column.decimals)
    if nested:  # whether derived tables are merged into the query decides on original names
        return (column.name, column.charset, *described)
    origin = (column.org_table, column.org_name) if column.schema else ()
    return (column.name, column.charset, *described, column.schema, column.table, *origin)


def decode(data: bytes, columns: tuple[ColumnDefinition, ...], binary: bool) -> tuple[tuple[Value, ...], ...]:
    """Return the values of row packets; those of floating-point columns as numbers."""
    if not binary:
        return tuple(
            tuple(_number(value, column) for value, column in zip(row, columns, strict=True))
            for row in rows.split(data)
        )
    out, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 3], "little")
        out.append(_binary_row(data[at + 4 : end], columns))
        at = end
    return tuple(out)


def _number(value: bytes | None, column: ColumnDefinition) -> Value:
    if value is None or column.type not in _FLOATING | _DECIMAL:
        return value
    return float(value) if column.type in _FLOATING else Decimal(value.decode())


def _binary_row(payload: bytes, columns: tuple[ColumnDefinition, ...]) -> tuple[Value, ...]:
    at = 1 + (len(columns) + 9) // 8
    row: list[Value] = []
    for index, column in enumerate(columns):
        bit = index + 2
        if payload[1 + bit // 8] & (1 << bit % 8):
            row.append(None)
        elif column.type in _FLOATING:
            size = 4 if column.type == 4 else 8
            row.append(struct.unpack_from("<f" if size == 4 else "<d", payload, at)[0])
            at += size
        elif column.type in _SIZES:
            size = _SIZES[column.type]
            row.append(int.from_bytes(payload[at : at + size], "little"))
            at += size
        else:
            size, at = _length(payload, at)
            row.append(_number(payload[at : at + size], column))
            at += size
    assert at == len(payload), (at, payload)
    return tuple(row)


def _length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def difference(
    query: Query, got: Answer, want: Answer, full: Answer | None = None, ignore_columns: bool = False
) -> str | None:
    """Return what differs between skyshard's answer and plain MariaDB's, or None.

    Parameters
    ----------
    full : Answer or None
        The answer without the outermost LIMIT, if the query has one and no total order.
    """
    if got.errno or want.errno:
        return (
            None
            if got.errno == want.errno
            else f"error {got.errno} {got.message}, not {want.errno} {want.message}"
        )
    if len(got.columns) != len(want.columns):
        return f"{len(got.columns)} columns, not {len(want.columns)}"
    unlike = None if ignore_columns else columns_differ(query, got, [want])
    if unlike is not None:
        return unlike
    if len(got.rows) != len(want.rows):
        return f"{len(got.rows)} rows, not {len(want.rows)}"
    tail = query.root.tail()
    keys = () if tail is None else tail.keys
    if full is not None:
        return _subset(query, got, full) or _keys_differ(got, want, keys)
    if tail is not None and tail.total:
        return _rows_differ(query, list(got.rows), list(want.rows))
    return _rows_differ(query, *_matched(query, got, want)) or _keys_differ(got, want, keys)


def columns_differ(query: Query, got: Answer, wants: list[Answer]) -> str | None:
    """Return the first column that is defined like that column in none of the answers wanted, or None."""
    text = query.root.render()
    nested = text.count("SELECT ") > 1 or "WITH ROLLUP" in text
    outer = " LEFT JOIN " in text or " RIGHT JOIN " in text
    for at, column in enumerate(got.columns):
        ours = shape(column, nested, outer)
        shapes = {
            shape(want.columns[at], nested, outer) for want in wants if len(want.columns) == len(got.columns)
        }
        if ours not in shapes:
            return f"column {ours}, not {shapes}"
    return None


def _matched(query: Query, got: Answer, want: Answer) -> tuple[list, list]:
    """Return the rows of both in one order, values whose last digits are free considered last."""
    inexact = (float, Decimal) if query.rounds else float

    def key(row: tuple[Value, ...]) -> tuple:
        exact = [
            fold(v) if query.loose and isinstance(v, bytes) else v for v in row if not isinstance(v, inexact)
        ]
        others = [v for v in row if isinstance(v, inexact)]
        digits = 6 if query.approx or query.rounds else 14
        others = [float(f"{v:.{digits}g}") for v in others]
        return tuple((v is None, str(type(v)), v if v is not None else 0) for v in [*exact, *others])

    return sorted(got.rows, key=key), sorted(want.rows, key=key)


def _rows_differ(query: Query, got: list, want: list) -> str | None:
    for a, b in zip(got, want, strict=True):
        if not all(same(x, y, query) for x, y in zip(a, b, strict=True)):
            extra = Counter(got) - Counter(want)
            lost = Counter(want) - Counter(got)
            if not extra:
                return f"order: row {a}, not {b}"
            return f"{sum(extra.values())} rows differ, {list(extra)[:2]}, not {list(lost)[:2]}"
    return None


def _keys_differ(got: Answer, want: Answer, keys: tuple) -> str | None:
    """Compare the leading sort keys, which are columns, in order: equal texts may be any of them."""
    free = Query(Node("text"), loose=True, approx=True, rounds=True)
    names = [column.name for column in want.columns]
    ats = [key if isinstance(key, int) else names.index(key) for key in keys]
    for a, b in zip(got.rows, want.rows, strict=True):
        for at in ats:
            if at < len(a) and not same(a[at], b[at], free):
                return f"order: key {a[at]!r}, not {b[at]!r}"
    return None


def _subset(query: Query, got: Answer, full: Answer) -> str | None:
    def comparable(row: tuple[Value, ...]) -> tuple:
        return tuple(
            fold(v) if query.loose and isinstance(v, bytes)
            else (float(f"{v:.4g}") if (query.approx and isinstance(v, float)) or (query.rounds and isinstance(v, Decimal)) else v)
            for v in row
        )  # fmt: skip

    extra = Counter(map(comparable, got.rows)) - Counter(map(comparable, full.rows))
    return f"rows that are not in the full answer: {list(extra)[:2]}" if extra else None


def same(a: Value, b: Value, query: Query) -> bool:
    """Whether two values are equal as far as they are decided."""
    if a == b:
        return True
    if isinstance(a, float) and isinstance(b, float):
        tolerance = 2e-4 if query.rounds else 1e-7  # STD of integers has four decimals where it was stored
        if not query.approx:  # DOUBLE of fixed decimals (ROUND) is rounded again where it is stored
            return math.isclose(a, b, rel_tol=1e-15)
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=tolerance)
    if isinstance(a, Decimal) and isinstance(b, Decimal):
        return query.rounds and math.isclose(a, b, rel_tol=1e-5, abs_tol=2e-3)
    return query.loose and isinstance(a, bytes) and isinstance(b, bytes) and fold(a) == fold(b)


def fold(value: bytes) -> bytes:
    """Return a text without case, accents and blanks: what collations here do not tell apart."""
    decomposed = unicodedata.normalize("NFD", value.decode("utf-8", "replace"))
    return (
        "".join(c for c in decomposed if not unicodedata.combining(c) and not c.isspace()).casefold().encode()
    )
