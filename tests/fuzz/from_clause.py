"""FROM: single tables, joins from a list and made up, near neighbours, and derived tables."""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.areas import separation
from tests.fuzz.base import EXACT, Base
from tests.fuzz.expressions import Col
from tests.fuzz.sources import (
    DATABASE,
    FEW,
    JOINS,
    KEYED,
    KEYS,
    MANY,
    POSITIONS,
    UNIQUE,
    Source,
    columns,
    whole_key,
)
from tests.fuzz.tree import Node, text


class FromClause(Base):
    """Makes FROM clauses."""

    def source(self, depth: int) -> Source:
        """Return a FROM clause."""
        roll = self.rng.random()
        if roll < 0.42:
            return self._single()
        if roll < 0.5:
            return self._chained()
        if roll < 0.8 or depth <= 0:
            return self._joined()
        if roll < 0.86:
            return self._near()
        return self._derived(depth)

    def _single(self) -> Source:
        rng = self.rng
        table = rng.choice(("Star", "Star", "Star", "Star", "Visit", "Visit", "Ref", "StarRef", "Lut"))
        if rng.random() < 0.35:
            name = table if rng.random() < 0.5 else f"{DATABASE}.{table}"
            cols, alias = columns(table, table, False, rng.random() < 0.3), table
        else:
            alias = self._alias()
            name, cols = self._named(table, alias), columns(table, alias, False)
        own = POSITIONS.get(table)
        unique = next(col.sql for col in cols if col.sql.endswith(UNIQUE[table]))
        return Source(
            text(name),
            tuple(cols),
            (unique,),
            (),
            ((f"{alias}.{own[0]}", f"{alias}.{own[1]}"),) if own else (),
        )

    def _joined(self) -> Source:
        tables, pattern, where, nullable = self.rng.choice(JOINS)
        aliases = [self._alias() for _ in tables]
        names = {str(i): alias for i, alias in enumerate(aliases)}
        sql = pattern
        for i, table in enumerate(tables):
            sql = sql.replace(f"{{T{i}}}", self._named(table, aliases[i]))
        for key, alias in names.items():
            sql, where = sql.replace(f"{{{key}}}", alias), where.replace(f"{{{key}}}", alias)
        cols = [col for i, table in enumerate(tables) for col in columns(table, aliases[i], i in nullable)]
        unique = tuple(f"{aliases[i]}.{UNIQUE[table]}" for i, table in enumerate(tables))
        positioned = tuple(
            (f"{aliases[i]}.{POSITIONS[table][0]}", f"{aliases[i]}.{POSITIONS[table][1]}")
            for i, table in enumerate(tables) if table in POSITIONS and i not in nullable
        )  # fmt: skip
        return Source(text(sql), tuple(cols), unique, (where,) if where else (), positioned)

    def _chained(self) -> Source:
        """Return three or four tables, each joined with some before it by one to three conditions."""
        rng = self.rng
        count = rng.choice((3, 3, 3, 4))
        tables = [rng.choice(("Star", "Star", "Visit", "Visit", "StarRef"))]
        aliases = [self._alias()]
        nullable = [False]
        parts: list[str | Node] = [self._named(tables[0], aliases[0])]
        wide = False
        for at in range(1, count):
            pairs: list[tuple[str, str]] = []
            while not pairs:
                table = rng.choice(
                    ("Star", "Star", "Visit", "Visit", "Visit", "StarRef", "Ref", "Lut", "Band")
                )
                pairs = [
                    (column, f"{aliases[i]}.{their}")
                    for column in KEYED[table] for other, their in FEW[column] for i in range(at) if tables[i] == other
                ]  # fmt: skip
            alias = self._alias()
            many = [(tables[i], aliases[i]) for i in range(at) if tables[i] in ("Star", "Visit")]
            if not wide and table in ("Star", "Visit") and many and rng.random() < 0.3:
                wide = True
                first = f"{alias}.{rng.choice([c for t, c in MANY if t == table])}"
                other, name = rng.choice(many)
                conditions = [f"{first} = {name}.{rng.choice([c for t, c in MANY if t == other])}"]
            else:
                column, their = rng.choice(pairs)
                conditions = [f"{alias}.{column} = {their}"]
            tables.append(table)
            aliases.append(alias)
            conditions += [self._tie(tables, aliases, at) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
            rng.shuffle(conditions)
            side = rng.choice(("JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN"))
            if side == "RIGHT JOIN":
                nullable = [True] * at
            nullable.append(side == "LEFT JOIN")
            parts += [
                f" {side} {self._named(table, alias)} ON ",
                text(" AND ".join(dict.fromkeys(conditions))),
            ]
        cols = [col for i, t in enumerate(tables) for col in columns(t, aliases[i], nullable[i])]
        where = (self._tie(tables, aliases, rng.randrange(1, count)),) if rng.random() < 0.15 else ()
        positioned = tuple(
            (f"{aliases[i]}.{POSITIONS[t][0]}", f"{aliases[i]}.{POSITIONS[t][1]}")
            for i, t in enumerate(tables) if t in POSITIONS and not nullable[i]
        )  # fmt: skip
        unique = tuple(f"{aliases[i]}.{UNIQUE[t]}" for i, t in enumerate(tables))
        return Source(Node("text", tuple(parts)), tuple(cols), unique, where, positioned)

    def _tie(self, tables: list[str], aliases: list[str], last: int) -> str:
        """Return an equality of columns of any two of the first tables of a chain, or a condition on one."""
        rng = self.rng
        pairs = [
            (f"{aliases[i]}.{column}", f"{aliases[j]}.{their}")
            for i in range(last + 1) for column in KEYED[tables[i]] for other, their in FEW[column]
            for j in range(last + 1) if i != j and tables[j] == other
        ]  # fmt: skip
        if not pairs or rng.random() < 0.15:
            return f"{aliases[last]}.{KEYED[tables[last]][0]} IS {rng.choice(('', 'NOT '))}NULL"
        return " = ".join(rng.choice(pairs))

    def _near(self) -> Source:
        rng = self.rng
        tables = rng.choice((("Star", "Star"), ("Star", "Ref"), ("Ref", "Star")))
        a, b = self._alias(), self._alias()
        radius = rng.choice((0.05, 0.301, 0.77))
        (lon, lat), (lon2, lat2) = POSITIONS[tables[0]], POSITIONS[tables[1]]
        first, second = (f"{a}.{lon}", f"{a}.{lat}"), (f"{b}.{lon2}", f"{b}.{lat2}")
        near = Node("area", (
            f"scisql_angSep({', '.join((*first, *second))}) < {radius}", f"{separation(first, second)} < {radius}",
        ))  # fmt: skip
        cols = (*columns(tables[0], a, False), *columns(tables[1], b, False))
        apart = f" AND {a}.starId <> {b}.starId" if tables == ("Star", "Star") else ""
        node = text(self._named(tables[0], a), " JOIN ", self._named(tables[1], b), " ON ", near, apart)
        unique = (f"{a}.{UNIQUE[tables[0]]}", f"{b}.{UNIQUE[tables[1]]}")
        return Source(node, cols, unique)

    def _derived(self, depth: int) -> Source:
        rng = self.rng
        if self.inner <= 0:
            return self._single()
        self.inner -= 1
        alias = self._alias()
        query, types = self._any(depth - 1, [], inner=True)
        cols = [
            Col(f"{alias}.{name}", kind, name if name in KEYS else "")
            for name, kind in types
            if kind in EXACT
        ]
        node = text("(", query, f") {alias}")
        if not cols:
            return self._single()
        self.loose = self.loose or any(kind[0] in "SJ" for _, kind in types)  # they decide on the order
        unique = whole_key(alias, types)
        if rng.random() < 0.4:
            table = rng.choice(("Star", "Visit", "StarRef", "Band", "Lut"))
            other = self._alias()
            theirs = columns(table, other, True)
            pairs = [
                (mine, yours) for mine in cols for yours in theirs
                if mine.type == yours.type and mine.type in "IS" and (mine.role == yours.role or rng.random() < 0.1)
            ]  # fmt: skip
            if pairs:
                mine, yours = rng.choice([p for p in pairs if p[0].role] or pairs)
                side = rng.choice(("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN"))
                node = text(node, f" {side} {self._named(table, other)} ON {mine.sql} = {yours.sql}")
                return Source(
                    node,
                    tuple(replace(c, nullable=True) for c in (*cols, *theirs)),
                    (*unique, f"{other}.{UNIQUE[table]}"),
                )
        return Source(node, tuple(cols), unique)
