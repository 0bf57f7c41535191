"""Window functions."""

from __future__ import annotations

from tests.fuzz.aggregates import Aggregates
from tests.fuzz.base import Made
from tests.fuzz.expressions import Col
from tests.fuzz.sources import Source
from tests.fuzz.tree import Node, listed, opt, text


class Windows(Aggregates):
    """Makes SELECTs with window functions."""

    def _windows(self, source: Source, depth: int, inner: bool) -> Made:
        rng = self.rng
        cols = list(source.cols)
        items, named = [], []
        for key in source.unique[:1]:
            items.append(text(key, " AS k"))
            named.append(("k", "J"))
        count = rng.randint(1, 3)
        for number in range(count):
            call, kind = self._window(source, cols, count > 1)
            items.append(text(call, f" AS w{number}"))
            named.append((f"w{number}", kind))
        tail = Node("tail") if inner else self._tail([], cols, source.unique, inner)
        return self._select("", listed(", ", items), source, depth, tail), named

    def _window(self, source: Source, cols: list[Col], several: bool) -> tuple[Node, str]:
        rng = self.rng
        total = " ORDER BY " + ", ".join(key + rng.choice(("", " DESC")) for key in source.unique)
        roles = [col for col in cols if col.role]
        part = text()
        if rng.random() < 0.75:
            pick = rng.choice(roles) if roles and rng.random() < 0.5 else rng.choice(cols)
            part = opt(f"PARTITION BY {pick.sql}")
        roll = rng.random()
        if roll < 0.35:
            value = self.make.leaf(rng.choice("INFSED"), cols)
            call = rng.choice(
                ("LAG({})", "LEAD({}, 2)", "FIRST_VALUE({})", "LAST_VALUE({})", "NTH_VALUE({}, 2)")
            )
            before, after = call.split("{}")
            return text(before, value, after, " OVER (", part, total, ")"), "J"
        if roll < 0.6:
            # beside another window, MariaDB's RANK may take equal rows for different ones
            ranks = () if several else ("RANK()", "DENSE_RANK()", "CUME_DIST()", "PERCENT_RANK()")
            call = rng.choice(("ROW_NUMBER()", "NTILE(3)", *ranks))
            order = total if call[:3] in ("ROW", "NTI") else f" ORDER BY {rng.choice(cols).sql}"
            return text(f"{call} OVER (", part, order, ")"), "I" if call[0] in "RDN" else "F"
        kind = rng.choice("INF")
        call = rng.choice(("SUM", "COUNT", "AVG", "MIN", "MAX"))
        self.approx = self.approx or kind == "F"
        frame = rng.choice(
            (
                "",
                "",
                " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
                " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
            )
        )
        order = total if frame or rng.random() < 0.5 else ""
        return text(
            f"{call}(", self.make.leaf(kind, cols), ") OVER (", part, order, frame, ")"
        ), "J" if kind == "F" else "N"
