"""Top-level UNIONs as one SELECT over a derived table, so that chunk-local ones need not be gathered.

``a UNION ALL b ORDER BY x LIMIT 3`` is ``SELECT * FROM (a UNION ALL b) ORDER BY x LIMIT 3``: the rows of all chunks
together, whose types the workers' servers unite as one server would. A UNION that removes repetitions at its
end removes them once, whatever was below: ``SELECT DISTINCT * FROM (a UNION ALL b)``.
"""

from __future__ import annotations

from sqlglot import exp

from shard.planner.branches import bare, find, is_star
from shard.planner.outputs import output_name

_ALIAS = "united"
MOST_QUERIES = 16
"""Each chunk that one of them needs runs them all: many look-ups are quicker each in its own chunk."""
_TAIL = ("order", "limit", "offset")


def as_select(tree: exp.Expression) -> exp.Select | None:
    """Return a UNION as a SELECT; None if it is none, or cannot be one.

    The tree is taken apart for it.
    """
    if not isinstance(tree, exp.Union):
        return None
    distinct = bool(tree.args.get("distinct"))
    united, names = _united(tree, distinct), _named(tree)
    if united is None or names is None or not _ordered_by_names(tree, names):
        return None
    for node in united:
        node.set("distinct", False)
    for inner in find(tree, exp.Select):
        inner.set("locks", None)  # nobody locks the rows of a chunk
    tail = {key: tree.args[key] for key in _TAIL if tree.args.get(key) is not None}
    for key in tail:
        tree.set(key, None)
    select = exp.Select(expressions=[exp.Star()])
    if distinct:
        select.set("distinct", exp.Distinct())
    table = exp.Subquery(this=tree, alias=exp.TableAlias(this=exp.to_identifier(_ALIAS, quoted=True)))
    select.set("from_", exp.From(this=table))
    for key, node in tail.items():
        select.set(key, node)
    return select


def direct(select: exp.Select) -> exp.Expression:
    """Return the UNION itself where nothing else is done with its rows: the server then stores none of them."""
    clause = select.args.get("from_")
    table = clause.this if clause is not None else None
    if not isinstance(table, exp.Subquery) or table.alias != _ALIAS or not isinstance(table.this, exp.Union):
        return select
    others = [
        key for key, node in select.args.items() if node and key not in ("expressions", "from_", "limit")
    ]
    if others or len(select.expressions) != 1 or not isinstance(select.expressions[0], exp.Star):
        return select
    union = table.this
    if select.args.get("limit") is not None:
        union.set("limit", select.args["limit"])
    return union


def _united(tree: exp.Union, distinct: bool) -> list[exp.Union] | None:
    """Return the UNIONs of a chain, from the end on; None unless they can all be UNION ALL below what the end does."""
    found: list[exp.Union] = []
    node: exp.Expression = tree
    while isinstance(node, exp.Union):
        if (not distinct and node.args.get("distinct")) or isinstance(
            bare(node.expression), exp.SetOperation
        ):
            return None
        if found and any(node.args.get(key) for key in _TAIL):
            return None
        found.append(node)
        node = bare(node.this)
    if len(found) >= MOST_QUERIES:
        return None
    return None if isinstance(node, exp.SetOperation) else found


def _named(tree: exp.Union) -> frozenset[str] | None:
    """Give the first query's columns names that are known here; return them, or None if they are not all different.

    Of ``'x'`` or ``f(a)`` MariaDB would make names of its own, which what is around could not name. The client's
    headers come from its own text.
    """
    first: exp.Expression = tree
    while isinstance(first, exp.SetOperation):
        first = bare(first.this)
    if not isinstance(first, exp.Select) or first.args.get("operation_modifiers"):
        return None
    if any(is_star(item) for item in first.expressions):
        return frozenset() if len(first.expressions) == 1 and not first.args.get("joins") else None
    names = [
        output_name(item).lower() if isinstance(item, exp.Column | exp.Alias) else f"{_ALIAS}_{at}"
        for at, item in enumerate(first.expressions)
    ]
    if len(set(names)) < len(names):
        return None
    items = [
        # sqlglot's own `alias_` would name an inner query itself.
        item
        if isinstance(item, exp.Column | exp.Alias)
        else exp.Alias(this=item, alias=exp.to_identifier(name, quoted=True))
        for item, name in zip(first.expressions, names, strict=True)
    ]
    first.set("expressions", items)
    return frozenset(name for name in names if not name.startswith(f"{_ALIAS}_"))


def _ordered_by_names(tree: exp.Union, names: frozenset[str]) -> bool:
    """Whether a UNION is ordered by places and names of its columns alone."""
    order = tree.args.get("order")
    keys = [item.this for item in order.expressions] if order is not None else []
    return all(
        isinstance(key, exp.Literal)
        or (isinstance(key, exp.Column) and not key.table and (not names or key.name.lower() in names))
        for key in keys
    )
