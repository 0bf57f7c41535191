"""Walks over a tree that leave out its leaves: most nodes of a wide SELECT are columns, names and literals."""

from __future__ import annotations

from typing import TypeVar

from sqlglot import exp

LEAVES: frozenset[type] = frozenset(
    {exp.Column, exp.Identifier, exp.Literal, exp.Star, exp.Placeholder, exp.Var, exp.Null, exp.Boolean}
)
"""Kinds of nodes with nothing below them but names."""
_Kind = TypeVar("_Kind", bound=exp.Expression)


def branches(tree: exp.Expression) -> list[exp.Expression]:
    """Return the nodes of a tree, breadth first, without its leaves and without aliases of select items."""
    found = [tree]
    for node in found:  # which grows meanwhile
        for value in node.args.values():
            if type(value) is list:
                for item in value:
                    inner = item.args["this"] if type(item) is exp.Alias else item
                    if type(inner) not in LEAVES and isinstance(inner, exp.Expression):
                        found.append(inner)
            elif isinstance(value, exp.Expression):
                inner = value.args["this"] if type(value) is exp.Alias else value
                if type(inner) not in LEAVES and isinstance(inner, exp.Expression):
                    found.append(inner)
    return found


def find(tree: exp.Expression, kind: type[_Kind]) -> list[_Kind]:
    """Return the nodes of a kind, which is none of a leaf, breadth first."""
    return [node for node in branches(tree) if isinstance(node, kind)]


__all__ = ["LEAVES", "branches", "find"]
