r"""Checks the values of a column against its SQL type and writes them as LOAD DATA text, column by column.

LOAD DATA LOCAL implies IGNORE: what does not fit would be cut or become zero with a warning. So what does not
fit is found here, by row, and the rest (dates, ENUMs, character sets) by the worker, which counts warnings.
Text of a delimited file goes on as it stands; numbers of Parquet files get all digits that they need.
NULL is ``\N``; NaN and infinities become NULL and are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shard.catalog.types import Family, SqlType

NULL = b"\\N"
ANY_TEXT = SqlType("LONGTEXT", Family.TEXT)
"""Text of any length."""

_MEDIUM = {pa.int32(): (-(1 << 23), (1 << 23) - 1), pa.uint32(): (0, (1 << 24) - 1)}
_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\0", b"\\0"), (b"\r", b"\\r"))


class BadValue(ValueError):  # noqa: N818 - it is what was found
    """A value that its column cannot hold; `row` counts from 0."""

    def __init__(self, row: int, value: object, why: str) -> None:
        self.row, self.value, self.why = row, value, why
        shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        self.shown = shown if len(shown) <= 80 else shown[:80] + "…"
        super().__init__(f"'{self.shown}' {why}")


@dataclass(frozen=True, slots=True)
class Checked:
    """A column whose values fit.

    Attributes
    ----------
    text : LargeBinaryArray
        LOAD DATA text, NULLs written out.
    values : Array
        The values by which rows are placed: whole numbers, floats or text, with their NULLs.
    not_numbers : int
        How many NaN and infinities became NULL.
    """

    text: pa.LargeBinaryArray
    values: pa.Array
    not_numbers: int = 0


def check(column: pa.ChunkedArray, kind: SqlType) -> Checked:
    """Return a column's text.

    Parameters
    ----------
    column : ChunkedArray
        Typed values, or bytes as read from a delimited file.
    kind : SqlType
        What its SQL type says.

    Raises
    ------
    BadValue
        For the first value that does not fit.
    """
    values = _flat(column)
    raw = values.type == pa.binary()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    found = _BY_FAMILY[kind.family](values, kind, raw)
    if not kind.nullable and found.values.null_count:
        row = int(np.argmax(found.values.is_null().to_numpy(zero_copy_only=False)))
        raise BadValue(row, _shown(values, row), "cannot stand in a column that is NOT NULL")
    return found


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column


def _shown(values: pa.Array, row: int) -> object:
    """Return a value for a message; nanoseconds have no Python value."""
    if pa.types.is_temporal(values.type):
        values, row = values.slice(row, 1).cast(pa.string()), 0
    value = values[row].as_py()
    return "NULL" if value is None else value


def shown(table: pa.Table, column: str, row: int) -> object:
    """Return one value of a table for a message."""
    return _shown(_flat(table.column(column)), row)


def _written(text: pa.Array) -> pa.LargeBinaryArray:
    return pc.fill_null(text.cast(pa.large_binary()), NULL)


def first_failure(values: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """Return the row of the first value that `convert` refuses, given that it refuses the whole."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values.slice(low, middle - low))
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def _cast(values: pa.Array, to: pa.DataType, why: str) -> pa.Array:
    """Convert without loss, or say which value cannot be."""
    try:
        return values.cast(to)
    except pa.ArrowInvalid as error:
        row = first_failure(values, lambda part: part.cast(to))
        raise BadValue(row, _shown(values, row), why) from error
    except pa.ArrowNotImplementedError as error:
        raise BadValue(
            0, _shown(values, 0) if len(values) else "", f"is of type {values.type}; {why}"
        ) from error


def _trimmed(values: pa.Array) -> pa.Array:
    """Return text without spaces around it; NULL where nothing is left."""
    if values.type == pa.binary() and _is_solid(values):
        return pa.Array.from_buffers(
            pa.string(), len(values), values.buffers(), values.null_count, values.offset
        )
    text = pc.utf8_trim_whitespace(_utf8(values))
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, text.type), text) if pc.any(empty).as_py() else text


def _is_solid(values: pa.BinaryArray) -> bool:
    """Whether all values are printable ASCII without a space, and none is empty: nothing is to be trimmed or judged.

    Nearly every column of numbers is, and this is seen in a tenth of the time.
    """
    _, offsets, data = values.buffers()
    if data is None:
        return False
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    # A NULL is empty here, too: the long way is taken.
    if not len(values) or not (np.diff(ends) > 0).all():
        return False
    raw = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    return bool(raw.min() > ord(" ") and raw.max() < 127)


def _utf8(values: pa.Array) -> pa.Array:
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return values if text else _cast(values, pa.string(), "is no UTF-8 text")


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _integers(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    source = _trimmed(values) if _is_text(values.type) else values
    numbers = _cast(source, kind.arrow, f"is no value of {kind.word}")
    if kind.word == "MEDIUMINT":
        low, high = _MEDIUM[kind.arrow]
        wrong = pc.fill_null(pc.or_(pc.less(numbers, low), pc.greater(numbers, high)), False)
        if pc.any(wrong).as_py():
            row = pc.index(wrong, True).as_py()
            raise BadValue(row, _shown(values, row), "is no value of MEDIUMINT")
    return Checked(_written(source if raw else numbers.cast(pa.string())), numbers)


def _floats(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    source = _trimmed(values) if _is_text(values.type) else values
    if pa.types.is_float16(source.type):
        source = source.cast(pa.float32())
    if pa.types.is_floating(source.type) or _is_text(source.type):
        numbers = _cast(source, pa.float64(), f"is no value of {kind.word}")
    else:  # a whole or decimal number keeps its digits in the text; only its place among floats is rounded
        numbers = _cast(source.cast(pa.string()), pa.float64(), f"is no value of {kind.word}")
    finite = pc.is_finite(numbers)
    lost = len(numbers) - numbers.null_count - (pc.sum(finite).as_py() or 0)
    if lost:
        numbers = pc.if_else(finite, numbers, pa.scalar(None, pa.float64()))
    if not raw and pa.types.is_floating(source.type):
        # A float32 in a FLOAT column needs its own few digits; in a DOUBLE column all of them.
        short = source.type == pa.float32() and kind.arrow == pa.float32()
        source = pc.cast(numbers, pa.float32(), safe=False) if short else numbers
    elif lost:
        source = pc.if_else(finite, source, pa.scalar(None, source.type))
    return Checked(_written(source.cast(pa.string())), numbers, int(lost))


def _decimals(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    source = _trimmed(values) if _is_text(values.type) else values
    if pa.types.is_floating(source.type):
        return _floats(source, kind, raw)  # the digits that do not fit are the worker's to find
    number = source if pa.types.is_decimal(source.type) else source.cast(pa.string())
    fitting = _cast(number, kind.arrow, f"is no value of {kind.spelled}")
    return Checked(_written(source if raw else fitting.cast(pa.string())), fitting)


def _texts(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    text = _utf8(values) if _is_text(values.type) else _plain_text(values, kind)
    if kind.length is not None:
        too_long = pc.fill_null(pc.greater(pc.utf8_length(text), kind.length), False)
        if pc.any(too_long).as_py():
            row = pc.index(too_long, True).as_py()
            raise BadValue(row, text[row].as_py(), f"is longer than {kind.length} characters")
    return Checked(_written(_escaped(text)), text)


def _bytes(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    data = _cast(values, pa.large_binary(), "is no binary value")
    if kind.length is not None:
        too_long = pc.fill_null(pc.greater(pc.binary_length(data), kind.length), False)
        if pc.any(too_long).as_py():
            row = pc.index(too_long, True).as_py()
            raise BadValue(row, data[row].as_py(), f"is longer than {kind.length} bytes")
    return Checked(_written(_escaped(data)), data)


def _others(values: pa.Array, kind: SqlType, raw: bool) -> Checked:
    """Dates and times, ENUM, SET, UUID and the like: as text, which the worker judges."""
    if not _is_text(values.type):
        text = _plain_text(values, kind)
    else:
        text = _trimmed(values) if kind.family is Family.TEMPORAL else _utf8(values)
    return Checked(_written(_escaped(text)), text)


def _plain_text(values: pa.Array, kind: SqlType) -> pa.Array:
    """Return numbers and times as text."""
    source = values.type
    if pa.types.is_timestamp(source):
        if source.tz is not None:
            values = values.cast(pa.timestamp(source.unit, "UTC")).cast(pa.timestamp(source.unit))
        if source.unit == "ns" and kind.family is Family.TEMPORAL:
            values = _cast(values, pa.timestamp("us"), "has more digits than microseconds")
    elif pa.types.is_time64(source) and source.unit == "ns" and kind.family is Family.TEMPORAL:
        values = _cast(values, pa.time64("us"), "has more digits than microseconds")
    elif pa.types.is_floating(source):
        finite = pc.is_finite(values)
        values = pc.if_else(finite, values, pa.scalar(None, source))
    return _cast(values, pa.string(), f"is no value of {kind.word}")


def _escaped(column: pa.Array) -> pa.Array:
    """Escape what LOAD DATA would misread."""
    column = column.cast(pa.large_binary())
    for char, escape in _ESCAPES:
        if pc.any(pc.match_substring(column, pattern=char)).as_py():
            column = pc.replace_substring(column, pattern=char, replacement=escape)
    return column


_BY_FAMILY: dict[Family, Callable[[pa.Array, SqlType, bool], Checked]] = {
    Family.INTEGER: _integers,
    Family.FLOAT: _floats,
    Family.DECIMAL: _decimals,
    Family.TEXT: _texts,
    Family.BYTES: _bytes,
    Family.TEMPORAL: _others,
    Family.OTHER: _others,
}


def whole(values: np.ndarray[Any, Any]) -> pa.LargeBinaryArray:
    """Return an array of integers as text."""
    return pa.array(values).cast(pa.string()).cast(pa.large_binary())


def lines(columns: list[pa.LargeBinaryArray]) -> pa.LargeBinaryArray:
    """Return one line per row, newline included."""
    tab, end = pa.scalar(b"\t", pa.large_binary()), pa.scalar(b"\n", pa.large_binary())
    # The newline goes behind the last column, which is short, before the columns are joined.
    last = pc.binary_join_element_wise(columns[-1], end, pa.scalar(b"", pa.large_binary()))
    return pc.binary_join_element_wise(*columns[:-1], last, tab) if len(columns) > 1 else last


def text_of(joined: pa.LargeBinaryArray) -> bytes:
    """Return lines as one text."""
    _, offsets_buffer, data = joined.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[joined.offset : joined.offset + len(joined) + 1]
    return bytes(memoryview(data)[offsets[0] : offsets[-1]])


def pieces(
    joined: pa.LargeBinaryArray, order: np.ndarray[Any, Any], groups: np.ndarray[Any, Any]
) -> dict[int, tuple[memoryview, np.ndarray[Any, Any]]]:
    """Return group → (its lines as one text, their rows), cut from a sorted buffer without a step per row.

    Parameters
    ----------
    joined : array
        Lines of all rows.
    order : array of int64
        Rows (indices into `joined`), in any order, also repeated.
    groups : array of int, same shape
        The group of each.
    """
    if not len(order):
        return {}
    by = np.argsort(groups, kind="stable")
    rows = order[by]
    taken = joined.take(pa.array(rows))
    _, offsets_buffer, data = taken.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[taken.offset : taken.offset + len(taken) + 1]
    names, starts = np.unique(groups[by], return_index=True)
    ends = np.append(starts[1:], len(by))
    view = memoryview(data)
    return {
        int(name): (view[offsets[start] : offsets[end]], rows[start:end])
        for name, start, end in zip(names, starts, ends, strict=True)
    }
