"""Finds aggregates that stand in an inner query and belong to the one around it.

Of ``SELECT (SELECT v FROM Lut WHERE n = MAX(o.g)) FROM Star o`` MariaDB makes one row: the aggregate is of the query whose
columns it reads. Such a query is no work that chunks can do on their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.aggregates import is_aggregate
from shard.planner.branches import bare, is_query, own_nodes, own_queries
from shard.planner.collected import upper_queries
from shard.planner.context import Context
from shard.planner.emit import excerpt
from shard.planner.needs import item_names
from shard.planner.scope import from_items

_Level = tuple[str, frozenset[str] | None]
"""An item of FROM: its alias and the lower-case names of its columns, None if they are not known."""


def refuse_outer_aggregates(select: exp.Select, context: Context) -> None:
    """Refuse a SELECT with an aggregate of its own in a query inside its select list, HAVING or ORDER BY.

    Raises
    ------
    SkyError
        1235.
    """
    if not own_queries(select):
        return
    for query in upper_queries(select):
        _refuse(bare(query), (), context)


def _refuse(query: exp.Expression, levels: Sequence[_Level], context: Context) -> None:
    if isinstance(query, (exp.SetOperation, exp.Subquery)):
        for side in (query.this, query.args.get("expression")):
            if isinstance(side, exp.Expression):
                _refuse(side, levels, context)
    if not isinstance(query, exp.Select):
        return
    here = [*levels, *((node.alias_or_name, item_names(node, context)) for node, _ in from_items(query))]
    for call in own_nodes(query, exp.Anonymous):
        if is_aggregate(call) and _is_outer(call, here):
            raise not_supported(f"{excerpt(call)} of the query around it, in an inner query")
    for inner in own_queries(query):
        _refuse(bare(inner), here, context)


def _is_outer(call: exp.Expression, levels: Sequence[_Level]) -> bool:
    """Whether an aggregate reads columns, and none that is certainly of a table in the inner queries."""
    columns = _columns(call)
    return bool(columns) and not any(_is_of(column, levels) for column in columns)


def _is_of(column: exp.Column, levels: Sequence[_Level]) -> bool:
    name = column.name.lower()
    return any(
        column.table in ("", alias) and (name in names if names is not None else column.table == alias)
        for alias, names in levels
    )


def _columns(call: exp.Expression) -> list[exp.Column]:
    """Return the columns in a call, those in queries inside it excepted."""
    found: list[exp.Column] = []
    stack = [call]
    while stack:
        item = stack.pop()
        if isinstance(item, exp.Column):
            found.append(item)
        elif not is_query(item):
            stack += [child for child in item.iter_expressions() if isinstance(child, exp.Expression)]
    return found
