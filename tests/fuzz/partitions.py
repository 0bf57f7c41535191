"""Queries that are the sum of their parts, so that skyshard can be checked against itself.

A query's rows are those where a condition is true, those where it is false, and those where it is NULL;
and those of all regions that the sky is cut into. A region that pruned a chunk too many loses rows in
one of the parts, whatever the plain server says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal

from tests.fuzz.areas import region, separation
from tests.fuzz.compare import Answer, Row, Value, fold, unpaired
from tests.fuzz.generate import Generator
from tests.fuzz.sources import Source
from tests.fuzz.tree import Node, Query, text


@dataclass(frozen=True, slots=True)
class Partition:
    """A query and its parts.

    Attributes
    ----------
    kind : str
        rows: the parts' rows together; distinct: without repetitions; counts: one row, put together
        column by column (a count or sum is added, a minimum or maximum taken).
    steps : tuple of str
        Of counts: what puts each column together, sum, min or max.
    """

    whole: Query
    parts: tuple[str, ...]
    plain_parts: tuple[str, ...]
    kind: str
    steps: tuple[str, ...] = ()

    def difference(self, whole: Answer, parts: list[Answer]) -> str | None:
        """Return what the whole and the sum of its parts differ in, or None; errors are none."""
        if whole.errno or any(part.errno for part in parts):
            failed = [part for part in parts if part.errno and part.errno != whole.errno]
            return None if not failed or whole.errno else f"error {failed[0].errno} {failed[0].message}"
        together: list[Row] = [row for part in parts for row in part.rows]
        wanted = list(whole.rows)
        if self.kind == "counts":
            together, wanted = [self._total(together)], [self._total(wanted)]
        elif self.kind == "distinct":
            return self._set_differs(wanted, together, max(len(part.rows) for part in parts))
        extra, lost = unpaired(replace(self.whole, stored=True), wanted, together)
        if not extra and not lost:
            return None
        return f"{len(extra)} rows are in no part, {extra[:2]}; {len(lost)} only in parts, {lost[:2]}"

    def _set_differs(self, whole: list[Row], together: list[Row], most: int) -> str | None:
        """Compare distinct rows: any of several equal texts may stand in the whole and in each part."""
        if not most <= len(whole) <= len(together):
            return f"{len(whole)} rows, the largest part has {most}, all parts {len(together)}"
        folded = [{self._key(row) for row in rows} for rows in (whole, together)]
        odd = list(folded[0] ^ folded[1])
        return f"{len(odd)} rows are only in the whole or only in parts: {odd[:2]}" if odd else None

    def _key(self, row: Row) -> Row:
        return tuple(
            fold(value) if isinstance(value, bytes) else _stored(value) if isinstance(value, float) else value
            for value in row
        )

    def _total(self, rows: list[Row]) -> Row:
        """Return one row from those of all parts; its values are integers in text, or DECIMAL."""
        totals: list[Value] = []
        for at, step in enumerate(self.steps):
            found = [row[at] for row in rows]
            values = [
                Decimal(v.decode()) if isinstance(v, bytes) else Decimal(v) for v in found if v is not None
            ]
            put = {"sum": sum, "min": min, "max": max}[step]
            totals.append(put(values) if values else None)
        return tuple(totals)


def _stored(value: float) -> float:
    """Return a number without its last digits: a temporary table of ROUND(x, 2) changes them (docs/sql.md)."""
    return float(f"{value:.14g}")


class Partitioner(Generator):
    """Makes one query with its parts."""

    def partition(self) -> Partition:
        """Return it."""
        rng = self.rng
        source = self.source(1)
        cols = list(source.cols)
        base = self._where(source, [], 1)
        conditions = (
            self._regions(source) if source.positioned and rng.random() < 0.5 else self._truths(source)
        )
        kind = rng.choice(("rows", "rows", "rows", "distinct", "counts", "counts"))
        steps: tuple[str, ...] = ()
        if kind == "counts":
            integers = [col for col in cols if col.type == "I"] or cols
            kinds = rng.choices(("COUNT", "SUM", "MIN", "MAX"), k=rng.randint(1, 4))
            picked = [(name, rng.choice(integers if name != "COUNT" else cols).sql) for name in kinds]
            if any(col.type != "I" for col in integers):
                picked = [("COUNT", "*")]
            head = ", ".join(f"{name}({col})" for name, col in picked)
            steps = tuple({"MIN": "min", "MAX": "max"}.get(name, "sum") for name, _ in picked)
        else:
            items, _ = self._items(cols, 1, False)
            head = ("DISTINCT " if kind == "distinct" else "") + items.render()
        loose = self.loose or kind == "distinct"
        front = f"SELECT {head} FROM "
        whole = Node("query", (front, source.node, base))
        joint = " AND " if base.render() else " WHERE "
        trees = [text(front, source.node, base, joint, "(", item, ")") for item in conditions]
        parts, plain = ([tree.render(side) for tree in trees] for side in (False, True))
        return Partition(Query(whole, loose, self.approx), tuple(parts), tuple(plain), kind, steps)

    def _truths(self, source: Source) -> list[Node]:
        item = self.make.condition(list(source.cols), 2)
        return [item, text("NOT (", item, ")"), text("(", item, ") IS NULL")]

    def _regions(self, source: Source) -> list[Node]:
        """Return conditions that cut the sky into pieces: positions are never NULL."""
        rng = self.rng
        lon, lat = rng.choice(source.positioned)
        roll = rng.random()
        if roll < 0.4:
            item = region(rng, source)
            if "qserv_areaspec" not in item.render():
                return [item, text("NOT ", item)]
        if roll < 0.7:
            center = (f"{round(rng.uniform(0, 360), 3)}", f"{round(rng.uniform(-89, 89), 3)}")
            near, far = sorted((round(rng.uniform(0, 30), 3), round(rng.uniform(5, 120), 3)))
            call = f"scisql_angSep({lon}, {lat}, {center[0]}, {center[1]})"
            apart = Node("area", (call, separation((lon, lat), center)))
            return [
                text(apart, f" < {near}"),
                text(apart, f" >= {near} AND ", apart, f" < {far}"),
                text(apart, f" >= {far}"),
            ]
        east, north = round(rng.uniform(0, 360), 3), round(rng.uniform(-60, 60), 3)
        return [
            text(f"{lon} {side} {east} AND {lat} {half} {north}")
            for side in ("<", ">=")
            for half in ("<=", ">")
        ]


def partition(seed: int, index: int) -> Partition:
    """Return the partition of a seed and index."""
    return Partitioner(random.Random(f"partition {seed}:{index}")).partition()


__all__ = ["Partition", "partition"]
