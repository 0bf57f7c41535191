"""Which functions aggregate, and which of them can be put together from partial results."""

from __future__ import annotations

from sqlglot import exp

MERGED = frozenset({"count", "sum", "min", "max", "avg", "bit_and", "bit_or", "bit_xor"})
SPREAD = {
    "std": ("pop", True),
    "stddev": ("pop", True),
    "stddev_pop": ("pop", True),
    "stddev_samp": ("samp", True),
    "variance": ("pop", False),
    "var_pop": ("pop", False),
    "var_samp": ("samp", False),
}
"""Standard deviations and variances: over all rows or n-1, and whether the root is taken."""
AGGREGATES = MERGED | frozenset(SPREAD) | frozenset({"group_concat", "json_arrayagg", "json_objectagg"})


def is_aggregate(node: exp.Expression) -> bool:
    """Whether a node is a call of an aggregate function (and no window function)."""
    if not isinstance(node, exp.Anonymous) or node.name.lower() not in AGGREGATES:
        return False
    return not (isinstance(node.parent, exp.Window) and node.parent.this is node)


def has_aggregate(node: exp.Expression) -> bool:
    """Whether an expression contains an aggregate of its own query (inner queries have their own)."""
    if isinstance(node, exp.Column) or (isinstance(node, exp.Alias) and isinstance(node.this, exp.Column)):
        return False
    stack = [node]
    while stack:
        item = stack.pop()
        if is_aggregate(item):
            return True
        if isinstance(item, (exp.Select, exp.SetOperation)):
            continue
        stack += [child for child in item.iter_expressions() if isinstance(child, exp.Expression)]
    return False


def aggregates_rows(select: exp.Expression) -> bool:
    """Whether a SELECT makes one row of all, or of each group, for an aggregate that it selects or sorts by."""
    order = select.args.get("order")
    return any(map(has_aggregate, [*select.expressions, *(() if order is None else order.expressions)]))
