"""Statements as clients' programs write them: thousands of terms, lists of many values, queries in queries."""

import cProfile

import msgspec
import pytest

from shard.catalog.model import Column
from shard.errors import SkyError
from shard.planner import explain
from shard.planner.fence import SyntaxProblem
from shard.planner.lexer import LexerMode
from shard.planner.plan import AnyOf, ByKey, Everywhere, InChunks, Strategy
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

FRAMES = 100
"""Calls that stand on the stack of a proxy when it plans, and some more."""


def deep(call, frames=FRAMES):
    return call() if not frames else deep(call, frames - 1)


def planned(sql):
    """Return a statement's plan, made and written as deep in the stack as in a proxy."""

    def work():
        statement = read(sql, "sky", CATALOGUE, LexerMode())
        statement.prepared()
        plan = statement.plan()
        return plan, explain.describe(plan, [explain.Extent(0, 0, 0)] * len(explain.scatters(plan)))

    return deep(work)


def refusal(sql):
    with pytest.raises(SkyError) as caught:
        planned(sql)
    return caught.value


def test_five_thousand_keys():
    plan, steps = planned("SELECT * FROM Object WHERE " + " OR ".join(f"objectId = {n}" for n in range(5000)))
    assert plan.restriction == ByKey("Object", tuple(map(str, range(5000))))
    assert steps[0].sql.count(" OR ") == 4999


@pytest.mark.parametrize("operator", ["AND", "OR", "XOR"])
def test_two_thousand_conditions(operator):
    plan, steps = planned(
        "SELECT * FROM Object WHERE " + f" {operator} ".join(f"f <> {n}" for n in range(2000))
    )
    assert (plan.strategy, plan.restriction) == (Strategy.SCATTER, Everywhere())
    assert steps[0].sql.endswith(f" {operator} `f` <> 1998 {operator} `f` <> 1999")


def test_conditions_of_two_parts():
    terms = " OR ".join(f"(objectId = {n} AND f > {n})" for n in range(1000))
    plan, _ = planned(f"SELECT * FROM Object WHERE {terms}")
    assert isinstance(plan.restriction, AnyOf)
    assert len(plan.restriction.parts) == 1000


def test_five_thousand_summands():
    plan, steps = planned(
        f"SELECT {' + '.join(['f'] * 5000)} FROM Object WHERE {' + '.join(['1'] * 5000)} = f"
    )
    assert plan.strategy is Strategy.SCATTER
    assert steps[0].sql.count("+") == 9998


@pytest.mark.parametrize("grouped", ["", "name, f + 1, "], ids=["all", "groups"])
def test_sums_of_many_aggregates_take_time_by_their_number(grouped):
    def written(number):
        terms = " * ".join(f"SUM(f * {n})" for n in range(number))
        profile = cProfile.Profile()
        behind = f" GROUP BY {grouped[:-2]}" if grouped else ""
        plan, _ = profile.runcall(planned, f"SELECT {grouped}{terms} FROM Object{behind}")
        assert plan.strategy is Strategy.SCATTER_MERGE
        names = [(getattr(entry.code, "co_name", ""), entry.callcount) for entry in profile.getstats()]
        return sum(calls for name, calls in names if name == "write")

    assert written(200) < 2.5 * written(100)


def test_unions_of_many_queries():
    arms = 300
    plan, _ = planned(" UNION ALL ".join(f"SELECT ra FROM Object WHERE objectId = {n}" for n in range(arms)))
    assert len(explain.scatters(plan)) == arms
    plan, steps = planned(
        f"SELECT * FROM (SELECT ra FROM Object{' UNION ALL SELECT decl FROM Object' * arms}) AS q"
    )
    assert plan.strategy is Strategy.SCATTER
    assert steps[0].sql.count("UNION ALL") == arms


def test_unions_of_many_queries_that_are_gathered():
    plan, _ = planned(" UNION ALL ".join(f"SELECT COUNT(*) FROM Object WHERE f > {n}" for n in range(100)))
    assert len(explain.scatters(plan)) == 100


def test_queries_in_queries():
    depth = 100
    inner = "SELECT objectId FROM Object WHERE objectId IN (" * depth
    plan, steps = planned(inner + "SELECT objectId FROM Source" + ")" * depth)
    assert plan.strategy is Strategy.SCATTER
    assert steps[0].sql.count("SELECT") == depth + 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT objectId FROM Object WHERE objectId IN (" * 190 + "SELECT objectId FROM Source" + ")" * 190,
        f"SELECT * FROM Object WHERE {' LIKE '.join(['name'] * 3000)}",
    ],
    ids=["queries", "operators"],
)  # fmt: skip
def test_what_is_too_deep_says_so(sql):
    error = refusal(sql)
    assert error.errno == 1235
    assert "nested too deeply" in error.message


def test_a_long_list_of_keys():
    keys = [str(n) for n in range(-100, 20_000)]
    plan, steps = planned(
        f"SELECT ra FROM Object WHERE objectId IN ({', '.join(keys)}) AND f IN ({', '.join(keys)})"
    )
    assert plan.restriction == ByKey("Object", tuple(keys))
    assert steps[0].sql.endswith(f"`f` IN ({', '.join(keys)})")


def test_long_lists_of_values_keep_their_text():
    values = ", ".join(["'a\\'b'", '"c"', "'d''e'", "1.50", "-1e3", "+7"] * 20)
    plan, steps = planned(
        f"SELECT ABS(name IN ({values})) FROM Object WHERE name NOT IN ({values}) AND COALESCE(f IN({values}), ?) AND f > ?"
    )
    assert plan.restriction == Everywhere()
    assert steps[0].sql.count(values.replace("+", "")) == 3


def test_lists_with_more_than_values_are_read_one_by_one():
    listed = ", ".join(["1", "ra", "2 + 3", "(4)", "ABS(-5)", "_latin1'x'", "'a' 'b'", "NULL", "?"] * 20)
    plan, steps = planned(
        f"SELECT ra FROM Object WHERE f IN ({listed}) AND chunkId IN ({', '.join(map(str, range(99)))})"
    )
    assert plan.restriction == InChunks(tuple(range(99)))
    assert "(4), ABS(-5), _latin1 'x', 'a' 'b', NULL, ?" in steps[0].sql


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM Object WHERE name IN ({', '.join(['1'] * 300_000)})",
        f"SELECT * FROM Object WHERE {'f + ' * 40_000} 1",
    ],
    ids=["values", "terms"],
)
def test_what_is_too_long_says_so(sql):
    error = refusal(sql)
    assert error.errno == 1235
    assert "a table of your own" in error.message


def test_what_is_too_long_and_not_on_sharded_tables_is_the_home_servers_matter():
    with pytest.raises(SyntaxProblem):
        read(f"SELECT {'f + ' * 40_000} 1 FROM mine.t", "sky", CATALOGUE, LexerMode())


def test_joins_without_on():
    """The parser would try each way to nest them."""
    joined = " JOIN ".join(f"Object AS o{n}" for n in range(40))
    assert planned(f"SELECT COUNT(*) FROM {joined}")[0].strategy is Strategy.GATHER
    crossed = " CROSS JOIN ".join(f"Ref AS r{n}" for n in range(40))
    assert planned(f"SELECT COUNT(*) FROM {crossed}")[0].strategy is Strategy.GATHER


WIDE = {
    "sky": msgspec.structs.replace(
        CATALOGUE["sky"],
        tables=tuple(
            msgspec.structs.replace(
                table,
                columns=(
                    *table.columns,
                    *(Column(name=f"one{number}OfMany", sql_type="DOUBLE") for number in range(1500)),
                ),
            )
            for table in CATALOGUE["sky"].tables
        ),
    )
}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM Object WHERE objectId = 5",
        "SELECT objectId FROM Object WHERE scisql_s2PtInCircle(ra, decl, 10, 10, 1) = 1 AND f > 2",
        "SELECT o.objectId FROM Object o, Source s WHERE o.objectId = s.objectId ORDER BY o.f LIMIT 3",
        "SELECT a.objectId, MAX(b.name) FROM Object a JOIN Object b ON a.f = b.f GROUP BY a.objectId",
    ],
)
def test_columns_that_a_statement_does_not_name_cost_no_planning(sql):
    """Surveys have tables of more than a thousand columns."""

    def calls(catalogue):
        def plan():
            statement = read(sql, "sky", catalogue, LexerMode())
            statement.plan()

        plan()  # what is known of a table is found once
        with cProfile.Profile() as profile:
            plan()
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(WIDE) < 1.2 * calls(CATALOGUE)
