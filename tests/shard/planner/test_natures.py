"""Which expressions are truth values, and which are JSON, for the JSON functions around them."""

from __future__ import annotations

import pytest
from sqlglot import exp

from shard.planner.fence import parse
from shard.planner.lexer import LexerMode, tokenize
from shard.planner.natures import in_json, is_boolean, is_json


def parsed(sql: str) -> exp.Expression:
    """Return a statement's tree."""
    return parse(tokenize(sql, LexerMode()))


def item(sql: str) -> tuple[exp.Expression, exp.Select]:
    """Return the first item of a SELECT, and the SELECT."""
    tree = parsed(sql)
    assert isinstance(tree, exp.Select)
    return tree.expressions[0], tree


@pytest.mark.parametrize(
    "value",
    [
        "a > 2", "(a > 2) AS b", "NOT a", "a AND b", "a IS NULL", "a BETWEEN 1 AND 2", "a LIKE 'x'", "a IN (1, 2)", "EXISTS (SELECT 1)",
        "ISNULL(a)", "JSON_VALID(a)", "COALESCE(a > 1, a < 3)", "IF(a, b = 1, NULL)", "CASE WHEN a THEN b = 1 ELSE b = 2 END", "MAX(a > 2)",
        "(SELECT COUNT(*) > 2 FROM u)", "TRUE",
    ],
)  # fmt: skip
def test_truth_values(value: str) -> None:
    assert is_boolean(*item(f"SELECT {value} FROM t"))
    assert not is_json(*item(f"SELECT {value} FROM t"))


@pytest.mark.parametrize(
    "value", ["a", "a + 1", "IF(a, b = 1, 2)", "COALESCE(a > 1, a)", "MAX(a)", "(SELECT a FROM u)", "NULL"]
)
def test_numbers(value: str) -> None:
    assert not is_boolean(*item(f"SELECT {value} FROM t"))
    assert not is_json(*item(f"SELECT {value} FROM t"))


@pytest.mark.parametrize(
    "value",
    [
        "JSON_OBJECT('k', a)", "(json_array(a))", "IF(a, JSON_ARRAY(1), JSON_ARRAY(2))", "COALESCE(JSON_ARRAY(a), NULL)", "JSON_ARRAYAGG(a)",
        "JSON_EXTRACT(a, '$')", "(SELECT JSON_ARRAY(a) FROM u LIMIT 1)",
    ],
)  # fmt: skip
def test_json(value: str) -> None:
    assert is_json(*item(f"SELECT {value} FROM t"))


@pytest.mark.parametrize(
    "value",
    [
        "JSON_VALUE(a, '$')",
        "JSON_UNQUOTE(a)",
        "JSON_QUOTE(a)",
        "MAX(JSON_ARRAY(a))",
        "COALESCE(JSON_ARRAY(a), 'x')",
    ],
)
def test_texts(value: str) -> None:
    assert not is_json(*item(f"SELECT {value} FROM t"))


def test_a_stored_truth_value_is_a_number_and_stored_json_is_json() -> None:
    merged, stored = (
        "SELECT a > 2 AS b, JSON_ARRAY(a) AS j FROM t",
        "SELECT DISTINCT a > 2 AS b, JSON_ARRAY(a) AS j FROM t",
    )
    assert is_boolean(*item(f"SELECT x.b FROM ({merged}) AS x"))
    assert not is_boolean(*item(f"SELECT x.b FROM ({stored}) AS x"))
    assert is_json(*item(f"SELECT j FROM ({merged}) AS x"))
    assert is_json(*item(f"SELECT x.j FROM ({stored}) AS x"))
    assert is_json(*item(f"SELECT MIN(x.j) FROM ({stored}) AS x"))
    assert not is_json(*item(f"SELECT MIN(x.j) FROM ({merged}) AS x"))
    assert not is_json(*item(f"SELECT y.j FROM ({stored}) AS x, t AS y"))


def test_a_union_is_json_if_all_of_it_is() -> None:
    assert is_json(*item("SELECT x.j FROM (SELECT JSON_ARRAY(1) AS j UNION SELECT JSON_OBJECT()) AS x"))
    assert not is_json(*item("SELECT x.j FROM (SELECT JSON_ARRAY(1) AS j UNION SELECT 'a') AS x"))


@pytest.mark.parametrize(
    ("sql", "inside"),
    [
        ("SELECT JSON_ARRAY(a) FROM t", True),
        ("SELECT JSON_ARRAY(IF(b, a, NULL)) FROM t", True),
        ("SELECT JSON_ARRAY(CONCAT(a, 'x')) FROM t", False),
        ("SELECT a FROM t", False),
    ],
)
def test_what_a_json_function_is_given(sql: str, inside: bool) -> None:
    columns = [column for column in parsed(sql).find_all(exp.Column) if column.name == "a"]
    assert [in_json(column) for column in columns] == [inside]
