"""The form of a statement that is executed over empty tables for the definitions of its columns.

Over empty tables the server finds that a comparison with ``(SELECT MAX(…) …)`` is with NULL, and that no row
can meet it. Rows of a GROUP BY … WITH ROLLUP are then made without the tables, and its columns forget whose
they are. No condition decides on a column's definition, so such ones are left out.
"""

from __future__ import annotations

from sqlglot import exp

from shard.planner.aggregates import has_aggregate
from shard.planner.branches import LEAVES, bare, is_query
from shard.planner.constants import conjuncts


def over_empty(tree: exp.Expression) -> exp.Expression | None:
    """Return a copy of a statement without the conditions that empty tables decide; None if it has none."""
    if not _concerns(tree):
        return None
    tree = tree.copy()
    where = tree.args["where"]
    where.set("this", _without(where.this))
    return tree


def _concerns(tree: exp.Expression) -> bool:
    if not isinstance(tree, exp.Select):
        return False
    group, where = tree.args.get("group"), tree.args.get("where")
    if group is None or where is None or not group.args.get("rollup"):
        return False
    return any(_decided(part) for part in conjuncts(where.this))


def _without(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Paren):
        return exp.Paren(this=_without(node.this))
    if isinstance(node, exp.And):
        return exp.And(this=_without(node.this), expression=_without(node.expression))
    return exp.Boolean(this=True) if _decided(node) else node


def _decided(condition: exp.Expression) -> bool:
    """Whether a condition reads, however deep, the only row of an inner aggregate, which empty tables make NULL."""
    stack = [condition]
    while stack:
        node = stack.pop()
        if is_query(node):
            query = bare(node)
            alone = isinstance(query, exp.Select) and query.args.get("group") is None
            if alone and any(has_aggregate(item) for item in query.expressions):
                return True
        stack += [child for child in node.iter_expressions() if type(child) not in LEAVES]
    return False
