"""One text for every way to write an expression: `o.name`, `name`, `NAME` and `(name)` are one column.

What is grouped by, selected and sorted by is found again by these texts. They are not SQL to be run.
"""

from __future__ import annotations

from sqlglot import exp

from shard.catalog.naming import quote
from shard.planner.branches import is_query
from shard.planner.emit import emit
from shard.planner.scope import Scope, column_of


def spelling(node: exp.Expression, scope: Scope) -> str:
    """Return an expression's text, in which FROM's columns and functions' names are all written alike.

    Inner queries stay as they are: their names may mean other tables.
    """
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Column):
        ref = scope.owner(node)
        return emit(node) if ref is None else f"{quote(ref.alias)}.{quote(node.name.lower())}"
    copied = node.copy()
    for item in own_names(copied):
        if isinstance(item, exp.Column):
            ref = scope.owner(item)
            if ref is not None:
                item.replace(column_of(ref, item.name.lower()))
        elif isinstance(item.this, str):
            item.set("this", item.this.upper())
    return emit(copied)


def settled(node: exp.Expression, scope: Scope) -> exp.Expression:
    """Return an expression whose bare columns that USING has united are qualified.

    In GROUP BY the bare name could mean another table's column that is selected.
    """
    if not scope.united:
        return node
    holder = exp.Paren(this=node.copy())
    for item in own_names(holder.this):
        ref = scope.owner(item) if isinstance(item, exp.Column) and not item.table else None
        if ref is not None and item.name.lower() in scope.united:
            item.replace(column_of(ref, item.name))
    settled_node: exp.Expression = holder.this
    return settled_node


def own_names(node: exp.Expression) -> list[exp.Column | exp.Anonymous]:
    """Return the columns and function calls in an expression, those of inner queries excepted."""
    found: list[exp.Column | exp.Anonymous] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, exp.Column | exp.Anonymous):
            found.append(item)
        if not is_query(item):
            stack += [child for child in item.iter_expressions() if isinstance(child, exp.Expression)]
    return found
