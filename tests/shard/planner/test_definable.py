"""Statements as they are executed over empty tables."""

import pytest

from shard.planner.definable import over_empty
from shard.planner.emit import emit
from shard.planner.fence import parse
from shard.planner.lexer import tokenize

INNER = "(SELECT MAX(b) FROM u)"


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        (f"a < {INNER}", "TRUE"),
        (f"a > 1 AND (a < {INNER} AND c)", "`a` > 1 AND (TRUE AND `c`)"),
        (f"a > 1 OR a < {INNER}", "TRUE"),
        (f"EXISTS (SELECT 1 FROM u WHERE a = {INNER})", "TRUE"),
    ],
)
def test_what_empty_tables_decide_is_left_out(condition, left):
    tree = parse(tokenize(f"SELECT a FROM t WHERE {condition} GROUP BY a WITH ROLLUP"))
    before = emit(tree)
    assert emit(over_empty(tree)) == f"SELECT `a` FROM `t` WHERE {left} GROUP BY `a` WITH ROLLUP"
    assert emit(tree) == before


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT a FROM t WHERE a < {INNER} GROUP BY a",
        "SELECT a FROM t WHERE a < 5 GROUP BY a WITH ROLLUP",
        "SELECT a FROM t WHERE a IN (SELECT MAX(b) FROM u GROUP BY c) GROUP BY a WITH ROLLUP",
        "SELECT a FROM t GROUP BY a WITH ROLLUP",
        f"SELECT a, {INNER} FROM t GROUP BY a WITH ROLLUP",
    ],
)
def test_other_statements_stay(text):
    assert over_empty(parse(tokenize(text))) is None
