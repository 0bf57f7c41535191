"""ORDER BY and LIMIT, and what they decide about the order of rows."""

from __future__ import annotations

from tests.fuzz.expressions import Col
from tests.fuzz.tree import Node, text
from tests.fuzz.where import Where


class Tails(Where):
    """Makes ORDER BY and LIMIT."""

    def _tail(
        self, named: list[tuple[str, str]], cols: list[Col], unique: tuple[str, ...], inner: bool
    ) -> Node:
        rng = self.rng
        hidden = not {name.lower() for name, _ in named}.isdisjoint(key.lower() for key in unique)
        if rng.random() < (0.75 if inner else 0.4) or (inner and hidden):
            return Node("tail")
        keys: list[int | str] = []
        parts: list[str | Node] = []
        leading = True
        for _ in range(rng.choice((0, 1, 1, 2))):
            down = rng.choice(("", "", " DESC", " ASC"))
            roll = rng.random()
            if named and roll < 0.4:
                at = rng.randrange(len(named))
                parts.append(f"{at + 1}{down}")
                if leading:
                    keys.append(at)
            else:
                kind = rng.choice(sorted({c.type for c in cols if len(c.type) == 1} | {"I"}))
                parts.append(text(self.make.make(kind, cols, 1 if roll < 0.8 else 0), down))
                leading = False
        total = (inner or not parts or rng.random() < 0.6) and not hidden
        if total:
            parts += [f"{key}{rng.choice(('', ' DESC'))}" for key in unique]
        return self._tail_node(parts, tuple(keys), total, inner)

    def _tail_node(
        self, parts: list[str | Node], keys: tuple[int | str, ...], total: bool, inner: bool
    ) -> Node:
        rng = self.rng
        order: list[str | Node] = [" ORDER BY "]
        for at, part in enumerate(parts):
            order += [", ", part] if at else [part]
        limit = Node("limit")
        if rng.random() < 0.5 or inner:
            count, skip = rng.choice((1, 2, 5, 10, 50, 1000)), rng.choice((0, 1, 3, 7))
            limit = Node(
                "limit",
                (
                    rng.choice(
                        (f" LIMIT {count}", f" LIMIT {count} OFFSET {skip}", f" LIMIT {skip}, {count}")
                    ),
                ),
            )
        if not parts:
            order = []
        return Node("tail", (*order, limit), keys=keys, total=total)

    def _positions(self, width: int, inner: bool) -> Node:
        """Return an ORDER BY of positions; all of them make it total."""
        rng = self.rng
        if rng.random() < (0.75 if inner else 0.4):
            return Node("tail")
        order = list(range(width))
        rng.shuffle(order)
        if not inner and rng.random() < 0.3:
            order = order[: rng.randint(1, width)]
        parts: list[str | Node] = [f"{at + 1}{rng.choice(('', ' DESC'))}" for at in order]
        return self._tail_node(parts, tuple(order), len(order) == width, inner)
