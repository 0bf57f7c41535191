"""FETCH FIRST is read as the LIMIT that it means, with what it counts in the order of the text; anything else is left alone."""

import pytest

from shard.planner.fetch_first import as_limit
from shard.planner.lexer import tokenize


def read(text):
    return " ".join(token.text for token in as_limit(tokenize(text)))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("SELECT a FROM t FETCH FIRST ROW ONLY", "SELECT a FROM t LIMIT 1"),
        ("select a from t fetch next 3 rows only", "select a from t LIMIT 3"),
        ("SELECT a FROM t OFFSET 2 ROWS FETCH NEXT 3 ROW ONLY", "SELECT a FROM t LIMIT 2 , 3"),
        ("SELECT a FROM t OFFSET ? ROW FETCH FIRST ? ROWS ONLY", "SELECT a FROM t LIMIT ? , ?"),
        ("(SELECT a FROM t FETCH FIRST 2 ROWS ONLY) UNION SELECT 1 FETCH FIRST ROWS ONLY",
         "( SELECT a FROM t LIMIT 2 ) UNION SELECT 1 LIMIT 1"),
    ],
)  # fmt: skip
def test_it_is_a_limit(text, limit):
    assert read(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM t LIMIT 3 OFFSET 2",
        "SELECT a FROM t OFFSET 2 ROWS FETCH FIRST 3 ROWS WITH TIES",
        "SELECT a FROM t OFFSET 2 ROWS",
        "SELECT `FETCH` FIRST FROM t",
        "SELECT a FROM t FETCH",
        "SELECT a FROM t FETCH FIRST",
        "SELECT a FROM t FETCH FIRST 3",
        "SELECT a FROM t FETCH FIRST 3 ROWS",
        "FETCH NEXT FROM c",
    ],
)
def test_anything_else_is_left_alone(text):
    tokens = tokenize(text)
    assert as_limit(tokens) == tokens
