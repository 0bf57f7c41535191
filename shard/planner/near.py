"""Writes a near-neighbour join for one chunk: temporary tables of a session, joined by cell.

`near_anchor` has the rows of the one table with their unit vectors and first cells; `near_rows` those of the
other, from chunk and overlap, with an index on the cell; `near_steps` leads from a first cell to each that
neighbours can be in. Each has its table's own filters, and only the columns that are read. `near_rows`
belongs in memory, where a cell is found by hash: columns that memory tables hold badly, or not at all, are in
`near_columns` instead, and are read for pairs only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from shard.catalog.naming import SCRATCH_DATABASE, quote
from shard.planner import cells
from shard.planner.branches import own_nodes
from shard.planner.chunk_tables import LENIENT, add_condition, chunk_names, only, sql_of
from shard.planner.constants import conjuncts
from shard.planner.emit import CHUNK_MARK
from shard.planner.locality import NEAR, Layout, Neighbours
from shard.planner.nested import SPLIT_COLUMN, STORED_AS, shipped_name
from shard.planner.notes import noted
from shard.planner.plan import Fragment, Sql
from shard.planner.scope import Scope, TableRef, from_items
from shard.planner.templates import use

_ROWS, _COLUMNS, _ANCHOR, _STEPS = "near_rows", "near_columns", "near_anchor", "near_steps"
_ROWS_ALIAS = "skyNear"
_SHORT = re.compile(
    r"(?i)(?:(?:tiny|small|medium|big)?int(?:eger)?|float|double|real|date|time|datetime|timestamp|year)\b"
)
"""Types of at most eight bytes."""
_MOST_IN_MEMORY = 12
"""Columns that are kept in memory beside the cell."""


def with_cells(select: exp.Select, scope: Scope, layout: Layout) -> Fragment:
    """Return the fragment of a near-neighbour join; `select` is changed."""
    neighbours = layout.neighbours
    if neighbours is None:
        raise TypeError("no near-neighbour join here")
    grid = cells.Grid.of(neighbours.radius)
    anchor, near = neighbours.anchor, neighbours.near
    columns = cells.needed_columns(select, near)
    in_memory = _are_short(near, columns)
    vectors = near.alias if in_memory else _ROWS_ALIAS
    setup = (
        _create(_STEPS, " UNION ALL ".join(f"SELECT {n} AS {quote(cells.STEP)}" for n in grid.steps())),
        *_near_rows(select, scope, neighbours, grid, columns, in_memory),
        _anchor_rows(select, scope, neighbours, grid),
    )
    _test_quickly(select, grid, anchor.alias, vectors)
    _replace(select, near.alias, _ROWS if in_memory else _COLUMNS)
    _replace(select, anchor.alias, _ANCHOR)
    joins = [*(select.args.get("joins") or []), exp.Join(this=_table(_STEPS, _STEPS))]
    if not in_memory:
        joins.append(exp.Join(this=_table(_ROWS, _ROWS_ALIAS)))
        row = {"a": _column(cells.ROW, near.alias), "b": _column(cells.ROW, _ROWS_ALIAS)}
        add_condition(select, use("a = b", **row))
    select.set("joins", joins)
    holes = {
        "near": _column(cells.CELL, vectors),
        "first": _column(cells.CELL, anchor.alias),
        "step": _column(cells.STEP, _STEPS),
    }
    add_condition(select, use("near = first + step", **holes))
    chunk_names(select, scope, {})
    names = (_ROWS, _ANCHOR, _STEPS) if in_memory else (_ROWS, _COLUMNS, _ANCHOR, _STEPS)
    teardown = tuple(Sql(f"DROP TEMPORARY TABLE IF EXISTS {_scratch(name)}") for name in names)
    return Fragment(sql_of(select), setup, teardown)


def _scratch(name: str) -> str:
    return f"{quote(SCRATCH_DATABASE)}.{quote(name)}"


def _column(name: str, alias: str) -> exp.Column:
    return exp.column(name, table=alias, quoted=True)


def _table(name: str, alias: str) -> exp.Table:
    return exp.Table(
        this=exp.to_identifier(name, quoted=True),
        db=exp.to_identifier(SCRATCH_DATABASE, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
    )


def _replace(select: exp.Select, alias: str, name: str) -> None:
    for node in [item for item, _ in from_items(select) if item.alias_or_name == alias]:
        node.replace(_table(name, alias))


def _test_quickly(select: exp.Select, grid: cells.Grid, one: str, other: str) -> None:
    """Put the quick test around the condition that makes the join.

    It goes to WHERE, even from ON, which may stand before a table that the test needs: all joins that it can be
    a part of are inner ones.
    """
    own = own_nodes(select, exp.Expression)  # an inner query may have a near-neighbour join of its own
    for node in [node for node in own if noted(node, NEAR)]:
        exact = node.copy()
        exact.meta.pop(NEAR)
        node.replace(exp.Literal(this="1", is_string=False))
        add_condition(select, cells.tested(grid, one, other, exact))


def _create(name: str, text: str, inside: str = "", engine: str = "MEMORY") -> Sql:
    """Return the statement that makes a table; with no engine, it has the session's for temporary tables."""
    engine = f" ENGINE={engine}" if engine else ""
    return Sql(f"{LENIENT}CREATE OR REPLACE TEMPORARY TABLE {_scratch(name)}{inside}{engine} AS {text}")


def _with_parameters(statement: Sql, source: Sql) -> Sql:
    return Sql(statement.text, source.parameters)


def _near_rows(
    select: exp.Select,
    scope: Scope,
    neighbours: Neighbours,
    grid: cells.Grid,
    columns: Sequence[str],
    in_memory: bool,
) -> tuple[Sql, ...]:
    """Return the statements that fill the near table, with its own filters: from chunk and overlap.

    One each: a UNION would make text of an ENUM, which then sorts otherwise.
    """
    near = neighbours.near
    suffixes = ("",) if neighbours.own_position is not None else ("", "FullOverlap")
    beside = [*cells.vector(near), cells.cell(grid, near)] if in_memory else []
    items: list[exp.Expression] = [*(_column(name, near.alias) for name in columns), *beside]
    arms = [_arm(select, scope, near, items, suffix) for suffix in suffixes]
    key = f" (KEY ({quote(cells.CELL)}))"
    if in_memory:
        made = [_with_parameters(_create(_ROWS, arms[0].text, key, ""), arms[0])]
        made += [
            Sql(f"{LENIENT}INSERT INTO {_scratch(_ROWS)} {arm.text}", arm.parameters) for arm in arms[1:]
        ]
        return tuple(made)
    row = f" ({quote(cells.ROW)} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY)"
    made = [_with_parameters(_create(_COLUMNS, arms[0].text, row, "MyISAM"), arms[0])]
    listed = ", ".join(map(quote, columns))
    head = f"{LENIENT}INSERT INTO {_scratch(_COLUMNS)} ({listed}) "
    made += [Sql(head + arm.text, arm.parameters) for arm in arms[1:]]
    vectors = exp.Select(
        expressions=[_column(cells.ROW, near.alias), *cells.vector(near), cells.cell(grid, near)]
    )
    vectors.set("from_", exp.From(this=_table(_COLUMNS, near.alias)))
    return (*made, _create(_ROWS, sql_of(vectors).text, key, ""))


def _anchor_rows(select: exp.Select, scope: Scope, neighbours: Neighbours, grid: cells.Grid) -> Sql:
    anchor, lon_lat = neighbours.anchor, neighbours.own_position
    columns = cells.needed_columns(select, anchor, lon_lat)
    items: list[exp.Expression] = [
        *(_column(name, anchor.alias) for name in columns),
        *cells.vector(anchor, lon_lat),
        cells.cell(grid, anchor, lon_lat, grid.reach),
    ]
    arm = _arm(select, scope, anchor, items, "", lon_lat)
    return _with_parameters(_create(_ANCHOR, arm.text, engine="MyISAM"), arm)


def _arm(
    select: exp.Select,
    scope: Scope,
    ref: TableRef,
    items: Sequence[exp.Expression],
    suffix: str,
    lon_lat: cells.LonLat | None = None,
) -> Sql:
    """Return the SELECT of a table's rows that can have neighbours, by the conditions that read it alone.

    Of a user's own table, whose position columns are `lon_lat`, those rows that have neighbours in this chunk.
    """
    arm = exp.Select(expressions=[item.copy() for item in items])
    table = exp.Table(
        this=exp.to_identifier(ref.table.name, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(ref.alias, quoted=True)),
    )
    table.meta[STORED_AS] = (ref.database, ref.table.name, True)
    if lon_lat is not None:
        table.meta[STORED_AS] = (SCRATCH_DATABASE, shipped_name(ref.database, ref.table.name, True), False)
    arm.set("from_", exp.From(this=table))
    add_condition(arm, cells.has_position(ref, lon_lat))
    where = select.args["where"].this if select.args.get("where") is not None else None
    for item in conjuncts(where):
        if only(item, scope, ref):
            add_condition(arm, exp.Paren(this=item.copy()))
    if lon_lat is not None:
        mark = exp.Literal(this=CHUNK_MARK, is_string=False)
        add_condition(arm, exp.EQ(this=_column(SPLIT_COLUMN, ref.alias), expression=mark))
    chunk_names(arm, scope, {ref.alias: suffix})
    return sql_of(arm)


def _are_short(near: TableRef, columns: Sequence[str]) -> bool:
    """Whether all columns are numbers and dates, and few."""
    types = {column.name: column.sql_type for column in near.table.columns}
    short = [_SHORT.match(types.get(name, "INT")) is not None for name in columns]  # else chunkId, an INT
    return all(short) and len(columns) <= _MOST_IN_MEMORY
