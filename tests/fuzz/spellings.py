"""Queries in which one column goes by many names, and a name may mean several things.

A column is written bare, with its table or its database, in any letters' case; it is united by USING, or of both tables
of a join; an alias is another column's name, and a window may mean either; an inner query aggregates the outer one's column.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.fuzz.sources import DATABASE
from tests.fuzz.tree import Node, Query, listed, opt, text


@dataclass(frozen=True, slots=True)
class _From:
    """A FROM clause: WITH before it, its text, columns by the alias of their table, a key of its rows."""

    sql: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[tuple[str, str], ...]
    before: str = ""
    derived: bool = False


_STAR = tuple(("s", name) for name in ("starId", "g", "small", "kind"))
_VISIT = tuple(("v", name) for name in ("visitId", "starId", "band"))
_OF_Q = tuple(("q", name) for name in ("visitId", "starId", "g", "small", "kind", "band"))
_ONE_STAR = (*_STAR, ("v", "visitId"), ("v", "band"))  # the other table's starId need not be NULL in totals
_STARS = (("s", "starId"),)
_VISITS = (("v", "visitId"),)
_ROWS_OF_Q = (("q", "visitId"),)
_FROM = (
    _From("Star s", _STAR, _STARS),
    _From("Star AS s", _STAR, _STARS),
    _From("Star s JOIN Visit v ON s.starId = v.starId", (*_STAR, *_VISIT), _VISITS),
    _From("Star s JOIN Visit v USING (starId)", _ONE_STAR, _VISITS),
    _From("Visit v NATURAL JOIN Star s", (*_STAR[1:], *_VISIT), _VISITS),
    _From("Star s LEFT JOIN Visit v USING (starId)", _ONE_STAR, (*_STARS, *_VISITS)),
    _From("Visit v RIGHT JOIN Star s USING (starId)", _ONE_STAR, (*_STARS, *_VISITS)),
    _From("(SELECT * FROM Visit JOIN Star USING (starId)) q", _OF_Q, _ROWS_OF_Q, derived=True),
    _From("(SELECT * FROM Star NATURAL JOIN Visit) q", _OF_Q, _ROWS_OF_Q, derived=True),
    _From("(SELECT * FROM Star RIGHT JOIN Visit USING (starId)) q", _OF_Q, _ROWS_OF_Q, derived=True),
    _From("Q AS q", _OF_Q, _ROWS_OF_Q, "WITH q AS (SELECT * FROM Visit JOIN Star USING (starId)) ", True),
    _From(
        "(SELECT Visit.starId, MIN(Star.g) AS g, COUNT(*) AS c FROM Star LEFT JOIN Visit USING (starId) GROUP BY starId) q",
        (("q", "starId"), ("q", "g"), ("q", "c")),
        (("q", "starId"),),
        derived=True,
    ),
    _From("VISIT AS v", _VISIT, _VISITS, "WITH visit AS (SELECT * FROM Visit WHERE flux > 0) "),
    _From("star s", _STAR, _STARS, "WITH Star AS (SELECT * FROM Star WHERE g > 1) "),
)


class Spellings:
    """Makes one query."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.source = rng.choice(_FROM)

    def query(self) -> Query:
        """Return a whole query."""
        roll = self.rng.random()
        if self.source.derived and roll < 0.25:
            return self._everything()
        if roll < 0.6:
            return self._grouped()
        if roll < 0.72:
            return self._windowed()
        return self._distinct() if roll < 0.88 else self._outer_aggregate()

    def _written(self, column: tuple[str, str]) -> str:
        """Return a column in some spelling."""
        rng, (table, name) = self.rng, column
        name = rng.choice((name, name, name.upper(), name.lower(), f"`{name.capitalize()}`"))
        named = not self.source.before and not self.source.derived  # a derived table is in no database
        return rng.choice(
            (
                name,
                name,
                f"{table}.{name}",
                f"`{table}`.{name}",
                f"{DATABASE}.{table}.{name}" if named else name,
            )
        )

    def _root(self, items: list[str | Node], *rest: Node) -> Query:
        head, source = self.source.before, self.source
        return Query(Node("query", (f"{head}SELECT ", listed(", ", items), f" FROM {source.sql}", *rest)))

    def _tail(self, parts: list[str], keys: tuple[int, ...], total: bool) -> Node:
        limit = self.rng.choice(("", "", f" LIMIT {self.rng.choice((1, 5, 40))}")) if total else ""
        ends = Node("limit", (limit,) if limit else ())
        return Node("tail", (" ORDER BY " + ", ".join(parts), ends), keys=keys, total=total)

    def _keys(self, most: int) -> list[tuple[str, str]]:
        return self.rng.sample(self.source.columns, self.rng.randint(1, most))

    def _everything(self) -> Query:
        """Return all columns of a derived table whose own are those of a join with common columns."""
        rng = self.rng
        star = rng.choice(("*", "q.*", "DISTINCT *"))
        order = [self._written(self.source.key[0]) + rng.choice(("", " DESC"))]
        return self._root([star], self._tail(order, (), True) if rng.random() < 0.8 else Node("tail"))

    def _aggregate(self) -> str:
        rng = self.rng
        number = self._written(rng.choice([c for c in self.source.columns if c[1] not in ("kind", "band")]))
        any_one = self._written(rng.choice(self.source.columns))
        mark = rng.choice((";", "", " and "))
        words = f"SEPARATOR '{mark}'"
        return rng.choice((
            "COUNT(*)", f"COUNT({any_one})", f"COUNT(DISTINCT {any_one})", f"SUM({number})", f"MAX({number})", f"AVG({number})",
            f"COUNT(DISTINCT {any_one}, {number})", f"LENGTH(GROUP_CONCAT(DISTINCT {number} {words}))",
            f"GROUP_CONCAT(DISTINCT {number} ORDER BY {number} {words})", f"SUM(DISTINCT {number})",
        ))  # fmt: skip

    def _grouped(self) -> Query:
        rng, keys = self.rng, self._keys(2)
        items: list[str | Node] = []
        names: list[str] = []
        for number, key in enumerate(keys):
            item, name = self._written(key), ""
            if rng.random() < 0.3:  # whatever it names, the value is that of the group
                name = rng.choice((*[f"c{number}"] * 7, key[1], key[1].upper()))
                item = rng.choice((item, f"{item} + 1", f"COALESCE({item}, 'none')")) + f" AS {name}"
            items.append(item)
            names.append(name)
        items += [text(f"{self._aggregate()} AS a{number}") for number in range(rng.randint(1, 2))]
        by = [
            rng.choice((self._written(key), self._written(key), str(at + 1), name or self._written(key)))
            for at, (key, name) in enumerate(zip(keys, names, strict=True))
        ]
        bound = rng.choice(("1", "3", "'g'"))
        having = [f"{self._written(keys[0])} IS {rng.choice(('', 'NOT '))}NULL", f"{self._aggregate()} IS NOT NULL",
                  f"{self._written(keys[-1])} > {bound}"]  # fmt: skip
        rollup = rng.random() < 0.35
        if rollup:  # of a column that is NOT NULL, MariaDB thinks so in totals, too
            having = having[1:]
        condition = opt(f" HAVING {rng.choice(having)}") if rng.random() < 0.4 else text()
        group = text(f" GROUP BY {', '.join(by)}")
        if rollup:
            return self._root(items, group, opt(" WITH ROLLUP"), condition, Node("tail"))
        order = [
            rng.choice((self._written(key), name or self._written(key)))
            for key, name in zip(keys, names, strict=True)
        ]
        total = not any(names)
        tail = (
            self._tail(order, tuple(range(len(keys))) if total else (), total)
            if rng.random() < 0.6
            else Node("tail")
        )
        return self._root(items, group, condition, tail)

    def _distinct(self) -> Query:
        """Return different rows, ordered by what is selected, or by what is not."""
        rng, keys = self.rng, self._keys(2)
        items: list[str | Node] = [self._written(key) for key in keys]
        items[0] = f"DISTINCT {items[0]}"
        if rng.random() < 0.5:
            return self._root(
                items, self._tail([self._written(key) for key in keys], tuple(range(len(keys))), True)
            )
        others = [self._written(rng.choice(self.source.columns)) for _ in range(rng.randint(1, 2))]
        return self._root(items, self._tail(others, (), False))

    def _windowed(self) -> Query:
        """Return rows with a window that names columns and aliases; equal ones are peers, whatever their order."""
        rng = self.rng
        numbers = [column for column in self.source.columns if column[1] not in ("kind", "band")]
        alias = rng.choice(("c0", "c0", *(name for _, name in numbers)))
        value = rng.choice(
            (f"-{self._written(rng.choice(numbers))}", f"{self._written(rng.choice(numbers))} % 3")
        )
        named = rng.choice((alias, f"`{alias}`", alias.upper()))
        part = rng.choice(("", *[f"PARTITION BY {self._written(rng.choice(self.source.columns))}"] * 3,
                           f"PARTITION BY {named}", f"PARTITION BY {self._written(numbers[0])}, {named}"))  # fmt: skip
        order = rng.choice((named, named, self._written(rng.choice(numbers)), f"{named} + 1", f"-{named}"))
        window = f"({part} ORDER BY {order}{rng.choice(('', ' DESC'))})"
        call = rng.choice(
            ("RANK()", "DENSE_RANK()", "COUNT(*)", f"MAX({self._written(rng.choice(numbers))})")
        )
        over, behind = (window, "") if rng.random() < 0.7 else ("w", f" WINDOW w AS {window}")
        keys = [f"{table}.{name} AS k{at}" for at, (table, name) in enumerate(self.source.key)]
        return self._root(
            [*keys, f"{value} AS {alias}", f"{call} OVER {over} AS r"], text(behind), Node("tail")
        )

    def _outer_aggregate(self) -> Query:
        """Return an aggregate of the query's own columns, in a query inside it."""
        rng, key = self.rng, self._written(rng_key := self.rng.choice(self.source.columns))
        numbers = [c for c in self.source.columns if c[1] in ("g", "small", "starId", "visitId")]
        table, name = rng.choice(numbers)
        call = f"{rng.choice(('MAX', 'MIN', 'COUNT'))}({table}.{name})"
        inner = rng.choice((
            f"(SELECT v FROM Lut WHERE n = {call})", f"(SELECT MAX(v) FROM Lut WHERE n < {call} % 5)",
            f"(SELECT COUNT(*) FROM Lut WHERE n < {call})", f"EXISTS (SELECT 1 FROM Lut WHERE n = {call})",
        ))  # fmt: skip
        if rng_key not in self.source.key and rng.random() < 0.6:
            having = opt(f" HAVING {inner} IS NOT NULL") if rng.random() < 0.3 else text()
            return self._root([key, inner], text(f" GROUP BY {self._written(rng_key)}"), having, Node("tail"))
        return self._root([inner], Node("tail"))
