"""Random SELECTs over the handmade catalogue: a grammar of what users write, and of what they rarely do.

Every query is made from its seed and index alone. Its tree knows how answers are to be compared: what
the order of rows decides, which texts and which last digits are free.
"""

from __future__ import annotations

import random
from dataclasses import replace

from tests.fuzz import ctes
from tests.fuzz.base import EXACT, Made
from tests.fuzz.expressions import Col
from tests.fuzz.sources import KEYS, Source, whole_key
from tests.fuzz.spellings import Spellings
from tests.fuzz.tree import Node, Query, listed, text
from tests.fuzz.windows import Windows


class Generator(Windows):
    """Makes one query."""

    def query(self) -> Query:
        """Return a whole query."""
        root, _ = self._any(2, [], inner=False)
        roll = self.rng.random()
        if roll < 0.08:
            root = self._with() if roll < 0.06 else self._recursive()
        return Query(root, self.loose, self.approx)

    def _any(self, depth: int, outer: list[Col], inner: bool) -> Made:
        roll = self.rng.random()
        if roll < 0.1:
            return self._set_operation(depth, inner)
        source = self.source(depth)
        if roll < 0.45:
            return self._rows(source, depth, inner)
        if roll < 0.55:
            return self._distinct(source, depth, inner)
        if roll < 0.9:
            return self._grouped(source, depth, inner)
        return self._windows(source, depth, inner)

    def _items(self, cols: list[Col], depth: int, inner: bool, types: list[str] | None = None) -> Made:
        rng = self.rng
        wanted = types or [
            rng.choice(
                rng.choice([[c.type for c in cols if len(c.type) == 1] or ["I"], sorted(EXACT), ["P"]])
            )
            for _ in range(rng.randint(1, 5))
        ]
        parts, named = [], []
        for kind in wanted:
            keys = [col for col in cols if col.role and col.type == kind]
            alias = self._name()
            if keys and inner and rng.random() < 0.6:
                col = rng.choice(keys)
                if col.role in {name for name, _ in named}:
                    parts.append(text(col.sql, f" AS {alias}"))
                else:
                    parts.append(text(col.sql))
                    alias = col.role
            else:
                item = self.make.make(kind, cols, depth)
                if not inner and rng.random() < 0.04:
                    alias = rng.choice(("g", "kind", "flux", "starId"))
                parts.append(text(item, f" AS {alias}") if inner or rng.random() < 0.5 else item)
            named.append((alias, "I" if kind == "P" else kind))
        return listed(", ", parts), named

    def _rows(self, source: Source, depth: int, inner: bool) -> Made:
        rng = self.rng
        cols = list(source.cols)
        if not inner and rng.random() < 0.1:
            items, named = text(rng.choice(("*", "*", "*, 1 + 1"))), []
            if (
                " USING " in source.node.render()
            ):  # of such a star MariaDB sorts rows that NOT IN should have kept out
                depth = 0
        else:
            self.make.divides = not inner  # the digits of a quotient that is stored on the way are free
            items, named = self._items(cols, rng.choice((0, 1, 2)), inner)
            self.make.divides = False
        tail = self._tail(named, cols, source.unique, inner)
        return self._select("", items, source, depth, tail), named

    def _distinct(self, source: Source, depth: int, inner: bool) -> Made:
        items, named = self._items(list(source.cols), 1, inner)
        col = self.rng.choice(source.cols)  # MariaDB forgets the OFFSET of SELECT DISTINCT of constants
        items, named = replace(items, parts=(*items.parts, col.sql)), [*named, (self._name(), col.type)]
        if inner:
            items = replace(items, parts=(*items.parts[:-1], f"{col.sql} AS {named[-1][0]}"))
        named = [(name, self._free(kind)) for name, kind in named]
        tail = self._positions(len(named), inner)
        return self._select("DISTINCT ", items, source, depth, tail), named

    def _set_operation(self, depth: int, inner: bool) -> Made:
        rng = self.rng
        types = [rng.choice("IIINFSEDU") for _ in range(rng.randint(1, 3))]
        sides: list[str | Node] = []
        named: list[tuple[str, str]] = []
        operators = [
            rng.choice(("UNION", "UNION ALL", "UNION", "INTERSECT", "EXCEPT"))
            for _ in range(rng.choice((1, 1, 2)))
        ]
        for at in range(len(operators) + 1):
            source = self.source(0) if at else self.source(depth - 1)
            items, names = self._items(list(source.cols), 1, inner, types)
            side = self._select("", items, source, 1)
            sides.append(text("(", side, ")") if rng.random() < 0.2 else side)
            if at < len(operators):
                sides.append(f" {operators[at]} ")
            named = named or names
        self.loose = self.loose or not {"S", "E", "T"}.isdisjoint(types)
        named = [(name, self._free(kind)) for name, kind in named]
        return Node("query", (*sides, self._positions(len(types), inner))), named

    def _with(self) -> Node:
        rng = self.rng
        self.inner = max(self.inner, 1)
        body, types = self._any(1, [], inner=True)
        usable = [(name, kind) for name, kind in types if kind in EXACT]
        if not usable:
            body, usable = (
                Node("query", ("SELECT starId, kind, g FROM Star WHERE g > 1",)),
                [("starId", "I"), ("kind", "E"), ("g", "I")],
            )
            types = usable
        cols = tuple(Col(f"q.{name}", kind, name if name in KEYS else "") for name, kind in usable)
        self.loose = self.loose or any(kind[0] in "SJ" for _, kind in types)
        unique = whole_key("q", types)
        node = text("q")
        if rng.random() < 0.3:
            name = usable[0][0]
            node = text(f"q JOIN q AS r ON q.{name} = r.{name}")
            unique = (*unique, *whole_key("r", types))
        source = Source(node, cols, unique)
        make = rng.choice((self._rows, self._grouped, self._distinct))
        outer, _ = make(source, 1, False)
        return Node("query", ("WITH q AS (", body, ") ", *outer.parts))

    def _recursive(self) -> Node:
        """Return a query that reads one which reads itself, perhaps beside a table."""
        rng, body = self.rng, ctes.recursive(self.rng)
        cols = [Col(f"q.{name}", kind, name if name in KEYS else "") for name, kind in body.types]
        keys = tuple(f"q.{name}" for name in body.key)
        node, other = text("q"), self._single()
        if rng.random() < 0.6 and all("." in col.sql for col in other.cols):
            pairs = [
                (mine, theirs) for mine in cols for theirs in other.cols
                if mine.type == theirs.type == "I" and (mine.role == theirs.role or rng.random() < 0.2)
            ]  # fmt: skip
            if pairs:
                mine, theirs = rng.choice(pairs)
                side = rng.choice(("JOIN", "LEFT JOIN"))
                node = text("q", f" {side} ", other.node, f" ON {mine.sql} = {theirs.sql}")
                cols += [replace(col, nullable=True) for col in other.cols]
                keys = (*keys, *other.unique)
        make = rng.choice((self._rows, self._grouped, self._distinct))
        outer, _ = make(Source(node, tuple(cols), keys), 1, False)
        return Node("query", (f"WITH RECURSIVE q AS ({body.sql}) ", *outer.parts))


_SPELLINGS = 10
"""One query of so many is about names alone."""


def generate(seed: int, index: int) -> Query:
    """Return the query of a seed and index."""
    rng = random.Random(f"{seed}:{index}")
    return Spellings(rng).query() if index % _SPELLINGS == 3 else Generator(rng).query()
