"""What the names in windows mean: a window's ORDER BY and PARTITION BY may name select items by their aliases.

Fragments and gathered statements have other aliases than the user's, so such names are replaced by what they mean.
"""

from __future__ import annotations

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.branches import is_query, is_star, own_nodes
from shard.planner.names import item_named
from shard.planner.scope import Scope
from shard.planner.templates import wrap
from shard.planner.volatile import varies


def settle_windows(select: exp.Select, scope: Scope) -> None:
    """Replace the aliases that a SELECT's windows name by what they stand for, in place.

    As MariaDB does (`find_order_in_list` in sql/sql_select.cc): a bare name in ORDER BY is a select item of that name
    before it is a column of FROM; in PARTITION BY it is a column of FROM, unless several of its tables have it; inside
    expressions it is one if there is any. Numbers are no positions.

    Raises
    ------
    SkyError
        1235 for an alias of what is not the same each time it is written.
    """
    for window in own_nodes(select, exp.Window):
        for item in window.args.get("partition_by") or ():
            if isinstance(item, exp.Column) and item.name.lower() in scope.united:
                _settle(item, select)
            else:
                _settle_inside(item, select, scope)
        order = window.args.get("order")
        for ordered in order.expressions if order is not None else ():
            if isinstance(ordered.this, exp.Column):
                _settle(ordered.this, select)
            else:
                _settle_inside(ordered.this, select, scope)


def _settle_inside(node: exp.Expression, select: exp.Select, scope: Scope) -> None:
    """Replace the names in an expression that are no columns of FROM; an inner query has names of its own."""
    if any(is_query(part) for part in node.walk()):
        return
    for column in list(node.find_all(exp.Column)):
        if scope.owner(column) is None and column.name.lower() not in scope.united:
            _settle(column, select)


def _settle(node: exp.Expression, select: exp.Select) -> None:
    """Replace a bare name by the select item of that name, if there is one."""
    if not isinstance(node, exp.Column) or node.table:
        return
    meant = item_named(node.name, [item for item in select.expressions if not is_star(item)])
    if meant is None or (isinstance(meant, exp.Column) and not meant.table and _same_name(meant, node)):
        return
    if varies(meant) or any(is_query(part) for part in meant.walk()):
        raise not_supported(f"the alias '{node.name}' in a window", "write its expression there")
    node.replace(wrap(meant.copy()))


def _same_name(one: exp.Expression, other: exp.Expression) -> bool:
    return one.name.lower() == other.name.lower()
