"""What a chunk-local query shows to the query around it: its columns, and which of them hold keys of the chunk."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.catalog.model import Column, Kind, Table
from shard.errors import not_supported
from shard.planner.branches import is_star, own_nodes
from shard.planner.context import Bound
from shard.planner.locality import chunk_links, group_links
from shard.planner.scope import Scope, column_of, star_columns


def output_name(item: exp.Expression) -> str:
    """Return the column name of a select item: its alias, column name, or text."""
    if isinstance(item, (exp.Alias, exp.Column)):
        return item.alias_or_name
    from shard.planner.emit import emit

    return emit(item)


def output_columns(select: exp.Select, scope: Scope) -> list[tuple[str, exp.Expression]]:
    """Return (name, expression) of a SELECT's columns, stars replaced by the columns they stand for.

    Raises
    ------
    SkyError
        1235 for a star whose order of columns is not known here.
    """
    out: list[tuple[str, exp.Expression]] = []
    for item in select.expressions:
        if not is_star(item):
            inner = item.this if isinstance(item, exp.Alias) else item
            out.append((output_name(item), inner))
            continue
        qualifier = item.table if isinstance(item, exp.Column) else ""
        named = [ref for ref in scope.refs if ref.alias == qualifier]
        columns = [column_of(ref, column.name) for ref in named for column in ref.table.columns]
        out += [(column.name, column) for column in (columns if qualifier else star_columns(select, scope))]
    return out


def output_links(outputs: Sequence[tuple[str, exp.Expression]], bound: Bound) -> tuple[tuple[str, str], ...]:
    """Return the (director, column) pairs by which the rows are tied to a director's chunk."""
    links: list[tuple[str, str]] = []
    for name, node in outputs:
        ref = bound.scope.owner(node)
        if ref is None or ref.nullable:
            continue
        links += [
            (director, name.lower())
            for director, column in chunk_links(ref, bound.layout)
            if column == node.name.lower()
        ]
    return tuple(links)


def is_chunk_key(node: exp.Expression, bound: Bound) -> bool:
    """Whether equal values of an expression lie in one chunk."""
    ref = bound.scope.owner(node)
    if ref is None or ref.nullable or bound.layout.partner is not None:
        return False
    return any(column == node.name.lower() for _, column in group_links(ref, bound.layout))


def check_windows(select: exp.Select, bound: Bound) -> None:
    """Refuse window functions whose partitions may span chunks."""
    named = {item.this.name.lower(): item for item in select.args.get("windows") or ()}
    for node in own_nodes(select, exp.Window):
        if isinstance(node.this, exp.Identifier):
            continue
        parts = list(node.args.get("partition_by") or ())
        alias = node.args.get("alias")
        if alias is not None and alias.name.lower() in named:
            parts += named[alias.name.lower()].args.get("partition_by") or ()
        if not any(is_chunk_key(item, bound) for item in parts):
            raise not_supported("a window function whose partitions span chunks")


def stand_in_table(outputs: Sequence[tuple[str, exp.Expression]], kind: Kind, bound: Bound) -> Table:
    """Return a derived table as if it were a table of the catalogue."""
    position: dict[str, str] = {}
    for name, node in outputs:
        ref = bound.scope.owner(node)
        if ref is not bound.layout.anchor or ref.nullable:
            continue
        for part, column in (("longitude", ref.table.longitude), ("latitude", ref.table.latitude)):
            if column and node.name.lower() == column.lower():
                position[part] = name
    return Table(
        name="",
        kind=kind,
        columns=tuple(Column(name=name, sql_type=type_of(node, bound.scope)) for name, node in outputs),
        longitude=position.get("longitude") if len(position) == 2 else None,
        latitude=position.get("latitude") if len(position) == 2 else None,
        key_spans_chunks=any(ref.table.key_spans_chunks for ref in bound.scope.sharded()),
        null_keys=null_keys(bound),
    )


def type_of(node: exp.Expression, scope: Scope) -> str:
    """Return the SQL type of a column of FROM, as it was declared; empty if it is none or not certain."""
    ref = scope.owner(node)
    if ref is None or ref.nullable:
        return ""
    return next((c.sql_type for c in ref.table.columns if c.name.lower() == node.name.lower()), "")


def null_keys(bound: Bound) -> bool:
    """Whether keys of the chunk may be NULL."""
    return any(ref.table.null_keys for ref in bound.scope.sharded())
