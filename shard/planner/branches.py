"""Walks over trees without their leaves, for most nodes of a wide SELECT are columns and names; or without inner queries."""

from __future__ import annotations

from typing import TypeVar

from sqlglot import exp

LEAVES: frozenset[type] = frozenset(
    {exp.Column, exp.Identifier, exp.Literal, exp.Star, exp.Placeholder, exp.Var, exp.Null, exp.Boolean}
)
"""Kinds of nodes with nothing below them but names."""
_Kind = TypeVar("_Kind", bound=exp.Expression)


class _Sorts(dict[type, int]):
    """What the values of a node's arguments are, by their type: most questions are about None, and names."""

    def __missing__(self, kind: type) -> int:
        if kind is list or kind is exp.Alias:
            found = _LIST if kind is list else _ALIAS
        else:
            found = _NODE if issubclass(kind, exp.Expression) and kind not in LEAVES else _OTHER
        self[kind] = found
        return found


_OTHER, _NODE, _LIST, _ALIAS = range(4)
_sorts = _Sorts()


def branches(tree: exp.Expression) -> list[exp.Expression]:
    """Return the nodes of a tree, breadth first, without its leaves and without aliases of select items."""
    found = [tree]
    for node in found:  # which grows meanwhile
        for value in node.args.values():
            if value is None:
                continue
            sort = _sorts[type(value)]
            if sort == _OTHER:
                continue
            for item in value if sort == _LIST else (value,):
                inner = item.args["this"] if _sorts[type(item)] == _ALIAS else item
                if _sorts[type(inner)] == _NODE:
                    found.append(inner)
    return found


def find(tree: exp.Expression, kind: type[_Kind]) -> list[_Kind]:
    """Return the nodes of a kind, which is none of a leaf, breadth first."""
    return [node for node in branches(tree) if isinstance(node, kind)]


def sharing(select: exp.Select) -> exp.Select:
    """Return a SELECT with the clauses of another, to put others in place of some; those it has in common stay as they are.

    They are the other's children. A whole copy takes as long as a quarter of parsing.
    """
    other = exp.Select()
    other.args.update(select.args)
    return other


def is_query(node: object) -> bool:
    """Whether a node is a query: a SELECT, a set operation, or either in parentheses."""
    if isinstance(node, exp.Subquery):
        return isinstance(node.this, (exp.Select, exp.SetOperation, exp.Subquery))
    return isinstance(node, (exp.Select, exp.SetOperation))


def bare(query: exp.Expression) -> exp.Expression:
    """Return a query without its parentheses."""
    while isinstance(query, exp.Subquery) and not any(
        query.args.get(key) for key in ("order", "limit", "offset")
    ):
        query = query.this
    return query


def own_queries(node: exp.Expression) -> list[exp.Expression]:
    """Return the queries directly inside the expressions of a node, FROM excepted, each once."""
    found: list[exp.Expression] = []
    stack: list[exp.Expression] = []
    for key, value in node.args.items():
        if key in ("from", "from_", "with", "with_"):
            continue
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, exp.Join):
                stack += [part for part in (item.args.get("on"),) if part is not None]
            elif isinstance(item, exp.Expression):
                _push(item, stack)
    while stack:
        item = stack.pop()
        if is_query(item):
            found.append(item)
        else:
            for child in item.iter_expressions():
                if isinstance(child, exp.Expression):
                    _push(child, stack)
    return found


def _push(node: exp.Expression, stack: list[exp.Expression]) -> None:
    """Put a node on a stack of those to look into, unless nothing is in it."""
    inner = node.args["this"] if type(node) is exp.Alias else node
    if type(inner) not in LEAVES:
        stack.append(inner)


def own_nodes(select: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """Return the nodes of a kind in a query's own clauses, inner queries excepted."""
    found: list[exp.Expression] = []
    stack: list[exp.Expression] = []
    for key, value in select.args.items():
        if key in ("from", "from_", "with", "with_"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Expression):
                stack.append(child)
    leaf = kind in LEAVES
    while stack:
        node = stack.pop()
        inner = node.args["this"] if type(node) is exp.Alias and kind is not exp.Alias else node
        if type(inner) in LEAVES:
            if leaf and isinstance(inner, kind):
                found.append(inner)
            continue
        if is_query(inner):
            continue
        if isinstance(inner, kind):
            found.append(inner)
        stack += [child for child in inner.iter_expressions() if isinstance(child, exp.Expression)]
    return found


def is_star(item: exp.Expression) -> bool:
    """Whether a select item is ``*`` or ``t.*``."""
    return isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))


__all__ = ["LEAVES", "bare", "branches", "find", "is_query", "is_star", "own_nodes", "own_queries"]
