"""Whether two servers gave the same answer, as far as the query decides it.

Errors: the same number. Columns: the same definitions, flags that two plain servers do not agree on
excepted. Rows: the same, in order where the query orders them, else as a multiset; with LIMIT and no total
order the right number of rows of the full answer. Values: the same, but sums of DOUBLE within 1e-12.
"""

from __future__ import annotations

import math
import struct
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from shard.wire import rows
from shard.wire.packets import ColumnDefinition
from tests.fuzz.tree import Query

SUMS = 1e-12
"""Relative difference of two sums of DOUBLE in different orders; absolute where terms cancel."""
LAST_DIGIT = 1e-14
_UNSIGNED = 32
_IGNORED_FLAGS = 2 | 4 | 8 | 16384 | 32768
_STRINGS = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
_FLOATING = frozenset({4, 5})
_SIZES = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 8: 8}
_NOT_FIXED = 31
_DECIMAL = frozenset({0, 246})
Value = bytes | float | int | Decimal | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: an errno, or columns and rows of comparable values."""

    errno: int = 0
    message: str = ""
    columns: tuple[ColumnDefinition, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()


class Shape(NamedTuple):
    """What must be equal of a column's definition: all but the flags that two plain servers differ in."""

    name: str
    charset: int
    type: int
    length: int
    flags: int
    decimals: int
    schema: str
    table: str
    org_table: str
    org_name: str


def shape(column: ColumnDefinition) -> Shape:
    """Return what must be equal of a column's definition."""
    flags = column.flags & ~_IGNORED_FLAGS & 0xFFFF
    if column.type not in _STRINGS:
        flags &= ~128
    names = (column.schema, column.table, column.org_table, column.org_name)
    return Shape(
        column.name.decode(), column.charset, column.type, column.length, flags, column.decimals,
        *(name.decode() for name in names),
    )  # fmt: skip


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


class Shown(float):
    """A number of a column of fixed decimals, as a text shows it."""

    digit: float = 0.0
    """The worth of its last digit."""


def _number(value: bytes | None, column: ColumnDefinition) -> Value:
    if value is None or column.type not in _FLOATING | _DECIMAL:
        return value
    if column.type in _DECIMAL:
        return Decimal(value.decode())
    number = Shown(value)
    number.digit = 10.0**-column.decimals if column.decimals < _NOT_FIXED else 0.0
    return number


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
            signed = not column.flags & _UNSIGNED
            row.append(int.from_bytes(payload[at : at + size], "little", signed=signed))
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


def difference(query: Query, got: Answer, want: Answer, full: Answer | None = None) -> str | None:
    """Return what differs between skyshard's answer and plain MariaDB's, columns' definitions apart.

    Parameters
    ----------
    full : Answer or None
        The answer without the outermost LIMIT, if the query has one and no total order.
    """
    if got.errno or want.errno:
        if got.errno == want.errno:
            return None
        return f"error {got.errno} {got.message}, not {want.errno} {want.message}"
    if len(got.columns) != len(want.columns):
        return f"{len(got.columns)} columns, not {len(want.columns)}"
    if len(got.rows) != len(want.rows):
        return f"{len(got.rows)} rows, not {len(want.rows)}"
    tail = query.root.tail()
    keys = () if tail is None else tail.keys
    if full is not None:
        extra, _ = unpaired(query, got.rows, full.rows)
        if extra:
            return f"rows that are not in the full answer: {extra[:2]}"
        return _keys_differ(query, got, want, keys)
    if tail is not None and tail.total:
        return _rows_differ(query, got.rows, want.rows, ordered=True)
    return _rows_differ(query, got.rows, want.rows, ordered=False) or _keys_differ(query, got, want, keys)


def unlike(got: Answer, wants: Sequence[Answer]) -> tuple[Shape, Shape] | None:
    """Return the first column that is in no answer wanted defined like that, and its nearest definition."""
    for at, column in enumerate(got.columns):
        ours = shape(column)
        shapes = [shape(want.columns[at]) for want in wants if len(want.columns) == len(got.columns)]
        if ours not in shapes and shapes:
            return ours, min(shapes, key=lambda other: len(unequal(ours, other)))
    return None


def unequal(ours: Shape, other: Shape) -> tuple[str, ...]:
    """Return the names of what differs between two definitions of a column."""
    return tuple(name for name in Shape._fields if getattr(ours, name) != getattr(other, name))


def unpaired(query: Query, got: Sequence[Row], want: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of each side that have no equal one on the other."""
    extra = list((Counter(got) - Counter(want)).elements())
    lost = list((Counter(want) - Counter(got)).elements())
    extra.sort(key=_place)
    lost.sort(key=_place)  # so that equal rows are found at once
    for row in list(extra) if query.approx or query.loose or query.stored or query.scaled else ():
        twin = next((other for other in lost if alike(query, row, other)), None)
        if twin is not None:
            lost.remove(twin)
            extra.remove(row)
    return extra, lost


def _place(row: Row) -> list[str]:
    inexact = (float, Decimal)
    return [fold(v).decode() if isinstance(v, bytes) else str(v) for v in row if not isinstance(v, inexact)]


def alike(query: Query, a: Row, b: Row) -> bool:
    """Whether two rows are equal as far as they are decided."""
    return len(a) == len(b) and all(same(x, y, query) for x, y in zip(a, b, strict=True))


def _rows_differ(query: Query, got: Sequence[Row], want: Sequence[Row], ordered: bool) -> str | None:
    if ordered and all(alike(query, a, b) for a, b in zip(got, want, strict=True)):
        return None
    extra, lost = unpaired(query, got, want)
    if extra or lost:
        return f"{len(extra)} rows differ, {extra[:2]}, not {lost[:2]}"
    if not ordered:
        return None
    a, b = next((a, b) for a, b in zip(got, want, strict=True) if not alike(query, a, b))
    return f"order: row {a}, not {b}"


def _keys_differ(query: Query, got: Answer, want: Answer, keys: tuple) -> str | None:
    """Compare the leading sort keys, which are columns, in order: equal texts may be any of them."""
    free = replace(query, loose=True)
    names = [column.name for column in want.columns]
    ats = [key if isinstance(key, int) else names.index(key) for key in keys]
    for a, b in zip(got.rows, want.rows, strict=True):
        for at in ats:
            if at < len(a) and not same(a[at], b[at], free):
                return f"order: key {a[at]!r}, not {b[at]!r}"
    return None


def same(a: Value, b: Value, query: Query) -> bool:
    """Whether two values are equal as far as they are decided."""
    if a == b:
        return True
    if isinstance(a, float) and isinstance(b, float):
        if query.scaled and math.isclose(a, b, rel_tol=1e-5, abs_tol=5e-5):
            return True  # an average that a temporary table cut off after four decimals, read as a DOUBLE
        if query.approx:
            digit = a.digit if query.shown and isinstance(a, Shown) else 0.0
            return math.isclose(a, b, rel_tol=SUMS, abs_tol=max(SUMS, 1.01 * digit))
        return query.stored and math.isclose(a, b, rel_tol=LAST_DIGIT, abs_tol=LAST_DIGIT)
    if isinstance(a, Decimal) and isinstance(b, Decimal):
        return query.scaled and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-4)
    return query.loose and isinstance(a, bytes) and isinstance(b, bytes) and fold(a) == fold(b)


def fold(value: bytes) -> bytes:
    """Return a text without case, accents and blanks: what collations here do not tell apart.

    Blanks are padding, and stand anywhere in a list of texts (GROUP_CONCAT).
    """
    decomposed = unicodedata.normalize("NFD", value.decode("utf-8", "replace"))
    return (
        "".join(c for c in decomposed if not unicodedata.combining(c) and not c.isspace()).casefold().encode()
    )
