"""A condition means the same however it is spelled: the same chunks, the same layout, the same fast form."""

import pytest

from shard.planner import explain
from shard.planner.lexer import LexerMode
from shard.planner.plan import InRegion, Strategy
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

SHAPES = {
    "s2PtInCircle": "10, 20, 1",
    "s2PtInBox": "10, 20, 11, 21",
    "s2PtInEllipse": "10, 20, 60, 30, 45",
    "s2PtInCPoly": "10, 20, 12, 20, 11, 22",
}


def planned(sql):
    plan = read(sql, "sky", CATALOGUE, LexerMode()).plan()
    return plan, explain.describe(plan, [explain.Extent(0, 0, 0)])[0].sql


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "spelled", ["{}", "({})", "{} = 1", "({}) = 1", "1 = (({}))", "(1) = {}", "(({}) = (1))"]
)
def test_a_point_test_restricts_and_is_fast_in_every_spelling(shape, spelled):
    call = f"scisql_{shape}(ra, decl, {SHAPES[shape]})"
    plain, text = planned(f"SELECT name FROM Object WHERE {call}")
    found, other = planned(f"SELECT name FROM Object WHERE {spelled.format(call)}")
    assert isinstance(found.restriction, InRegion)
    assert found.restriction == plain.restriction
    assert "CASE" not in other
    assert text.partition("WHERE ")[2].strip("()") in other


@pytest.mark.parametrize("spelled", ["NOT {}", "{} = 0", "({}) = 0", "{} = 2", "{} + 0 = 1", "{} IS TRUE"])
def test_what_demands_something_else_keeps_its_null_and_asks_all_chunks(spelled):
    call = "scisql_s2PtInCircle(ra, decl, 10, 20, 1)"
    found, text = planned(f"SELECT name FROM Object WHERE {spelled.format(call)}")
    assert not isinstance(found.restriction, InRegion)
    assert "CASE" in text


@pytest.mark.parametrize("spelled", ["({}) < 0.05", "(({})) < (0.05)", "0.05 > (({}))", "(0.05) >= {}"])
def test_a_separation_joins_neighbours_and_restricts_in_every_spelling(spelled):
    pair = spelled.format("scisql_angSep(a.ra, a.decl, b.ra, b.decl)")
    joined, _ = planned(f"SELECT a.name FROM Object a, Object b WHERE {pair}")
    assert (joined.strategy, joined.gather) == (Strategy.SCATTER, None)
    cone = spelled.format("scisql_angSep(10, 20, ra, decl)")
    found, _ = planned(f"SELECT name FROM Object WHERE {cone}")
    plain, _ = planned("SELECT name FROM Object WHERE scisql_angSep(ra, decl, 10, 20) < 0.05")
    assert isinstance(found.restriction, InRegion)
    assert found.restriction == plain.restriction
