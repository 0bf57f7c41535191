"""Queries as trees of text, so that a failing one can be cut down without knowing SQL.

A node is a kind and its parts, each a text or a node. The kind says what may be cut: an optional part
goes, a list loses elements, an expression gives way to one of its own kind inside it or to a constant,
a query to a query inside it. Cuts that make no valid SQL fail alike on both servers, and are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

Part = "str | Node"

CONSTANTS = {
    "P": "TRUE",
    "I": "1",
    "U": "1",
    "N": "1.5",
    "F": "1.5e0",
    "S": "'a'",
    "K": "JSON_ARRAY(0)",
    "B": "x'78'",
    "D": "DATE '2015-03-15'",
    "M": "TIME '10:00:00'",
    "W": "TIMESTAMP '2024-02-29 12:34:30'",
    "Y": "2015",
    "E": "'star'",
    "T": "'a'",
}
"""A constant of each type of expression (see expressions.py for the letters)."""


@dataclass(frozen=True, slots=True)
class Node:
    """Kinds: text, opt (droppable), list, expr (of a type), query, area (skyshard's and plain text), tail.

    Attributes
    ----------
    parts : tuple
        Texts and nodes, in order; of an area: skyshard's text and plain MariaDB's.
    type : str
        Letter of an expression's type.
    sep : str
        What stands between a list's elements.
    keys : tuple
        Of a tail (ORDER BY … LIMIT …): leading sort keys that are output columns, positions from 0 or names.
    total : bool
        Of a tail: no two different rows are equal in the order.
    """

    kind: str
    parts: tuple = ()
    type: str = ""
    sep: str = ""
    keys: tuple = ()
    total: bool = False

    def render(self, plain: bool = False, limited: bool = True) -> str:
        """Return the SQL: for plain MariaDB or skyshard, with or without the outermost LIMIT."""
        if self.kind == "area":
            return self.parts[1 if plain else 0]
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
            elif part.kind == "tail" and not limited:
                texts.append(replace(part, parts=part.parts[:-1]).render(plain))
            elif part.kind != "limit" or limited:
                texts.append(part.render(plain))
        return self.sep.join(text for text in texts if text or not self.sep)

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes inside, outermost first."""
        for part in self.parts:
            if isinstance(part, Node):
                yield part
                yield from part.nodes()

    def tail(self) -> Node | None:
        """Return a query's own ORDER BY and LIMIT."""
        return next((part for part in self.parts if isinstance(part, Node) and part.kind == "tail"), None)

    def smaller(self) -> Iterator[Node]:
        """Yield trees with one thing less, big cuts first."""
        if self.kind == "query":
            yield from (node for node in self.nodes() if node.kind == "query")
        elif self.kind in ("opt", "tail", "limit") and self.parts:
            yield Node("text")
        elif self.kind == "list" and len(self.parts) > 1:
            for at in range(len(self.parts)):
                yield replace(self, parts=self.parts[:at] + self.parts[at + 1 :])
        elif self.kind == "expr":
            inside = [node for node in self.nodes() if node.kind == "expr" and node.type == self.type]
            yield from inside
            constant = CONSTANTS.get(self.type[0])
            if constant and any(isinstance(part, Node) for part in self.parts):
                yield Node("expr", (constant,), self.type)
        for at, part in enumerate(self.parts):
            if isinstance(part, Node):
                for less in part.smaller():
                    yield replace(self, parts=(*self.parts[:at], less, *self.parts[at + 1 :]))


def text(*parts: str | Node) -> Node:
    """Return parts that stay together."""
    return Node("text", parts)


def opt(*parts: str | Node) -> Node:
    """Return parts that may be left out."""
    return Node("opt", parts)


def listed(sep: str, parts: list) -> Node:
    """Return a list that may become shorter."""
    return Node("list", tuple(parts), sep=sep)


def expr(kind: str, *parts: str | Node) -> Node:
    """Return an expression of a type."""
    return Node("expr", parts, kind)


@dataclass(frozen=True, slots=True)
class Query:
    """A generated query and how its answers compare.

    Attributes
    ----------
    loose : bool
        Texts that are equal in their collation may stand for each other.
    approx : bool
        DOUBLE values come from sums whose order is free.
    stored : bool
        DOUBLE values of fixed decimals (ROUND) may have been rounded once more, where they were stored.
    shown : bool
        DOUBLE values of sums may differ by one in the last of a column's fixed decimals: they are rounded to be shown.
    scaled : bool
        DECIMAL values computed from averages may have been cut off at the average's scale.
    """

    root: Node
    loose: bool = False
    approx: bool = False
    stored: bool = False
    shown: bool = False
    scaled: bool = False

    def cut(self, root: Node) -> Query:
        """Return the query with another tree."""
        return replace(self, root=root)
