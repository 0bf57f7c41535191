"""Random SELECTs over the handmade catalogue: a grammar of what users write, and of what they rarely do.

Every query is made from its seed and index alone. Its tree knows how answers are to be compared: what
the order of rows decides, which texts and which last digits are free.
"""

from __future__ import annotations

import random
from dataclasses import replace

from tests.fuzz.expressions import LITERALS, Col, Expressions
from tests.fuzz.sources import DATABASE, JOINS, KEYS, POSITIONS, TABLES, UNIQUE, Source, columns
from tests.fuzz.tree import Node, Query, expr, listed, opt, text

EXACT = frozenset("IUNFSBDMWYET")
OVER = ("({A} + 1)", "(10 * {A})", "ROUND({A}, 2)", "COALESCE({A}, 0)", "({A} / COUNT(*))", "-({A})", "({A} - {A})", "({A} + {A})",
        "IF(COUNT(*) > 5, {A}, NULL)", "CASE WHEN {A} > 1 THEN {A} END", "GREATEST({A}, {A})")  # fmt: skip
SPREAD = ("STD", "STDDEV", "STDDEV_SAMP", "VARIANCE", "VAR_POP", "VAR_SAMP")


class Generator:
    """Makes one query."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.aliases = self.names = 0
        self.inner = 3
        self.loose = self.approx = self.rounds = False
        self.make = Expressions(rng, self._subquery)

    # FROM ----------------------------------------------------------------------------------------

    def _alias(self) -> str:
        self.aliases += 1
        return f"t{self.aliases}"

    def _name(self) -> str:
        """Return a column name that no other query inside has: which of two GROUP BY means is not decided."""
        self.names += 1
        return f"c{self.names}"

    def _named(self, table: str, alias: str) -> str:
        prefix = f"{DATABASE}." if self.rng.random() < 0.5 else ""
        return f"{prefix}{table} {'AS ' if self.rng.random() < 0.3 else ''}{alias}"

    def source(self, depth: int) -> Source:
        """Return a FROM clause."""
        roll = self.rng.random()
        if roll < 0.42:
            return self._single()
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

    def _near(self) -> Source:
        rng = self.rng
        tables = rng.choice((("Star", "Star"), ("Star", "Ref"), ("Ref", "Star")))
        a, b = self._alias(), self._alias()
        radius = rng.choice((0.05, 0.301, 0.77))
        (lon, lat), (lon2, lat2) = POSITIONS[tables[0]], POSITIONS[tables[1]]
        first, second = (f"{a}.{lon}", f"{a}.{lat}"), (f"{b}.{lon2}", f"{b}.{lat2}")
        near = Node("area", (
            f"scisql_angSep({', '.join((*first, *second))}) < {radius}", f"{_separation(first, second)} < {radius}",
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
        unique = tuple(f"{alias}.{name}" for name, _ in types)
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

    # subqueries in expressions -------------------------------------------------------------------

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
        if not same or kind == "S":
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
        if roll < 0.7:
            return expr(
                "P", f"{a.sql} {compare} {rng.choice(('ANY', 'ALL', 'SOME'))} (SELECT {b.sql}", body, ")"
            )
        if roll < 0.78:
            c, d = rng.choice(pairs)
            return expr(
                "P", f"({a.sql}, {c.sql}) {rng.choice(('IN', 'NOT IN'))} (SELECT {b.sql}, {d.sql}", body, ")"
            )
        if b.type == "S":
            return expr("P", "(SELECT COUNT(*)", body, f") {compare} {rng.randint(0, 4)}")
        return expr("P", f"{a.sql} {compare} (SELECT {rng.choice(('MIN', 'MAX'))}({b.sql})", body, ")")

    # WHERE ---------------------------------------------------------------------------------------

    def _where(self, source: Source, outer: list[Col], depth: int) -> Node:
        rng = self.rng
        conjuncts = [text(item) for item in source.where]
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            conjuncts.append(text("(", self.make.condition([*source.cols, *outer], depth), ")"))
        if source.positioned and rng.random() < 0.25:
            conjuncts.append(self._region(source))
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

    def _region(self, source: Source) -> Node:
        rng = self.rng
        lon, lat = rng.choice(source.positioned)
        roll = rng.random()
        lo, hi = sorted((round(rng.uniform(-95, 95), 3), round(rng.uniform(-95, 95), 3)))
        if roll < 0.3:
            lo, hi = max(lo, -90), min(hi, 90)
            west, east = round(rng.uniform(0, 360), 3), round(rng.uniform(0, 360), 3)
            wraps = "OR" if west > east else "AND"
            box = f"(({lon} >= {west} {wraps} {lon} <= {east}) AND {lat} BETWEEN {lo} AND {hi})"
            if len(source.positioned) == 1 and "." in lon and rng.random() < 0.3:
                return Node("area", (f"qserv_areaspec_box({west}, {lo}, {east}, {hi})", box))
            call = f"scisql_s2PtInBox({lon}, {lat}, {west}, {lo}, {east}, {hi})"
            return Node("area", rng.choice((
                (call, box), (f"{call} = 1", box), (f"NOT {call}", f"NOT {box}"), (f"{call} = 0", f"NOT {box}"),
                (f"({call} = 1 OR {lat} > 80)", f"({box} OR {lat} > 80)"),
            )))  # fmt: skip
        if roll < 0.6:
            center = (
                f"{round(rng.choice((rng.uniform(0, 360), 0.001)), 3)}",
                f"{round(rng.choice((rng.uniform(-89, 89), 18.3)), 3)}",
            )
            radius = rng.choice((0.513, 3.21, 20.77, 60.003))
            apart = f"({_separation((lon, lat), center)} < {radius})"
            circle = f"scisql_s2PtInCircle({lon}, {lat}, {center[0]}, {center[1]}, {radius})"
            return Node("area", rng.choice((
                (f"scisql_angSep({lon}, {lat}, {center[0]}, {center[1]}) < {radius}", apart),
                (f"{circle} = 1", apart), (circle, apart), (f"{circle} = 0", f"NOT {apart}"), (f"NOT {circle} = 1", f"NOT {apart}"),
            )))  # fmt: skip
        return text(rng.choice((
            f"{lat} BETWEEN {lo} AND {hi}", f"{lon} < {abs(lo)}", f"({lon} BETWEEN 350 AND 361 OR {lon} < 1)", f"NOT {lat} < {lo}",
            f"{lat} > {hi}", f"{lon} = 0", f"{lat} IN (90, -90, 18)", f"({lon} > 359 AND {lat} <= {hi})", f"{lat} = 18.0",
        )))  # fmt: skip

    # SELECT --------------------------------------------------------------------------------------

    def query(self) -> Query:
        """Return a whole query."""
        root, _ = self._any(2, [], inner=False)
        if self.rng.random() < 0.08:
            root = self._with()
        return Query(root, self.loose, self.approx, self.rounds)

    def _any(self, depth: int, outer: list[Col], inner: bool) -> tuple[Node, list[tuple[str, str]]]:
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

    def _items(
        self, cols: list[Col], depth: int, inner: bool, types: list[str] | None = None
    ) -> tuple[Node, list[tuple[str, str]]]:
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

    def _select(self, head: str, items: Node, source: Source, depth: int, *rest: Node) -> Node:
        where = self._where(source, [], depth)
        return Node("query", (f"SELECT {head}", items, " FROM ", source.node, opt(where), *rest))

    def _rows(self, source: Source, depth: int, inner: bool) -> tuple[Node, list[tuple[str, str]]]:
        rng = self.rng
        cols = list(source.cols)
        if not inner and rng.random() < 0.1:
            items, named = text(rng.choice(("*", "*", "*, 1 + 1"))), []
        else:
            self.make.divides = not inner  # the digits of a quotient that is stored on the way are free
            items, named = self._items(cols, rng.choice((0, 1, 2)), inner)
            self.make.divides = False
        tail = self._tail(named, cols, source.unique, inner)
        return self._select("", items, source, depth, tail), named

    def _distinct(self, source: Source, depth: int, inner: bool) -> tuple[Node, list[tuple[str, str]]]:
        items, named = self._items(list(source.cols), 1, inner)
        col = self.rng.choice(source.cols)  # MariaDB forgets the OFFSET of SELECT DISTINCT of constants
        items, named = replace(items, parts=(*items.parts, col.sql)), [*named, (self._name(), col.type)]
        if inner:
            items = replace(items, parts=(*items.parts[:-1], f"{col.sql} AS {named[-1][0]}"))
        named = [(name, self._free(kind)) for name, kind in named]
        tail = self._positions(len(named), inner)
        return self._select("DISTINCT ", items, source, depth, tail), named

    def _free(self, kind: str) -> str:
        """Return the type of a value of a group of equal ones."""
        if kind == "S":
            self.loose = True
            return "S*"
        return kind

    def _tail(
        self, named: list[tuple[str, str]], cols: list[Col], unique: tuple[str, ...], inner: bool
    ) -> Node:
        rng = self.rng
        if rng.random() < (0.75 if inner else 0.4):
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
        total = inner or not parts or rng.random() < 0.6
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

    # aggregates ----------------------------------------------------------------------------------

    def _aggregate(self, source: Source) -> tuple[Node, str]:
        rng = self.rng
        cols = list(source.cols)
        name = rng.choice((
            "COUNT(*)", "COUNT", "COUNT", "DISTINCT", "DISTINCT", "SUM", "SUM", "SUMF", "AVG", "AVGF", "MIN", "MAX", "MIN", "MAX",
            "SPREAD", "BIT", "CONCAT", "JSON", "SUMD", "OBJECT",
        ))  # fmt: skip
        if name == "COUNT(*)":
            return text("COUNT(*)"), "I"
        depth = rng.choice((0, 0, 1, 2))
        if name == "COUNT":
            return text("COUNT(", self.make.make(rng.choice(sorted(EXACT | {"P"})), cols, depth), ")"), "I"
        if name == "DISTINCT":
            count = rng.choice((1, 1, 2))
            kinds = [rng.choice(sorted({c.type for c in cols if len(c.type) == 1})) for _ in range(count)]
            return text(
                "COUNT(DISTINCT ",
                listed(", ", [self.make.make(kind, cols, depth - 1) for kind in kinds]),
                ")",
            ), "I"
        if name in ("SUM", "AVG", "SUMD"):
            kind = rng.choice("INU" if name == "SUM" else "IN")
            word = "SUM(DISTINCT " if name == "SUMD" else f"{name}("
            return text(word, self.make.make(kind, cols, depth), ")"), "N"
        if name in ("SUMF", "AVGF"):
            self.approx = True
            return text(f"{name[:3]}(", self.make.make("F", cols, min(depth, 1)), ")"), "F~"
        if name in ("MIN", "MAX"):
            kind = rng.choice(sorted(EXACT - {"Y"}))
            return text(f"{name}(", self.make.make(kind, cols, depth), ")"), self._free(
                "S" if kind in "S" else kind
            )
        if name == "SPREAD":
            self.approx = self.rounds = True
            return text(
                f"{rng.choice(SPREAD)}(", self.make.make(rng.choice("IN"), cols, min(1, depth)), ")"
            ), "F~"
        if name == "BIT":
            return text(
                f"BIT_{rng.choice(('AND', 'OR', 'XOR'))}(", self.make.make("I", cols, depth), ")"
            ), "U"
        return self._collected(name, source, cols)

    def _collected(self, name: str, source: Source, cols: list[Col]) -> tuple[Node, str]:
        rng = self.rng
        kind = rng.choice("INSEDU")
        value = self.make.leaf(kind, cols)
        down = rng.choice(("", " DESC"))
        order = f" ORDER BY {', '.join(key + down for key in source.unique)}"
        # Some plans of MariaDB's call latin1 utf8mb4, and TRUE of a derived table 1.
        if name == "JSON" and kind not in "SI":
            return text("JSON_ARRAYAGG(", value, order, ")"), "J"
        if name == "OBJECT" and len(source.unique) == 1:
            return text(f"MAX({source.unique[0]})"), self._free("S")
        self.loose = self.loose or kind == "S"
        separator = rng.choice(("", " SEPARATOR '|'", " SEPARATOR ''"))
        if rng.random() < 0.3:
            word = value.render()
            return text("GROUP_CONCAT(DISTINCT ", word, f" ORDER BY {word}{down}{separator})"), "J"
        extra = rng.choice(("", ", '/'"))
        limit = f" LIMIT {rng.randint(1, 4)}" if rng.random() < 0.15 else ""
        return text("GROUP_CONCAT(", value, extra, order, separator, limit, ")"), "J"

    def _over(self, source: Source) -> tuple[Node, str]:
        """Return an aggregate or an expression around some."""
        rng = self.rng
        if rng.random() < 0.6:
            return self._aggregate(source)
        parts: list[str | Node] = []
        rest = rng.choice(OVER)
        kinds: set[str] = set()
        while "{A}" in rest:
            before, _, rest = rest.partition("{A}")
            item, kind = self._aggregate(source)
            for _ in range(20):
                if kind in ("I", "N", "F~"):
                    break
                item, kind = self._aggregate(source)
            else:
                item, kind = text("COUNT(*)"), "I"
            self.rounds = self.rounds or "AVG" in item.render()
            parts += [before, item]
            kinds.add(kind)
        kind = "F~" if "F~" in kinds else "N"
        return Node("text", (*parts, rest)), kind

    def _key(self, cols: list[Col]) -> tuple[Node, str]:
        rng = self.rng
        plain = [col for col in cols if len(col.type) == 1]
        if rng.random() < 0.7 and plain:
            col = rng.choice(
                [c for c in plain if c.role] if rng.random() < 0.2 and any(c.role for c in plain) else plain
            )
            return text(col.sql), col.type
        kind = rng.choice("ISDE")  # in descending order MariaDB takes NULL for the DECIMAL before it
        return self.make.make(kind, cols, 1), kind

    def _grouped(self, source: Source, depth: int, inner: bool) -> tuple[Node, list[tuple[str, str]]]:
        rng = self.rng
        cols = list(source.cols)
        keys = [] if rng.random() < 0.3 else [self._key(cols) for _ in range(rng.choice((1, 1, 2)))]
        items: list[Node] = []
        named: list[tuple[str, str]] = []
        by: list[str | Node] = []
        for key, kind in keys:
            selected = rng.random() < 0.8
            if not selected:
                by.append(text(key))
                continue
            alias = self._name()
            style = rng.random()
            bare = key.render().split(".")[-1]
            if style < 0.3 and not inner:
                items.append(key)
                by.append(text(key) if rng.random() < 0.6 else f"{len(items)}")
            elif inner and bare in KEYS and bare not in {n for n, _ in named}:
                items.append(key)
                by.append(text(key))
                alias = bare
            else:
                items.append(text(key, f" AS {alias}"))
                by.append(rng.choice((text(key), alias, f"{len(items)}")))
            named.append((alias, self._free(kind)))
        for _ in range(rng.randint(1, 4)):
            item, kind = self._over(source)
            alias = self._name()
            items.append(text(item, f" AS {alias}") if inner or rng.random() < 0.6 else item)
            named.append((alias, kind))
        group = text(" GROUP BY ", listed(", ", by)) if by else text()
        rollup = bool(by) and rng.random() < 0.08
        having = self._having(source) if rng.random() < 0.3 else text()
        tail = Node("tail") if rollup else self._group_tail(named, keys, inner, bool(by))
        node = self._select(
            "",
            listed(", ", items),
            source,
            depth,
            group,
            opt(" WITH ROLLUP") if rollup else text(),
            opt(having),
            tail,
        )
        return node, named

    def _having(self, source: Source) -> Node:
        rng = self.rng
        conditions = []
        for _ in range(rng.choice((1, 1, 2))):
            item, kind = self._over(source)
            while kind not in ("I", "N", "F~"):
                item, kind = self._over(source)
            compare = rng.choice((">", "<", ">=", "<>"))
            bound = rng.choice(("0", "1", "5", "12")) if kind != "F~" else "1.2345678"
            exact = kind != "F~"  # MariaDB's STD(x) IS NOT NULL is never true in HAVING
            test = " IS NOT NULL)" if exact and rng.random() < 0.2 else f" {compare} {bound})"
            conditions.append(text("(", item, test))
        return text(" HAVING ", listed(rng.choice((" AND ", " OR ")), conditions))

    def _group_tail(
        self, named: list[tuple[str, str]], keys: list[tuple[Node, str]], inner: bool, grouped: bool
    ) -> Node:
        rng = self.rng
        if rng.random() < (0.75 if inner else 0.4):
            return Node("tail")
        parts: list[str | Node] = []
        leading: list[int | str] = []
        exact = [at for at, (_, kind) in enumerate(named) if kind in EXACT or kind == "S*"]
        for _ in range(rng.choice((0, 1, 1))):
            if exact:
                at = rng.choice(exact)
                parts.append(f"{at + 1}{rng.choice(('', ' DESC'))}")
                leading.append(at)
        total = inner or not parts or rng.random() < 0.6
        if total:
            parts += [text(key, rng.choice(("", " DESC"))) for key, _ in keys]
        return self._tail_node(parts, tuple(leading), total or not grouped, inner)

    # windows, set operations, WITH ----------------------------------------------------------------

    def _windows(self, source: Source, depth: int, inner: bool) -> tuple[Node, list[tuple[str, str]]]:
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

    def _set_operation(self, depth: int, inner: bool) -> tuple[Node, list[tuple[str, str]]]:
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
        unique = tuple(f"q.{name}" for name, _ in types)
        node = text("q")
        if rng.random() < 0.3:
            name = usable[0][0]
            node = text(f"q JOIN q AS r ON q.{name} = r.{name}")
            unique = (*unique, *(f"r.{name}" for name, _ in types))
        source = Source(node, cols, unique)
        make = rng.choice((self._rows, self._grouped, self._distinct))
        outer, _ = make(source, 1, False)
        return Node("query", ("WITH q AS (", body, ") ", *outer.parts))


def _separation(a: tuple[str, str], b: tuple[str, str]) -> str:
    """Return the haversine formula, in degrees."""
    squares = (
        f"POW(SIN(RADIANS({b[1]} - {a[1]}) / 2), 2) + COS(RADIANS({a[1]})) * COS(RADIANS({b[1]})) * "
        f"POW(SIN(RADIANS({b[0]} - {a[0]}) / 2), 2)"
    )
    return f"DEGREES(2 * ASIN(SQRT(LEAST(1, {squares}))))"


def generate(seed: int, index: int) -> Query:
    """Return the query of a seed and index."""
    return Generator(random.Random(f"{seed}:{index}")).query()


__all__ = ["TABLES", "Generator", "generate"]
