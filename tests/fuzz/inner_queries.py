"""Queries inside expressions: scalar ones, IN, EXISTS, ANY and ALL, correlated or not."""

from __future__ import annotations

import random

from tests.fuzz.expressions import LITERALS, Col, Expressions
from tests.fuzz.from_clause import FromClause
from tests.fuzz.tree import Node, expr, listed, text


class InnerQueries(FromClause):
    """Makes queries inside expressions."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.make = Expressions(rng, self._subquery)

    def _subquery(self, what: str, cols: list[Col], depth: int) -> Node | None:
        rng = self.rng
        if self.inner <= 0:
            return None
        self.inner -= 1
        source = self._single() if rng.random() < 0.7 else self._joined()
        own = list(source.cols)
        conjuncts = [text(item) for item in source.where]
        linked = [(a, b) for a in cols for b in own if a.role and a.role == b.role and len(a.type) == 1]
        roll = rng.random()
        if linked and roll < 0.45:
            outer, mine = rng.choice(linked)
            conjuncts.append(
                text(f"{mine.sql} = {outer.sql}" if rng.random() < 0.8 else f"{outer.sql} = {mine.sql}")
            )
        elif cols and roll < 0.6:
            outer = rng.choice(cols)
            same = [col for col in own if col.type == outer.type]
            if same:
                conjuncts.append(text(f"{rng.choice(same).sql} {rng.choice(('=', '=', '<'))} {outer.sql}"))
        if rng.random() < 0.6:
            conjuncts.append(text("(", self.make.condition(own, 1), ")"))
        where = text(" WHERE ", listed(" AND ", conjuncts)) if conjuncts else text()
        body = text(" FROM ", source.node, where)
        if what != "condition":
            return self._scalar(what.split()[1], own, body)
        return self._condition(cols, own, body, linked)

    def _scalar(self, kind: str, own: list[Col], body: Node) -> Node:
        rng = self.rng
        same = [col for col in own if col.type == kind]
        if kind == "I" and (not same or rng.random() < 0.5):
            return expr(kind, "(SELECT COUNT(*)", body, ")")
        if not same or kind in "SK":
            return expr(kind, rng.choice(LITERALS[kind]))
        return expr(kind, f"(SELECT {rng.choice(('MIN', 'MAX'))}({rng.choice(same).sql})", body, ")")

    def _condition(
        self, cols: list[Col], own: list[Col], body: Node, linked: list[tuple[Col, Col]]
    ) -> Node | None:
        rng = self.rng
        pairs = [(a, b) for a in cols for b in own if a.type == b.type and len(a.type) == 1]
        if linked and rng.random() < 0.5:
            pairs = linked
        roll = rng.random()
        if not pairs or roll < 0.3:
            return expr("P", rng.choice(("", "NOT ")), "EXISTS (SELECT 1", body, ")")
        a, b = rng.choice(pairs)
        if roll < 0.6:
            return expr("P", f"{a.sql} {rng.choice(('IN', 'IN', 'NOT IN'))} (SELECT {b.sql}", body, ")")
        compare = rng.choice(("=", "<", ">=", "<>"))
        if b.nullable and compare in ("<", ">="):
            compare = (
                "="  # MariaDB's own ANY and ALL of other comparisons forget NULLs, row by row, in some joins
            )
        if roll < 0.7:
            word = rng.choice(("ANY", "ALL", "SOME"))
            if b.nullable and compare == "=" and word == "ALL":  # NULL is 0 where MariaDB stores or groups it
                word = "ANY"
            return expr("P", f"{a.sql} {compare} {word} (SELECT {b.sql}", body, ")")
        if roll < 0.78:
            c, d = rng.choice(pairs)
            return expr(
                "P", f"({a.sql}, {c.sql}) {rng.choice(('IN', 'NOT IN'))} (SELECT {b.sql}, {d.sql}", body, ")"
            )
        if b.type in "SK":
            return expr("P", "(SELECT COUNT(*)", body, f") {compare} {rng.randint(0, 4)}")
        return expr("P", f"{a.sql} {compare} (SELECT {rng.choice(('MIN', 'MAX'))}({b.sql})", body, ")")
