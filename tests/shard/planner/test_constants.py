"""Constant expressions: what MariaDB makes of them where a DOUBLE is wanted."""

import pytest
from sqlglot import exp

from backend.connection import RawConnection
from shard.planner.constants import key_literal, number
from shard.planner.fence import parse
from shard.planner.lexer import tokenize

EXPRESSIONS = [
    "5/3600", "5.0/3600", "1/3*3", "0.1+0.2", "2/3", "1e0/3", "10.25/60", "1/60/60", "-1/7", "3.5 * (1/3600)",
    "0.000000001/3", "123456789.123456789/7", "1/0.3", "100/3.000000001", "(1-0.9)*10", "7", "1.5e-3", "0.00027777777777",
    "12.3456789012/1.1", "1/3600.0 + 1e-9",
]  # fmt: skip


def constant(text):
    tree = parse(tokenize(f"SELECT {text}"))
    assert isinstance(tree, exp.Select)
    return number(tree.expressions[0])


async def test_as_mariadb_reads_them(plain):
    connection = await RawConnection.open(plain.address)
    try:
        for text in EXPRESSIONS:
            (row,) = await connection.fetch(f"SELECT ({text}) * 1e0")
            assert constant(text) == float(row[0]), text
    finally:
        await connection.close()


@pytest.mark.parametrize("text", ["1/0", "ra", "'1'", "1 DIV 2", "POW(2, 3)"])
def test_what_is_no_constant(text):
    assert constant(text) is None


@pytest.mark.parametrize(
    ("value", "literal"),
    [(7, "7"), (7.0, "7"), (-7.0, "-7"), (7.5, None), (1e300, None), (float("inf"), None), ("7", "'7'"), ("a b", "'a b'"),
     ("it's", None), ("\\", None), (None, None)],
)  # fmt: skip
def test_parameters_that_are_keys(value, literal):
    assert key_literal(exp.Placeholder(this="0"), [value]) == literal
