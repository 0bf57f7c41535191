"""Conditions on a director's key: single keys, lists and ranges, which the director index knows the chunks of.

A range is one for all conditions on a column that hold together (``objectId >= 5 AND objectId < 9``). It is read
of integer columns alone, and of numbers that MariaDB compares with integers as they are written: a bound that may
be compared otherwise (a text, a large DOUBLE) is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from sqlglot import exp

from shard.catalog.model import Kind
from shard.planner.constants import Value, bound, key_literal, length_of, values_of
from shard.planner.locality import Layout
from shard.planner.plan import ByKey, ByRange, Everywhere, InChunks, Range, Restriction
from shard.planner.scope import Scope, sql_type_of

MAX_KEYS = 100_000
"""More keys than this are not looked up: all chunks are asked."""
_MOST_LISTED = 1000
"""Ranges of fewer integers are looked up key by key."""
_MOST_RANGES = 1000
_EXACT_DOUBLE = 1 << 53
"""Below it every integer is a DOUBLE that no other one is equal to."""
_LOWEST, _HIGHEST = -1 << 63, (1 << 64) - 1
INTEGER = re.compile(r"(?i)(?:tiny|small|medium|big)?int(?:eger)?\b")
"""An integer type."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a condition says of an integer column with a director's keys; both ends are included."""

    alias: str
    column: str
    director: str
    range: Range


def key_director(node: exp.Expression, scope: Scope, layout: Layout) -> str | None:
    """Return the director whose key this column holds for rows of the anchor's chunk, or None."""
    ref = scope.owner(node)
    if (
        ref is None
        or not ref.is_sharded
        or (ref.table.key_spans_chunks and ref.table.kind is not Kind.DIRECTOR)
    ):
        return None
    if layout.is_elsewhere(ref):
        return None
    links = ref.links
    if ref.table.kind is Kind.MATCH:
        links = links[layout.side : layout.side + 1]
    return next((director for director, column in links if column == node.name.lower()), None)


def integer_director(node: exp.Expression, scope: Scope, layout: Layout) -> str | None:
    """Return the director whose key a column holds for rows of the chunk, if both are of integer types."""
    director = key_director(node, scope, layout)
    if director is None or not is_integer(node, scope):
        return None
    table = scope.database.table(director)
    kinds = {} if table is None else {column.name: column.sql_type for column in table.columns}
    key = None if table is None else table.key
    return director if key is not None and INTEGER.match(kinds.get(key, "")) else None


def is_integer(node: exp.Expression, scope: Scope) -> bool:
    """Whether a table's column is of an integer type."""
    ref = scope.owner(node)
    if ref is None:
        return False
    return INTEGER.match(sql_type_of(ref.table, node.name)) is not None


def keys(item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]) -> Restriction | None:
    """Return the restriction of ``key = constant`` or ``key IN (constants)``; None for any other condition."""
    read = partial(key_director, scope=scope, layout=layout)
    if isinstance(item, exp.EQ):
        for column, value in ((item.this, item.expression), (item.expression, item.this)):
            director = read(column)
            literal = key_literal(value, values)
            if director is not None and literal is not None:
                return ByKey(director, (literal,))
    elif isinstance(item, exp.In) and item.expressions and length_of(item) <= MAX_KEYS:
        director = read(item.this)
        literals = [] if director is None else [key_literal(node, values) for node in values_of(item)]
        if director is not None and None not in literals:
            return ByKey(director, tuple(text for text in literals if text is not None))
    return None


def bounds(item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]) -> Bounds | None:
    """Return what BETWEEN or a comparison with constants says of a director's key; None for any other condition."""
    found = _between(item, values) if isinstance(item, exp.Between) else _compared(item, values)
    if found is None:
        return None
    node, low, high = found
    director = integer_director(node, scope, layout)
    ref = scope.owner(node)
    if director is None or ref is None:
        return None
    return Bounds(ref.alias, node.name.lower(), director, (low, high))


def _between(
    item: exp.Between, values: Sequence[Value]
) -> tuple[exp.Expression, int | None, int | None] | None:
    low, high = bound(item.args["low"], values), bound(item.args["high"], values)
    if low is None or high is None:
        return None
    as_doubles = isinstance(low, float) or isinstance(high, float)
    if as_doubles and not (_is_exact(low) and _is_exact(high)):
        return None
    return item.this, math.ceil(low), math.floor(high)


def _is_exact(value: Decimal | float) -> bool:
    return -_EXACT_DOUBLE < value < _EXACT_DOUBLE


def _compared(
    item: exp.Expression, values: Sequence[Value]
) -> tuple[exp.Expression, int | None, int | None] | None:
    if not isinstance(item, (exp.LT, exp.LTE, exp.GT, exp.GTE)):
        return None
    value, node, flipped = bound(item.expression, values), item.this, False
    if value is None:
        value, node, flipped = bound(item.this, values), item.expression, True
    if value is None or (isinstance(value, float) and not _is_exact(value)):
        return None
    strict = isinstance(item, (exp.LT, exp.GT))
    if isinstance(item, (exp.LT, exp.LTE)) != flipped:
        return node, None, math.ceil(value) - 1 if strict else math.floor(value)
    return node, math.floor(value) + 1 if strict else math.ceil(value), None


def ranges(found: Iterable[Bounds]) -> Iterator[Restriction]:
    """Yield one restriction for each column: the range that satisfies all of its conditions."""
    together: dict[tuple[str, str, str], Range] = {}
    for item in found:
        place = item.alias, item.column, item.director
        low, high = together.get(place, (None, None))
        more_low, more_high = item.range
        lows = [end for end in (low, more_low) if end is not None]
        highs = [end for end in (high, more_high) if end is not None]
        together[place] = max(lows, default=None), min(highs, default=None)
    for (_, _, director), (low, high) in together.items():
        yield _of_range(director, low, high)


def _of_range(director: str, low: int | None, high: int | None) -> Restriction:
    low = None if low is None or low <= _LOWEST else low
    high = None if high is None or high >= _HIGHEST else high
    if low is None and high is None:
        return Everywhere()
    if low is not None and high is not None and high - low < _MOST_LISTED:
        listed = tuple(str(value) for value in range(low, high + 1))
        return ByKey(director, listed) if listed else InChunks(())
    return ByRange(director, ((low, high),))


def united(sides: Sequence[ByRange]) -> list[Restriction]:
    """Return the union of some ranges, as one `ByRange` for each director, so that each is looked up at once."""
    by: dict[str, list[Range]] = {}
    for side in sides:
        by.setdefault(side.director, []).extend(side.ranges)
    out: list[Restriction] = []
    for director, found in by.items():
        merged = _merged(found)
        wide = merged == [(None, None)] or len(merged) > _MOST_RANGES
        out.append(Everywhere() if wide else ByRange(director, tuple(merged)))
    return out


def _merged(found: Iterable[Range]) -> list[Range]:
    """Return ranges in order, those that meet as one."""
    merged: list[Range] = []
    for low, high in sorted(found, key=lambda one: -math.inf if one[0] is None else one[0]):
        last = merged[-1] if merged else None
        if last is not None and (last[1] is None or low is None or low <= last[1] + 1):
            longer = None if last[1] is None or high is None else max(last[1], high)
            merged[-1] = last[0], longer
        else:
            merged.append((low, high))
    return merged
