"""Shapes: which look-ups are the same but for their key, and what is made of them for another."""

import pytest

from shard.planner.lexer import LexerMode
from shard.planner.planner import fragment, whole
from shard.planner.shape import KEY, mark_of, marked_shape_of, place_of, shape_of
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE


def planned(text):
    statement = read(text, "sky", CATALOGUE, LexerMode())
    return statement, statement.plan((), None, {})


def shape(text):
    statement, plan = planned(text)
    place = place_of(statement, plan)
    return None if place is None else shape_of(statement, plan, place, planned)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM Object WHERE objectId = {}",
        "SELECT * FROM Source WHERE {} = objectId AND flux > 7.5",
        "SELECT o.name, s.flux FROM Object o JOIN Source s USING (objectId) WHERE o.objectId IN ({}) LIMIT 3",
        "SELECT scisql_angSep(ra, decl, 1, 2) FROM Object WHERE (objectId = {})",
        "SELECT COUNT(*), AVG(flux) FROM Source WHERE objectId = {}",
        "SELECT * FROM Source WHERE objectId = {} ORDER BY flux DESC LIMIT 2 OFFSET 1",
        "SELECT o.name, MAX(s.flux) m FROM Object o JOIN Source s USING (objectId) WHERE o.objectId = {} "
        "GROUP BY o.name HAVING m > 3 ORDER BY 2",
    ],
)
def test_another_key_makes_the_plan_of_that_key(text):
    found = shape(text.format(4711))
    assert found is not None
    for key in ("1235", "9999", "1000"):
        statement, plan = planned(text.format(key))
        asked = fragment(plan) if plan.merge is None else whole(plan)
        assert "\ue000".join(key.join(pieces) for pieces in found.main) == asked.main.text
        assert found.answers_empty == (plan.merge is None)
        assert key.join(found.prepared) == statement.prepared()
        assert plan.restriction.keys == (key,)
        assert plan.restriction.director == found.director


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM Object",
        "SELECT * FROM Object WHERE ra = 5",
        "SELECT 5 FROM Object WHERE objectId = 5",
        "SELECT * FROM Object WHERE objectId = 5 OR objectId = 6",
        "SELECT * FROM Object WHERE objectId IN (5, 6)",
        "SELECT * FROM Object WHERE objectId BETWEEN 5 AND 5",
        "SELECT * FROM Object WHERE objectId = 05",
        "SELECT * FROM Object WHERE objectId = -5",
        "SELECT * FROM Object WHERE objectId = 5e0",
        "SELECT * FROM Object WHERE objectId = '5'",
        "SELECT * FROM Object WHERE objectId = 1234567890123456789",
        "SELECT * FROM Object WHERE objectId = 5 AND chunkId = 7",
        "SELECT * FROM Object WHERE objectId = 5 LIMIT 1 OFFSET 1",
        "SELECT * FROM Object WHERE objectId = 5 LIMIT 0",
        "SELECT COUNT(*) FROM Object WHERE objectId > 5",
        "SELECT DISTINCT ra FROM Object WHERE objectId = 5 LIMIT 3 OFFSET 1",
        "SELECT NOW() FROM Object WHERE objectId = 5",
        "SELECT USER() FROM Object WHERE objectId = 5",
        "SELECT 123456789 FROM Object WHERE objectId = 5",  # no other digit is free
    ],
)
def test_what_has_no_shape(text):
    assert shape(text) is None


def marked(text, values):
    statement = read(text, "sky", CATALOGUE, LexerMode())

    def again(others):
        return statement.plan(others, None, {})

    mark = mark_of(statement, again(values), values)
    return None if mark is None else marked_shape_of(statement, again(values), values, mark, again)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("SELECT * FROM Object WHERE objectId = ?", [4711]),
        ("SELECT * FROM Object WHERE objectId IN (?)", [1]),
        ("SELECT * FROM Source WHERE ? = objectId AND flux > ?", [4711, 7.5]),
        ("SELECT ?, name FROM Object WHERE (objectId = ?) LIMIT 3", [None, 222]),
        ("SELECT o.name, s.flux FROM Object o JOIN Source s USING (objectId) WHERE o.objectId = ?", [111]),
        ("SELECT scisql_angSep(ra, decl, ?, 2) FROM Object WHERE objectId = ?", [None, 8]),
        ("SELECT COUNT(*), AVG(flux) FROM Source WHERE objectId = ?", [10**18 - 1]),
        ("SELECT * FROM Source WHERE objectId = ? ORDER BY flux DESC LIMIT 2 OFFSET 1", [4711]),
    ],
)
def test_another_value_makes_the_plan_of_that_value(text, values):
    found = marked(text, values)
    assert found is not None
    statement = read(text, "sky", CATALOGUE, LexerMode())
    for key in (1, 1235, 10**18 - 1):
        others = [9.25] * (len(values) - 1)
        others.insert(values.index(next(value for value in values if isinstance(value, int))), key)
        plan = statement.plan(others, None, {})
        asked = fragment(plan) if plan.merge is None else whole(plan)
        assert "\ue000".join(text for (text,) in found.main) == asked.main.text
        assert found.prepared == (statement.prepared(),)
        assert plan.restriction.keys == (str(key),)
        assert plan.restriction.director == found.director


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("SELECT * FROM Object WHERE objectId = ?", [None]),
        ("SELECT * FROM Object WHERE objectId = ?", [0]),
        ("SELECT * FROM Object WHERE objectId = ?", [-5]),
        ("SELECT * FROM Object WHERE objectId = ?", [5.0]),
        ("SELECT * FROM Object WHERE objectId = ?", [10**18]),
        ("SELECT * FROM Object WHERE objectId = -?", [-5]),
        ("SELECT * FROM Object WHERE objectId > ?", [5]),
        ("SELECT * FROM Object WHERE objectId = 5 AND flags = ?", [5]),
        ("SELECT ?, ra FROM Object WHERE objectId = ?", [5, 5]),
        ("SELECT * FROM Object WHERE objectId = ? OR objectId = ?", [5, 5]),
        ("SELECT * FROM Object WHERE objectId = ? OR objectId = ?", [5, 6]),
        ("SELECT * FROM Object WHERE objectId IN (?, 6)", [5]),
        ("SELECT * FROM Object WHERE objectId BETWEEN ? AND ?", [5, 5]),
        ("SELECT * FROM Object WHERE objectId = ? LIMIT ?", [5, 1]),
        ("SELECT * FROM Object WHERE objectId = ? LIMIT 1 OFFSET 1", [5]),
        ("SELECT flux, name FROM Object WHERE objectId = ? ORDER BY ?", [5, 1]),
        ("SELECT * FROM Object WHERE objectId = ? AND ? = 5", [7, 6]),
        ("SELECT NOW() FROM Object WHERE objectId = ?", [5]),
    ],
)
def test_what_has_no_shape_with_these_values(text, values):
    assert marked(text, values) is None


def test_a_key_is_a_number_of_its_own():
    text = b"SELECT a1, 1.5, 2e3, 0x10, 07, @4, t.5, `6`, '8' FROM t WHERE a = 99 AND b = 1234567890123456789"
    assert [match[0] for match in KEY.finditer(text)] == [b"6", b"8", b"99"]
