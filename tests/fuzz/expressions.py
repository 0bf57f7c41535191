"""Random expressions over the columns in sight, by type.

Letters: P condition, I integer, U unsigned, N DECIMAL, F FLOAT or DOUBLE, S text, B binary, D date, M time,
W datetime, Y year, E enumeration, T set, K JSON. A `~` behind a letter: the last digits are free (sums of
floating-point numbers); a `*`: any text that is equal in its collation. Those two are only selected.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.tree import Node, expr, listed, text


@dataclass(frozen=True, slots=True)
class Col:
    """A column in sight: its SQL, type letter, and table column for `starId`-like roles."""

    sql: str
    type: str
    role: str = ""
    nullable: bool = True


LITERALS: dict[str, tuple[str, ...]] = {
    "I": ("0", "1", "2", "-1", "3", "7", "100", "NULL", "(-5)"),
    "U": ("0", "7", "18446744073709551615", "NULL"),
    "N": ("0.5", "1.25", "-100.0", "12.3456", "0.125", "500.0001"),
    "F": ("1e0", "0.1e0", "5592405.5e0", "-3e-5", "180e0", "1.5e0", "17.5e0"),
    "S": (
        "'a'",
        "'angstrom'",
        "'ANGSTROM  '",
        "'a b'",
        "''",
        "'x%'",
        "'ÅNG'",
        "'tttt'",
        "'u'",
        "'R5'",
        "NULL",
    ),
    "B": ("x'78'", "'yy'", "x''"),
    "D": ("DATE '2015-03-15'", "DATE '2020-01-01'", "DATE '2012-05-15'"),
    "M": ("TIME '-10:00:00'", "TIME '99:00:00'", "TIME '00:00:00'"),
    "W": ("TIMESTAMP '2024-02-29 12:34:30'", "TIMESTAMP '2024-02-29 12:34:45.5'"),
    "Y": ("2015", "2000", "'2020'"),
    "E": ("'star'", "'qso'", "'STAR'"),
    "T": ("'a'", "'a,b'", "'c'"),
    "K": (
        "JSON_ARRAY(1, 'a')",
        "JSON_OBJECT('k', NULL)",
        "JSON_ARRAY(0)",
        "JSON_OBJECT('k', JSON_ARRAY(2e0))",
    ),
}
# It puts a constant in the place of a column that equals it: of one past BIGINT, sums are then errors (1690), by the plans that do not find in an index first that no row has it.
# MariaDB gives FLOOR 17 digits: a greater number that is stored on the way becomes 1e17. It gives HOUR two digits and cuts what it stores of more: HOUR('100:00:00') / 1 is 99.9999 where it is sorted.
STEPS: dict[str, tuple[str, ...]] = {
    "I": (
        "({I} + {I})", "({I} - {I})", "({I} * 2)", "LENGTH({S})", "CHAR_LENGTH({S})", "YEAR({D})", "MONTH({D})", "ABS({I})",
        "SIGN({F})", "IF({P}, {I}, {I})", "CASE WHEN {P} THEN {I} WHEN {P} THEN {I} END", "CASE {I} WHEN 1 THEN 2 ELSE {I} END",
        "COALESCE({I}, {I})", "IFNULL({I}, 0)", "NULLIF({I}, {I})", "({I} % 3)", "({I} DIV 2)", "CAST(FLOOR({F} / 1e6) AS SIGNED)",
        "({P})", "LEAST(HOUR({M}), 24)", "CAST({E} + 0 AS SIGNED)", "FIND_IN_SET('a', {T})", "GREATEST({I}, {I})", "LEAST({I}, 3)",
        "INSTR({S}, 'a')", "DATEDIFF({D}, '2020-01-01')", "TIMESTAMPDIFF(DAY, {D}, {W})", "TIME_TO_SEC({M})", "-({I})",
        "FIELD({S}, 'a', 'ab', 'u')", "CAST({U} % 7 AS SIGNED)", "CAST({N} AS SIGNED)", "STRCMP({S}, {S})",
        "JSON_LENGTH({K})",
    ),
    "U": ("({U} % 7)", "({U} DIV 3)", "COALESCE({U}, {U})", "IF({P}, {U}, {U})", "({I} & 3)", "({I} | 4)", "CRC32({S})", "({U} ^ 1)"),
    "N": (
        "({N} + {N})", "({N} - {I})", "({N} * {I})", "({N} / {I})", "({I} / {I})", "ROUND({N}, 1)", "TRUNCATE({N}, 2)", "ABS({N})",
        "-({N})", "IF({P}, {N}, {N})", "COALESCE({N}, {I})", "CAST({N} AS DECIMAL(10,2))", "({N} % 7)", "CASE WHEN {P} THEN {N} END",
    ),
    "F": (
        "({F} + {F})", "({F} - {N})", "({F} * 2)", "({F} / {I})", "SQRT(ABS({F}))", "ROUND({F}, 2)", "COALESCE({F}, {F})",
        "IF({P}, {F}, {F})", "-({F})", "({U} + 0e0)", "ABS({F})", "FLOOR({F} % 1e6)", "SIN({F})", "CASE WHEN {P} THEN {F} ELSE {I} END", "POW({I}, 2)",
    ),
    "S": (
        "CONCAT({S}, {S})", "UPPER({S})", "LOWER({S})", "LEFT({S}, 2)", "SUBSTR({S}, 2, 3)", "TRIM({S})", "REPLACE({S}, 'a', 'z')",
        "COALESCE({S}, {S})", "IF({P}, {S}, {S})", "CASE WHEN {P} THEN {S} ELSE {S} END", "CAST({I} AS CHAR)", "HEX({S})",
        "CAST({N} AS CHAR)", "DATE_FORMAT({D}, '%Y-%m')", "REVERSE({S})", "LPAD({S}, 6, '-')", "CONCAT_WS('/', {S}, {I}, {S})",
        "CAST({E} AS CHAR)", "CONCAT({T}, '!')", "CONVERT({S} USING utf8mb4)", "HEX({B})", "({S} COLLATE utf8mb4_bin)",
        "CAST({W} AS CHAR)", "NULLIF({S}, '')", "ELT({I}, 'one', 'two', 'three')", "RIGHT({S}, 3)", "JSON_VALUE({K}, '$[0]')",
    ),
    "B": ("COALESCE({B}, {B})", "CONCAT({B}, x'00')", "IF({P}, {B}, {B})", "CAST({S} AS BINARY)", "UNHEX(HEX({S}))"),
    "D": ("({D} + INTERVAL 1 DAY)", "DATE({W})", "LAST_DAY({D})", "COALESCE({D}, {D})", "IF({P}, {D}, {D})", "CAST({W} AS DATE)"),
    "M": ("TIME({W})", "COALESCE({M}, {M})", "IF({P}, {M}, {M})", "SEC_TO_TIME({I})", "ADDTIME({M}, '01:00:00')"),
    "W": ("({W} + INTERVAL 90 MINUTE)", "COALESCE({W}, {W})", "IF({P}, {W}, {W})", "CAST({D} AS DATETIME)", "TIMESTAMP({D}, '01:02:03')"),
    "Y": (), "E": (), "T": (),
    "K": (
        "JSON_OBJECT('k', {E})", "JSON_ARRAY(({I} + 0), {K})", "JSON_ARRAY({D}, {K})", "JSON_OBJECT('o', {K})", "JSON_EXTRACT({K}, '$[0]')",
        "JSON_EXTRACT({K}, '$.k')", "IF({P}, {K}, {K})", "COALESCE({K}, {K})", "JSON_ARRAY(({P}) IS TRUE)", "JSON_QUERY({K}, '$')",
        "JSON_COMPACT({K})", "JSON_SET({K}, '$.z', {K})",
    ),
}  # fmt: skip
# MariaDB takes a comparison of rows for never NULL: it is asked whether it is TRUE.
# What equals an indexed integer column it rounds before it looks it up: 17.5 finds 18.
CONDITIONS = (
    "{X} {cmp} {x}", "{X} {cmp} {x}", "{X} {cmp} {x}", "{X} <=> {x}", "{X} IS NULL", "{X} IS NOT NULL", "{X} BETWEEN {x} AND {x}",
    "{X} NOT BETWEEN {x} AND {x}", "{X} IN ({x}, {x})", "{X} NOT IN ({x}, {x}, {x})", "{S} LIKE '%a%'", "{S} NOT LIKE 'a\\_%'",
    "{S} LIKE '%!%%' ESCAPE '!'", "{S} REGEXP '^[at]'", "NOT ({P})", "({P} AND {P})", "({P} OR {P})", "({P} OR {P})", "({P} XOR {P})",
    "({P}) IS TRUE", "({P}) IS NOT TRUE", "({P}) IS UNKNOWN", "NOT {X} {cmp} {x}", "(({I}, {I}) = ({I}, {I})) IS TRUE",
    "({I}, {S}) IN ((1, 'a'), (2, 'ab'))", "{I}", "{I} {less} {F}", "{I} + 0 = {F}", "{N} {cmp} {F}", "{U} {less} {I}", "{S} {cmp} {I}", "{D} {cmp} {W}",
    "{E} = {S}", "{B} = {S}",
)  # fmt: skip
CONTEXT_FREE = ("TRUE", "FALSE", "NULL", "1", "0")


class Expressions:
    """Makes expressions with one source of randomness and a way to make subqueries."""

    def __init__(self, rng: random.Random, subquery: Callable[[str, list[Col], int], Node | None]) -> None:
        self.rng, self._subquery, self.divides = rng, subquery, False

    def leaf(self, kind: str, cols: list[Col]) -> Node:
        """Return a column, or a constant, of a type."""
        own = [col for col in cols if col.type == kind]
        if own and self.rng.random() < 0.85:
            return expr(kind, self.rng.choice(own).sql)
        if kind == "P":
            return expr("P", self.rng.choice(CONTEXT_FREE))
        return expr(kind, self.rng.choice(LITERALS[kind]))

    def make(self, kind: str, cols: list[Col], depth: int) -> Node:
        """Return an expression of a type, at most `depth` deep."""
        if kind == "P":
            return self.condition(cols, depth)
        steps = STEPS[kind] if kind != "N" or self.divides else [s for s in STEPS["N"] if "/" not in s]
        if depth <= 0 or not steps or self.rng.random() < 0.35:
            return self.leaf(kind, cols)
        if kind in "INFS" and self.rng.random() < 0.04:
            inner = self._subquery(f"scalar {kind}", cols, depth)
            if inner is not None:
                return inner
        return self.fill(self.rng.choice(steps), kind, cols, depth - 1)

    def fill(self, pattern: str, kind: str, cols: list[Col], depth: int) -> Node:
        """Return a pattern with its holes filled; {X} and {x} are of one random type."""
        rng = self.rng
        same = rng.choice(sorted({col.type for col in cols if len(col.type) == 1}) or ["I"])
        parts: list[str | Node] = []
        rest = pattern
        while "{" in rest:
            before, _, after = rest.partition("{")
            name, _, rest = after.partition("}")
            parts.append(before)
            if name == "cmp":
                parts.append(rng.choice(("=", "<>", "<", "<=", ">", ">=")))
            elif name == "less":
                parts.append(rng.choice(("<>", "<", "<=", ">", ">=")))
            elif name == "X":
                parts.append(self.make(same, cols, depth))
            elif name == "x":
                parts.append(self.leaf(same, cols) if rng.random() < 0.6 else expr(same, self._literal(same)))
            else:
                parts.append(self.make(name, cols, depth))
        parts.append(rest)
        return expr(kind, *parts)

    def _literal(self, kind: str) -> str:
        """Return a constant to compare with; times may be plain texts."""
        text = self.rng.choice(LITERALS[kind])
        return text[text.index("'") :] if kind in "DMW" and self.rng.random() < 0.5 else text

    def condition(self, cols: list[Col], depth: int) -> Node:
        """Return a condition."""
        rng = self.rng
        if depth > 0 and rng.random() < 0.16:
            inner = self._subquery("condition", cols, depth)
            if inner is not None:
                return inner
        simple = depth <= 0
        pattern = rng.choice([c for c in CONDITIONS if "{P}" not in c] if simple else CONDITIONS)
        return self.fill(pattern, "P", cols, max(0, depth - 1))

    def where(self, cols: list[Col], depth: int, count: int) -> Node:
        """Return conjuncts, each droppable."""
        return listed(" AND ", [text("(", self.condition(cols, depth), ")") for _ in range(count)])


def types_of(cols: list[Col]) -> list[str]:
    """Return the type letters of columns, once each."""
    return sorted({col.type for col in cols})
