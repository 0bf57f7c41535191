"""Replaces common table expressions by derived tables, as MariaDB itself reads them.

Each reference is evaluated on its own, so a copy of the query in every place means the same.
Recursive ones stay, under names that no table has. In their names no letter's case counts, unlike in tables'.
"""

from __future__ import annotations

from sqlglot import exp

from shard.errors import not_supported

_RECURSIVE = "skyshard_recursive_"
"""What the names of recursive expressions begin with, so that none is taken for a table's."""


def inline(tree: exp.Expression) -> exp.Expression:
    """Return the tree without its non-recursive common table expressions; it is changed.

    Raises
    ------
    SkyError
        1235 for a list of columns over a ``*``.
    """
    holder = exp.Paren(this=tree)
    for number, clause in enumerate(reversed(list(holder.find_all(exp.With)))):  # inner ones first
        owner = clause.parent
        if owner is None:
            continue
        if clause.args.get("recursive"):
            _rename(owner, clause, number)
            continue
        bodies: dict[str, exp.Expression] = {}
        for item in clause.expressions:
            body = item.this
            _replace(body, bodies)
            bodies[item.alias.lower()] = _renamed(item.this, item.args["alias"].args.get("columns") or [])
        for key in ("with_", "with"):
            if owner.args.get(key) is clause:
                owner.set(key, None)
        _replace(owner, bodies)
    result: exp.Expression = holder.this
    result.pop()
    return result


def _rename(owner: exp.Expr, clause: exp.With, number: int) -> None:
    """Give the expressions of a WITH RECURSIVE names of their own, in place; aliases keep the old ones."""
    names = {}
    for index, item in enumerate(clause.expressions):
        name = f"{_RECURSIVE}{number}_{index}"
        names[item.alias.lower()] = name
        item.args["alias"].set("this", exp.to_identifier(name, quoted=True))
    for node in list(owner.find_all(exp.Table)):
        new = names.get(node.name.lower()) if node.args.get("db") is None else None
        if new is None or not isinstance(node.parent, (exp.From, exp.Join)):
            continue
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
        node.set("this", exp.to_identifier(new, quoted=True))


def _replace(tree: exp.Expr, bodies: dict[str, exp.Expression]) -> None:
    for node in list(tree.find_all(exp.Table)):
        body = bodies.get(node.name.lower()) if node.args.get("db") is None else None
        if body is None or not isinstance(node.parent, (exp.From, exp.Join)):
            continue
        alias = exp.TableAlias(this=exp.to_identifier(node.alias or node.name, quoted=True))
        node.replace(exp.Subquery(this=body.copy(), alias=alias))


def _renamed(query: exp.Expression, columns: list[exp.Expression]) -> exp.Expression:
    """Give a query's columns the names of the list after a common table expression's name."""
    if not columns:
        return query
    first = query
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if any(isinstance(item, exp.Star) or isinstance(item.this, exp.Star) for item in first.expressions):
        raise not_supported("a list of columns for a WITH query that selects *")
    if len(columns) != len(first.expressions):
        return query
    items = [item.this if isinstance(item, exp.Alias) else item for item in first.expressions]
    first.set(
        "expressions",
        [
            exp.Alias(this=item.copy(), alias=exp.to_identifier(name.name, quoted=True))
            for item, name in zip(items, columns, strict=True)
        ],
    )
    return query
