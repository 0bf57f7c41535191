"""GROUP BY, HAVING and all aggregates, with expressions around and inside them."""

from __future__ import annotations

from tests.fuzz.base import EXACT, Made
from tests.fuzz.expressions import Col
from tests.fuzz.sources import KEYS, Source
from tests.fuzz.tails import Tails
from tests.fuzz.tree import Node, listed, opt, text

OVER = ("({A} + 1)", "(10 * {A})", "ROUND({A}, 2)", "COALESCE({A}, 0)", "({A} / COUNT(*))", "-({A})", "({A} - {A})", "({A} + {A})",
        "IF(COUNT(*) > 5, {A}, NULL)", "CASE WHEN {A} > 1 THEN {A} END", "GREATEST({A}, {A})")  # fmt: skip
SPREAD = ("STD", "STDDEV", "STDDEV_SAMP", "VARIANCE", "VAR_POP", "VAR_SAMP")


class Aggregates(Tails):
    """Makes grouped SELECTs."""

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
            self.approx = True
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
        words = {value.render(), *source.unique}
        if len({word.split(".")[-1] for word in words}) < len(words):
            return text("COUNT(*)"), "I"  # MariaDB sorts by another column of the same name
        # MariaDB's own JSON_ARRAYAGG of texts from joined rows may come as latin1.
        if name == "JSON" and (kind != "S" or len(source.unique) == 1):
            if kind == "I":  # a truth value of an outer join is 1 or true there, as the server's plan has it
                value = text("(", value, " + 0)")
            return text("JSON_ARRAYAGG(", value, order, ")"), "J"
        if name == "OBJECT" and len(source.unique) == 1:
            return text(f"MAX({source.unique[0]})"), self._free("S")
        self.loose = self.loose or kind == "S"
        separator = rng.choice(("", " SEPARATOR '|'", " SEPARATOR ''"))
        word = value.render()
        if (
            rng.random() < 0.3 and not word.isdigit()
        ):  # which would be a position: an error, if any row is met
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
            parts += [before, item]
            kinds.add(kind)
        if len(kinds) > 1 and "F~" in kinds:
            # MariaDB gives what it stores of an exact sum and a deviation 17 digits: greater ones become 1e17
            return self._aggregate(source)
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

    def _grouped(self, source: Source, depth: int, inner: bool) -> Made:
        rng = self.rng
        cols = list(source.cols)
        keys = [] if rng.random() < 0.3 else [self._key(cols) for _ in range(rng.choice((1, 1, 2)))]
        keys = list({key.render(): (key, kind) for key, kind in keys}.values())  # MariaDB may name both alike
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
        # in totals MariaDB does not know again as what is grouped, and shows another row's: REPLACE, NULLIF,
        # COLLATE (by some plans), and a latin1 column together with another text;
        # over an outer join that its WHERE makes an inner one, GROUP_CONCAT is NULL there, and so is what JSON_ARRAYAGG lists
        unlasting = ("REPLACE(", "NULLIF(", " COLLATE ", "'")
        lasting = not any(name in key.render() for key, _ in keys for name in unlasting)
        lasting = lasting and not any(kind == "S" and "(" in key.render() for key, kind in keys)
        if any(side in source.node.render() for side in ("LEFT JOIN", "RIGHT JOIN")):
            lists = ("GROUP_CONCAT(", "JSON_ARRAYAGG(")
            lasting = lasting and not any(name in item.render() for item in items for name in lists)
        rollup = bool(by) and rng.random() < 0.08 and lasting
        having = self._having(source) if rng.random() < 0.3 else text()
        tail = Node("tail") if rollup else self._group_tail(named, keys, inner, bool(by))
        node = self._select(
            "",
            listed(", ", items),
            source,
            0
            if rollup
            else depth,  # where an inner query's NULL empties the answer, MariaDB's columns have no table
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
