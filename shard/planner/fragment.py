"""Writes a draft for one chunk: chunk tables in place of logical ones.

The chunk number is written as `CHUNK_MARK`; `template` cuts the text there. Match joins with both
directors become two arms (partner in the chunk, partner in the overlap); near-neighbour joins get
their cell grid in temporary tables of the session.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from shard.catalog.naming import OWNER_COLUMN, SCRATCH_DATABASE, quote
from shard.planner import cells
from shard.planner.constants import conjuncts
from shard.planner.emit import CHUNK_MARK, Writer
from shard.planner.locality import Layout
from shard.planner.nested import PLACE, SPLIT_COLUMN, shipped_name
from shard.planner.plan import Fragment, PartialType, Sql
from shard.planner.scope import Scope, TableRef, from_items
from shard.planner.split import Draft
from shard.planner.templates import use

_FLOAT = 4
BIT = 16
"""A column of bits; its text is bytes or digits (``MAX(bits)`` without groups), so it travels as a number."""
_ENUM_OR_SET = 0x100 | 0x800
_SHORT = re.compile(
    r"(?i)(?:(?:tiny|small|medium|big)?int(?:eger)?|float|double|real|date|time|datetime|timestamp|year)\b"
)
"""Types of at most eight bytes."""
_KEY_PARTS = 16
"""Columns that an index of MariaDB may have."""
_DISTRIBUTION_SCALE = 10
"""Decimals of CUME_DIST and PERCENT_RANK."""
LENIENT = "SET STATEMENT sql_mode=REPLACE(REPLACE(@@sql_mode, 'STRICT_TRANS_TABLES', ''), 'STRICT_ALL_TABLES', '') FOR "
"""Before a CREATE or INSERT … SELECT that stands for a piece of a SELECT: what is a warning there is no error."""


def write(draft: Draft, types: Sequence[PartialType] = ()) -> Fragment:
    """Return the SQL of a draft for one chunk.

    Parameters
    ----------
    draft : Draft
        From `split`.
    types : sequence of PartialType
        For a draft that is merged: types of the partial columns. FLOAT, and DOUBLE of fixed decimals, travel
        as DOUBLE (their text has not all digits), BIT, ENUM and SET as numbers (an ENUM's empty error value cannot be loaded as text).
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
        if kind.type == _FLOAT or kind.scale is not None:
            item.set("this", use("CAST(value AS DOUBLE)", value=item.this))
        elif kind.type == BIT:
            item.set("this", use("CAST(value AS UNSIGNED)", value=item.this))
        elif kind.flags & _ENUM_OR_SET:
            item.set("this", use("value + 0", value=item.this))
    _owner_conditions(select, layout)
    if layout.partner is not None:
        return _two_arms(select, scope, layout.partner)
    if layout.neighbours is not None:
        return _with_cells(select, scope, layout)
    _chunk_names(select, scope, {})
    return Fragment(_sql(select))


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
    cast = exp.Anonymous(this="CAST", expressions=[value])
    cast.meta["call"] = ("", (), f"AS DOUBLE(53,{scale})")
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
        out.append(kind if numbered else replace(kind, flags=kind.flags & ~_ENUM_OR_SET))
    return out


def _with_alias(item: exp.Expression, name: str) -> exp.Expression:
    """Return a select item with a name: its own, a column's, or `name`."""
    if isinstance(item, exp.Alias):
        return item
    own = item.name if isinstance(item, exp.Column) else name
    return exp.Alias(this=item.copy(), alias=exp.to_identifier(own, quoted=True))


def template(sql: Sql) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return (text segments between chunk numbers, parameters)."""
    return tuple(sql.text.split(CHUNK_MARK)), sql.parameters


def logical(tree: exp.Expression) -> Sql:
    """Return the SQL of a tree over the logical tables."""
    return _sql(tree)


def _sql(node: exp.Expression) -> Sql:
    writer = Writer().write(node)
    return Sql(writer.text(), tuple(writer.parameters))


def _owner_conditions(select: exp.Select, layout: Layout) -> None:
    for ref in layout.owners:
        column = exp.column(OWNER_COLUMN, table=ref.alias, quoted=True)
        _add_condition(select, use("own = 1", own=column))


def _add_condition(select: exp.Select, condition: exp.Expression) -> None:
    where = select.args.get("where")
    if where is None:
        select.set("where", exp.Where(this=condition))
    else:
        where.set("this", exp.And(this=exp.Paren(this=where.this), expression=condition))


def _chunk_names(select: exp.Select, scope: Scope, suffixes: dict[str, str]) -> None:
    """Put chunk tables into FROM at every depth, in place, and drop database names from columns."""
    own = {id(node) for node, _ in from_items(select)}
    for node in list(select.find_all(exp.Table)):
        place = node.meta.get(PLACE)
        if place is None:
            continue
        database, name, sharded = place
        alias = node.alias or node.name
        if sharded:
            suffix = suffixes.get(alias, "") if id(node) in own else ""
            name = f"{name}{suffix}_{CHUNK_MARK}"
        node.set("this", exp.to_identifier(name, quoted=True))
        node.set("db", exp.to_identifier(database, quoted=True))
        node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    for column in select.find_all(exp.Column):
        column.set("db", None)


def _two_arms(select: exp.Select, scope: Scope, partner: TableRef) -> Fragment:
    texts: list[str] = []
    parameters: list[int] = []
    for suffix in ("", "FullOverlap"):
        arm = select.copy()
        _chunk_names(arm, scope, {partner.alias: suffix})
        sql = _sql(arm)
        texts.append(f"({sql.text})")
        parameters += sql.parameters
    return Fragment(Sql(" UNION ALL ".join(texts), tuple(parameters)))


def _with_cells(select: exp.Select, scope: Scope, layout: Layout) -> Fragment:
    neighbours = layout.neighbours
    if neighbours is None:
        raise TypeError("no near-neighbour join here")
    near = neighbours.near
    grid = cells.Grid.of(neighbours.radius)
    suffixes = ("",) if neighbours.place is not None else ("", "FullOverlap")
    setup = (_offsets(), *_near_table(select, scope, near, grid, suffixes))
    cell, repeats = cells.probe(grid, neighbours)
    if neighbours.place is not None:
        _split_anchor(select, neighbours.anchor)
    for node in [item for item, _ in from_items(select) if item.alias_or_name == near.alias]:
        node.replace(cells.near_reference(neighbours))
    _add_condition(
        select,
        use("near = probed", near=exp.column(cells.CELL_COLUMN, table=near.alias, quoted=True), probed=cell),
    )
    for repeat in repeats:
        _add_condition(select, repeat)
    offsets = exp.Table(
        this=exp.to_identifier(cells.OFFSET_TABLE, quoted=True),
        db=exp.to_identifier(SCRATCH_DATABASE, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(cells.OFFSET_ALIAS, quoted=True)),
    )
    select.set("joins", [*(select.args.get("joins") or []), exp.Join(this=offsets)])
    _chunk_names(select, scope, {})
    scratch = quote(SCRATCH_DATABASE)
    teardown = tuple(
        Sql(f"DROP TEMPORARY TABLE IF EXISTS {scratch}.{quote(name)}")
        for name in (cells.NEAR_TABLE, cells.OFFSET_TABLE)
    )
    return Fragment(_sql(select), setup, teardown)


def _offsets() -> Sql:
    name = f"{quote(SCRATCH_DATABASE)}.{quote(cells.OFFSET_TABLE)}"
    return Sql(f"CREATE OR REPLACE TEMPORARY TABLE {name} ENGINE=MEMORY AS {cells.offsets_select()}")


def _split_anchor(select: exp.Select, anchor: TableRef) -> None:
    """Let the anchor, a user's own table, give only the rows that have neighbours in this chunk."""
    for node, _ in from_items(select):
        if node.alias_or_name == anchor.alias:
            node.meta[PLACE] = (
                SCRATCH_DATABASE,
                shipped_name(anchor.database, anchor.table.name, True),
                False,
            )
    chunk = exp.column(SPLIT_COLUMN, table=anchor.alias, quoted=True)
    mark = exp.Literal(this=CHUNK_MARK, is_string=False)
    _add_condition(select, exp.EQ(this=chunk, expression=mark))


def _near_table(
    select: exp.Select, scope: Scope, near: TableRef, grid: cells.Grid, suffixes: Sequence[str]
) -> tuple[Sql, ...]:
    """Return the statements that fill the near table, with its own filters: from chunk and overlap.

    One each: a UNION would make text of an ENUM, which then sorts otherwise.
    """
    columns = cells.needed_columns(select, near, star=False)
    own = [
        item.copy()
        for item in conjuncts(select.args["where"].this if select.args.get("where") is not None else None)
        if _only(item, scope, near)
    ]
    arms: list[Sql] = []
    for suffix in suffixes:
        arm = exp.Select(
            expressions=[
                *(exp.column(name, table=near.alias, quoted=True) for name in columns),
                exp.Alias(
                    this=cells.own_cell(grid, near), alias=exp.to_identifier(cells.CELL_COLUMN, quoted=True)
                ),
            ]
        )
        table = exp.Table(
            this=exp.to_identifier(near.table.name, quoted=True),
            alias=exp.TableAlias(this=exp.to_identifier(near.alias, quoted=True)),
        )
        table.meta[PLACE] = (near.database, near.table.name, True)
        arm.set("from_", exp.From(this=table))
        for item in own:
            _add_condition(arm, exp.Paren(this=item.copy()))
        _chunk_names(arm, scope, {near.alias: suffix})
        arms.append(_sql(arm))
    name = f"{quote(SCRATCH_DATABASE)}.{quote(cells.NEAR_TABLE)}"
    key = ", ".join(map(quote, [cells.CELL_COLUMN, *_beside_cell(near, columns)]))
    head = f"{LENIENT}CREATE OR REPLACE TEMPORARY TABLE {name} (KEY ({key})) ENGINE=MyISAM AS "
    first, *others = arms
    return (
        Sql(head + first.text, first.parameters),
        *(Sql(f"{LENIENT}INSERT INTO {name} {arm.text}", arm.parameters) for arm in others),
    )


def _beside_cell(near: TableRef, columns: Sequence[str]) -> list[str]:
    """Return the columns to be in the index behind the cell: all, so that no row is read, if they are short.

    MyISAM's index with all columns takes 0.4 of the time of one of cells alone, in Aria, InnoDB or MyISAM.
    """
    types = {column.name: column.sql_type for column in near.table.columns}
    short = [_SHORT.match(types.get(name, "INT")) is not None for name in columns]  # else chunkId, an INT
    return list(columns) if all(short) and len(columns) < _KEY_PARTS else []


def _only(item: exp.Expression, scope: Scope, ref: TableRef) -> bool:
    """Whether a condition reads columns of `ref` alone and can be tested before the join."""
    columns = list(item.find_all(exp.Column))
    deterministic = not any(
        call.name.lower() in ("rand", "uuid", "sleep") for call in item.find_all(exp.Anonymous)
    )
    return bool(columns) and deterministic and all(scope.owner(column) is ref for column in columns)
