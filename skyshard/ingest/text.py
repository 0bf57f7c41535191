r"""Arrow columns as LOAD DATA text, without a Python step per row.

Numbers are written with all digits that their type needs; NULL and NaN as ``\N``; backslash, tab, newline
and NUL are escaped.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NULL = "\\N"


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if pa.types.is_timestamp(kind):
        column = pc.strftime(column.cast(pa.timestamp("us")), format="%Y-%m-%d %H:%M:%S")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        column = column.cast(pa.large_binary())
        for old, new in ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\0", b"\\0")):
            column = pc.replace_substring(column, pattern=old, replacement=new)
        return pc.fill_null(column, _NULL.encode())
    return pc.fill_null(column.cast(pa.string()), _NULL).cast(pa.large_binary())


def lines(table: pa.Table, extra: list[np.ndarray]) -> pa.LargeBinaryArray:
    """Return one line per row, newline included.

    Parameters
    ----------
    table : Table
        The rows.
    extra : list of int arrays
        Further columns: chunk, sub-chunk, owner.
    """
    columns = [_texts(column) for column in table.columns]
    columns += [
        pa.chunked_array([pa.array(values)]).cast(pa.string()).cast(pa.large_binary()) for values in extra
    ]
    tab = pa.scalar(b"\t", pa.large_binary())
    joined = pc.binary_join_element_wise(*columns, tab)
    ended = pc.binary_join_element_wise(
        joined, pa.scalar(b"\n", pa.large_binary()), pa.scalar(b"", pa.large_binary())
    )
    return ended.combine_chunks() if isinstance(ended, pa.ChunkedArray) else ended


def pieces(
    joined: pa.LargeBinaryArray, order: np.ndarray, groups: np.ndarray
) -> dict[int, tuple[bytes, int]]:
    """Return group → (its lines as one text, how many), cut from the sorted buffer without a row loop.

    Parameters
    ----------
    joined : array
        Lines of all rows.
    order : array of int64
        Rows (indices into `joined`), in any order.
    groups : array of int, same shape
        The group of each.
    """
    if not len(order):
        return {}
    by = np.argsort(groups, kind="stable")
    taken = joined.take(pa.array(order[by]))
    taken = taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
    _, offsets_buffer, data = taken.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[taken.offset : taken.offset + len(taken) + 1]
    values, starts = np.unique(groups[by], return_index=True)
    ends = np.append(starts[1:], len(by))
    view = memoryview(data)
    return {
        int(value): (bytes(view[offsets[start] : offsets[end]]), int(end - start))
        for value, start, end in zip(values, starts, ends, strict=True)
    }
