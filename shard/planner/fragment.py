"""Writes a draft for one chunk: chunk tables in place of logical ones.

The chunk number is written as `CHUNK_MARK`; `template` cuts the text there. Match joins with both
directors become two arms (partner in the chunk, partner in the overlap); near-neighbour joins are `near`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from shard.catalog.naming import OWNER_COLUMN
from shard.planner import unions
from shard.planner.chunk_tables import add_condition, chunk_names, sql_of
from shard.planner.context import Bound
from shard.planner.emit import CHUNK_MARK, KEYS_MARK
from shard.planner.keyed import put_keys, put_places
from shard.planner.locality import Layout
from shard.planner.names import bare_item
from shard.planner.near import with_cells
from shard.planner.notes import CALL
from shard.planner.outputs import is_chunk_key
from shard.planner.plan import Everywhere, Fragment, PartialType, Sql
from shard.planner.scope import Scope, TableRef
from shard.planner.split import Draft
from shard.planner.templates import use
from shard.planner.volatile import varies
from shard.wire.protocol import ColumnFlag, FieldType

_HOLE = re.compile(f"[{CHUNK_MARK}{KEYS_MARK}]")
_DISTRIBUTION_SCALE = 10
"""Decimals of CUME_DIST and PERCENT_RANK."""


def write(draft: Draft, types: Sequence[PartialType] = ()) -> Fragment:
    """Return the SQL of a draft for one chunk.

    Parameters
    ----------
    draft : Draft
        From `split`.
    types : sequence of PartialType
        For a draft that is merged: types of the partial columns. FLOAT, and DOUBLE of fixed decimals, travel
        as DOUBLE (their text has not all digits), BIT, ENUM and SET as numbers (an ENUM's empty error value cannot be loaded as text),
        TIMESTAMP as seconds since 1970 (two hours of a time zone with summer time have one text).
    """
    layout, scope = draft.layout, draft.scope
    if layout is None or scope is None:
        raise TypeError("a draft of split() has its layout")
    select = draft.fragment.copy()
    if types:
        names = [f"p{index}" for index in range(len(select.expressions))]
        select.set("expressions", [_with_alias(i, n) for i, n in zip(select.expressions, names, strict=True)])
    for item, kind in zip(select.expressions, types, strict=False):
        _store_windows(item, kind)
        if kind.type == FieldType.FLOAT or kind.scale is not None:
            item.set("this", use("CAST(value AS DOUBLE)", value=item.this))
        elif kind.type == FieldType.BIT:  # its text is bytes or, as of MAX(bits), digits
            item.set("this", use("CAST(value AS UNSIGNED)", value=item.this))
        elif kind.flags & ColumnFlag.NUMBERED:
            item.set("this", use("value + 0", value=item.this))
        elif kind.type == FieldType.TIMESTAMP:
            item.set("this", _seconds(item.this))
    _owner_conditions(select, layout)
    put_places(select, layout)
    put_keys(select)
    if layout.partner is not None:
        return _two_arms(select, scope, layout.partner)
    if layout.neighbours is not None:
        return with_cells(select, scope, layout)
    joint = draft.merge is not None and not _apart(select, Bound(scope, layout, Everywhere()))
    chunk_names(select, scope, {})
    main = sql_of(unions.direct(select))
    return Fragment(main, table=_only_table(select, main) if joint else None)


def _seconds(value: exp.Expression) -> exp.Expression:
    """Return a TIMESTAMP in seconds since 1970; a zero one, of which UNIX_TIMESTAMP knows a column's alone, is 0."""
    if isinstance(value, exp.Column) or varies(value):
        return use("UNIX_TIMESTAMP(value)", value=value)
    return use("COALESCE(UNIX_TIMESTAMP(value), value + 0)", value=value)


def _apart(select: exp.Select, bound: Bound) -> bool:
    """Whether chunks are better read one by one: by the director key rows are grouped, sorted or told apart in each.

    No two chunks' rows would meet in a union, and what the server keeps of them no longer fits its memory.
    """
    if select.find(exp.Window) is not None or any(
        not isinstance(node.parent, exp.Select) for node in select.find_all(exp.Distinct)
    ):
        return True
    if any(inner is not select and _keeps_apart(inner) for inner in select.find_all(exp.Select)):
        return True  # it could not be pushed down were its groups not within chunks
    group = select.args.get("group")
    kept = group.expressions if group is not None else select.expressions if _keeps_apart(select) else ()
    return any(is_chunk_key(bare_item(item), bound) for item in kept)


def _keeps_apart(select: exp.Select) -> bool:
    return bool(select.args.get("group") or select.args.get("distinct"))


def _only_table(select: exp.Select, main: Sql) -> Sql | None:
    """Return the chunk table that a statement over chunk tables reads, if its name is all that tells chunks apart."""
    table, *others = select.find_all(exp.Table)
    if others or CHUNK_MARK not in table.name or len(_HOLE.findall(main.text)) != 1:
        return None
    return sql_of(exp.Table(this=table.this.copy(), db=table.args["db"].copy()))


def _store_windows(item: exp.Expression, kind: PartialType) -> None:
    """Round the values of windows, in place: MariaDB sorts what it has stored of them, with their decimals."""
    for window in list(item.find_all(exp.Window)):
        scale = kind.scale if window.parent is item else None
        if window.this.name.upper() in ("CUME_DIST", "PERCENT_RANK"):
            scale = _DISTRIBUTION_SCALE
        if scale is not None:
            window.replace(with_decimals(window.copy(), scale))


def with_decimals(value: exp.Expression, scale: int) -> exp.Expression:
    """Return a DOUBLE rounded to `scale` decimals, as MariaDB rounds what it stores in such a column."""
    return with_type(value, f"DOUBLE(53,{scale})")


def with_type(value: exp.Expression, sql_type: str) -> exp.Expression:
    """Return an expression cast to a type."""
    cast = exp.Anonymous(this="CAST", expressions=[value])
    cast.args[CALL] = ("", (), f"AS {sql_type}")
    return cast


def shipped(draft: Draft, types: Sequence[PartialType]) -> list[PartialType]:
    """Return the types of the columns as they travel: ENUM and SET as numbers, if they are a table's columns.

    The number of any other value of such a type (``MAX(kind)``) is not to be had: it travels as text.
    """
    out: list[PartialType] = []
    for item, kind in zip(draft.fragment.expressions, types, strict=True):
        node = item.this if isinstance(item, exp.Alias) else item
        owner = draft.scope.owner(node) if draft.scope is not None else None
        numbered = owner is not None and owner.derived is None
        out.append(kind if numbered else replace(kind, flags=kind.flags & ~ColumnFlag.NUMBERED))
    return out


def _with_alias(item: exp.Expression, name: str) -> exp.Expression:
    """Return a select item with a name: its own, a column's, or `name`."""
    if isinstance(item, exp.Alias):
        return item
    own = item.name if isinstance(item, exp.Column) else name
    return exp.Alias(this=item.copy(), alias=exp.to_identifier(own, quoted=True))


def template(sql: Sql) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return (text segments between chunk numbers and lists of keys, parameters)."""
    return tuple(_HOLE.split(sql.text)), sql.parameters


def lists(sql: Sql) -> tuple[int, ...]:
    """Return the numbers of the holes between a template's segments that are for a chunk's keys."""
    return tuple(at for at, mark in enumerate(_HOLE.findall(sql.text)) if mark == KEYS_MARK)


def logical(tree: exp.Expression) -> Sql:
    """Return the SQL of a tree over the logical tables."""
    return sql_of(tree)


def _owner_conditions(select: exp.Select, layout: Layout) -> None:
    for ref in layout.owners:
        column = exp.column(OWNER_COLUMN, table=ref.alias, quoted=True)
        add_condition(select, use("own = 1", own=column))


def _two_arms(select: exp.Select, scope: Scope, partner: TableRef) -> Fragment:
    texts: list[str] = []
    parameters: list[int] = []
    for suffix in ("", "FullOverlap"):
        arm = select.copy()
        chunk_names(arm, scope, {partner.alias: suffix})
        sql = sql_of(arm)
        texts.append(f"({sql.text})")
        parameters += sql.parameters
    return Fragment(Sql(" UNION ALL ".join(texts), tuple(parameters)))
