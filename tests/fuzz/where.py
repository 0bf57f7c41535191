"""WHERE: conditions, regions, and keys that name chunks."""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.areas import region
from tests.fuzz.expressions import Col
from tests.fuzz.inner_queries import InnerQueries
from tests.fuzz.sources import Source
from tests.fuzz.tree import Node, listed, opt, text


class Where(InnerQueries):
    """Makes WHERE clauses."""

    def _where(self, source: Source, outer: list[Col], depth: int) -> Node:
        rng = self.rng
        conjuncts = [text(item) for item in source.where]
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            conjuncts.append(text("(", self.make.condition([*source.cols, *outer], depth), ")"))
        if source.positioned and rng.random() < 0.25:
            conjuncts.append(region(rng, source))
        if rng.random() < 0.12:
            keys = [col for col in source.cols if col.role and col.type == "I"]
            if keys:
                col = rng.choice(keys).sql
                conjuncts.append(text(rng.choice((
                    f"{col} = {rng.randint(1, 420)}", f"{col} IN ({rng.randint(1, 90)}, {rng.randint(90, 420)}, NULL)",
                    f"{col} BETWEEN {rng.randint(1, 200)} AND {rng.randint(100, 420)}", f"{col} < {rng.randint(2, 50)}",
                    f"({col} = {rng.randint(1, 420)} OR {col} = {rng.randint(1, 420)})", f"{col} = '{rng.randint(1, 99)}'",
                    f"{col} < {rng.randint(1, 99)}.5", f"{rng.randint(300, 400)} <= {col}",
                ))))  # fmt: skip
        return text(" WHERE ", listed(" AND ", conjuncts)) if conjuncts else text()

    def _select(self, head: str, items: Node, source: Source, depth: int, *rest: Node) -> Node:
        where = self._where(source, [], depth)
        if "SELECT " in where.render():
            items = _joined(items)
        return Node("query", (f"SELECT {head}", items, " FROM ", source.node, opt(where), *rest))


def _joined(node: Node) -> Node:
    """Return what is selected from rows that MariaDB may join with those of a subquery.

    Its JSON_ARRAYAGG of texts from joined rows may come as latin1.
    """
    parts = [_joined(part) if isinstance(part, Node) else part for part in node.parts]
    if parts[:1] == ["JSON_ARRAYAGG("] and isinstance(parts[1], Node) and parts[1].type == "S":
        parts[0] = "GROUP_CONCAT("
    return replace(node, parts=tuple(parts))
