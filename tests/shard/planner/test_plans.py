"""Golden plans: SQL in, plan out, as a data file. `UPDATE_PLANS=1` rewrites it."""

import os
from pathlib import Path

import pytest

from shard.catalog.model import Column, Database, Kind, MatchSide, Partitioning, Table
from shard.errors import SkyError
from shard.planner import explain
from shard.planner.cutting import split_statements
from shard.planner.fence import parse
from shard.planner.lexer import LexerMode, tokenize, without_end
from shard.planner.restrict import NOWHERE
from shard.planner.roundtrip import prove
from shard.planner.statement import read

GOLDEN = Path(__file__).parents[2] / "data" / "plans" / "plans.txt"


def column(name, kind="BIGINT"):
    return Column(name=name, sql_type=kind)


CATALOGUE = {
    "sky": Database(
        name="sky",
        partitioning=Partitioning(stripes=18, sub_stripes=10, overlap_deg=0.1),
        tables=(
            Table(
                name="Object", kind=Kind.DIRECTOR, key="objectId", longitude="ra", latitude="decl",
                columns=(column("objectId"), column("ra", "DOUBLE"), column("decl", "DOUBLE"), column("name", "TEXT"), column("f", "FLOAT")),
            ),
            Table(
                name="Source", kind=Kind.DEPENDENT, key="sourceId", director="Object", director_key="objectId",
                columns=(column("sourceId"), column("objectId"), column("flux", "DOUBLE"), column("band", "CHAR(1)")),
            ),
            Table(
                name="Ref", kind=Kind.DIRECTOR, key="refId", longitude="ra", latitude="decl",
                columns=(column("refId"), column("ra", "DOUBLE"), column("decl", "DOUBLE")),
            ),
            Table(
                name="Pair", kind=Kind.MATCH, columns=(column("objectId"), column("refObjectId")),
                sides=(MatchSide(table="Object", foreign_key="objectId"), MatchSide(table="Ref", foreign_key="refObjectId")),
            ),
            Table(name="Filter", kind=Kind.REPLICATED, columns=(column("band", "CHAR(1)"), column("wl", "DOUBLE"))),
        ),
    )
}  # fmt: skip


def described(sql):
    try:
        statement = read(sql, "sky", CATALOGUE, LexerMode())
        if statement is None:
            return "home"
        plan = statement.plan()
    except SkyError as error:
        return f"error {error.errno}: {error.message}"
    scatters = explain.scatters(plan)
    asking = [inner for inner in scatters if not inner.never and inner.restriction != NOWHERE]
    few = f"; {len(asking)} of {len(scatters)} ask workers" if len(asking) < len(scatters) else ""
    lines = [f"{plan.strategy.value}; {plan.restriction}; limit {plan.limit} skip {plan.skip}{few}"]
    lines += [
        f"{step.step}: {step.sql}"
        for step in explain.describe(plan, [explain.Extent(0, 0, 0)] * len(scatters))
    ]
    return "\n".join(lines)


def golden():
    text = GOLDEN.read_text()
    return [tuple(part.strip().split("\n---\n", 1)) for part in text.split("\n===\n") if part.strip()]


@pytest.mark.skipif("UPDATE_PLANS" in os.environ, reason="plans are being rewritten")
@pytest.mark.parametrize(("sql", "plan"), golden(), ids=lambda value: value[:60].replace("\n", " "))
def test_plan(sql, plan):
    assert described(sql) == plan


@pytest.mark.skipif("UPDATE_PLANS" not in os.environ, reason="set UPDATE_PLANS=1 to rewrite the plans")
def test_rewrite_the_plans():
    GOLDEN.write_text("\n===\n".join(f"{sql}\n---\n{described(sql)}" for sql, _ in golden()) + "\n")


def test_an_integer_bound_to_order_by_is_a_position():
    def ordered(key, *values):
        statement = read(f"SELECT ra, name FROM Object ORDER BY {key} LIMIT 3", "sky", CATALOGUE, LexerMode())
        (step,) = explain.describe(plan := statement.plan(values), [explain.Extent(0, 0, 0)])[:1]
        return plan.strategy, step.sql

    assert ordered("?", 2) == ordered("(?)", 2) == ordered("2")
    assert ordered("?", "2") != ordered("2")


def test_a_number_is_no_name_and_a_string_a_name_only_as_an_alias():
    for text, other in (("select a in (1)", "select a in (`1`)"), ("select 'a' from t", "select a from t")):
        with pytest.raises(SkyError):
            prove(tokenize(text), parse(tokenize(other)))
    prove(tokenize("select a 'b' from t"), parse(tokenize("select a b from t")))


@pytest.mark.parametrize(
    "sql",
    [
        "select count( distinct a , b ) c from t where not (a in (1)) and b not like 'x' escape '|' limit 3, 4",
        "select cast(a as decimal(10,2)), convert(b using utf8mb4), extract(year from d), trim(leading 'x' from s) from t",
        "select 'a' 'b', _latin1'x', x'00', 1e-3, .5, date '2020-01-01', interval '1 2' day_hour + now() from t",
        "select a xor b or c && d, a div b % c, -a, ~b, a <=> null, a is not true from t order by 1 desc",
        "select sql_no_cache + a, a - + b, a+-+b, + +1 c, t.`select` + 1, `by` + 1, (a) + (+1) from t where + a in (+1)",
        "select t.*, u.`a b` from t left join u on t.a = u.a straight_join v where t.a between 1 and 2 group by 1 with rollup",
    ],
)
def test_what_is_written_says_what_was_read(sql):
    tokens = tokenize(sql)
    prove(tokens, parse(tokens))


def test_a_tree_that_says_something_else_is_refused():
    with pytest.raises(SkyError):
        prove(tokenize("select a from t where b = 1"), parse(tokenize("select a from t where b = 2")))


def test_statements_are_split_outside_of_literals_and_comments():
    assert split_statements(b"select ';' /* ; */; select 2 -- ;\n;") == [
        b"select ';' /* ; */",
        b" select 2 -- ;\n",
    ]
    assert split_statements(b"select 1;;\n;") == [b"select 1"]
    assert split_statements(b"select 1; ;/* */") == [b"select 1", b" ", b"/* */"]


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("select 1;", "select 1"),
        ("select ';' ;; \n;", "select ';'"),
        ("select 1 ; -- ;\n /* ; */ ", "select 1 "),
        ("select 1;/*! */", "select 1"),
        ("select 1; select 2", "select 1; select 2"),
        ("select 1; /*!50000 */;", "select 1"),
        ("/*! select 1; */", "/*! select 1; */"),
        ("select 1 -- ;", "select 1 -- ;"),
        (";", ""),
        ("", ""),
    ],
)
def test_a_statement_may_end_with_a_semicolon(text, shorter):
    assert without_end(text, tokenize(text)) == (shorter, tokenize(shorter))


@pytest.mark.parametrize(("ansi", "escapes"), [(False, False), (True, False), (False, True), (True, True)])
def test_modes_change_tokens(ansi, escapes):
    kinds = [token.kind.value for token in tokenize('select "a" from t', LexerMode(ansi, escapes))]
    assert kinds[1] == ("quoted identifier" if ansi else "string")


def test_deep_nesting_is_an_error_and_no_crash():
    for depth in (250, 100_000):
        with pytest.raises(SkyError):
            read("select " + "(" * depth + "1" + ")" * depth + " from Object", "sky", CATALOGUE, LexerMode())
