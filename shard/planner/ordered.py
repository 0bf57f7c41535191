"""ORDER BY of rows that need nothing but their order: every chunk sorts its own, and sorted streams are merged.

That is possible where values compare outside of MariaDB as they do inside: whole numbers, floating-point numbers,
DECIMALs of up to 19 digits, dates with and without times, all of them a table's columns. The rows of anything else are
sorted at home.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from shard.planner.constants import is_constant
from shard.planner.emit import emit
from shard.planner.plan import SortKey
from shard.planner.scope import Scope, sql_type_of
from shard.planner.templates import fill, use

FEW = 1000
"""Rows up to which a LIMIT is met by the first rows of every chunk, which are sorted at home."""
EVERY = 1 << 60
"""Rows from which on a LIMIT is none."""
_TYPE = re.compile(r"([A-Z]+)(?: PRECISION)?\s*(?:\(\s*(\d+)\s*(?:,\s*\d+\s*)?\))?(?![A-Z])")
_WHOLE = frozenset({"TINYINT", "SMALLINT", "MEDIUMINT", "INT", "INTEGER", "BIGINT", "BOOL", "BOOLEAN"})
_EXACT = frozenset({"DECIMAL", "NUMERIC", "DEC", "FIXED"})
_DIGITS = 19
FLOAT = "float"


def kind_of(sql_type: str) -> str | None:
    """Return how values of a column are compared: integer, number, float, date, datetime; None: at home.

    Examples
    --------
    >>> kind_of("DECIMAL(10,3) UNSIGNED NOT NULL"), kind_of("FLOAT"), kind_of("DOUBLE(9,2)"), kind_of("TIMESTAMP")
    ('number', 'float', None, None)
    """
    found = _TYPE.match(sql_type.strip().upper())
    if found is None:
        return None
    word, length = found[1], found[2]
    if word in _WHOLE:
        return "integer"
    if word in _EXACT:
        return "number" if int(length or 10) <= _DIGITS else None
    if word in ("DOUBLE", "FLOAT") and length is None:
        return "number" if word == "DOUBLE" else FLOAT
    return word.lower() if word in ("DATE", "DATETIME") else None


def _column_kind(key: exp.Expression, scope: Scope) -> str | None:
    ref = scope.owner(key)
    if ref is None or ref.derived is not None:
        return None
    sql_type = sql_type_of(ref.table, key.name)
    return kind_of(sql_type) if sql_type else None


def ordered(
    items: Sequence[exp.Expression], keys: Sequence[tuple[exp.Expression, bool]], scope: Scope
) -> tuple[list[exp.Expression], list[exp.Expression], tuple[SortKey, ...]] | None:
    """Return what every chunk is asked so that its rows can be merged; None if a key cannot be compared here.

    Parameters
    ----------
    items : sequence of Expression
        The select list, without stars.
    keys : sequence of (Expression, bool)
        What is sorted by, and whether the greatest comes first.

    Returns
    -------
    select, order, sorted
        The select list with hidden columns at its front (FLOAT as DOUBLE, since its text has six digits); ORDER BY,
        by position, so that no alias can be meant; and the keys as columns of the rows.
    """
    hidden: list[exp.Expression] = []
    places: list[tuple[int, bool, str, bool]] = []  # column, whether it is hidden, kind, descending
    shown = [_place(item, scope) for item in items]
    for key, descending in keys:
        if is_constant(key):
            continue
        kind = _column_kind(key, scope)
        if kind is None:
            return None
        place = _place(key, scope)
        if kind != FLOAT and place in shown:
            places.append((shown.index(place), False, kind, descending))
            continue
        value = use("value + 0e0", value=key) if kind == FLOAT else key.copy()
        alias = exp.to_identifier(f"k{len(hidden)}", quoted=True)
        places.append((len(hidden), True, "number" if kind == FLOAT else kind, descending))
        hidden.append(exp.Alias(this=value, alias=alias))
    if not places:
        return None
    sort_keys = tuple(
        SortKey(column if is_hidden else column + len(hidden), kind, descending)
        for column, is_hidden, kind, descending in places
    )
    order: list[exp.Expression] = [
        exp.Ordered(this=fill(key.column + 1), desc=key.descending) for key in sort_keys
    ]
    return [*hidden, *(item.copy() for item in items)], order, sort_keys


def _place(item: exp.Expression, scope: Scope) -> tuple[str, str]:
    """Return what names a column in FROM, or an expression by its text."""
    node = item.this if isinstance(item, exp.Alias) else item
    ref = scope.owner(node)
    return ("", emit(node)) if ref is None else (ref.alias, node.name.lower())


def order_text(keys: Sequence[SortKey], limit: int | None, skip: int) -> str:
    """Return the ORDER BY that the merge of the streams stands for, as SQL by position."""
    text = "ORDER BY " + ", ".join(f"{key.column + 1}{' DESC' if key.descending else ''}" for key in keys)
    if limit is not None:
        text += f" LIMIT {limit}"
    return text + (f" OFFSET {skip}" if skip else "")


__all__ = ["EVERY", "FEW", "kind_of", "order_text", "ordered"]
