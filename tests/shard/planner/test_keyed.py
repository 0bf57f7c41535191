"""Users' own tables that are joined by a director's key: split by the director index, or sent whole."""

import pytest

from shard.catalog.model import Column, Kind, Table
from shard.planner import planner
from shard.planner.emit import CHUNK_MARK, KEYS_MARK
from shard.planner.fragment import lists, template
from shard.planner.lexer import LexerMode
from shard.planner.plan import ByKey, KeySplit
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

KINDS = {
    "k": "bigint(20)", "i": "int(10) unsigned", "word": "varchar(9)", "d": "decimal(9,0)", "f": "double",
    "g": "generated int(11)", "y": "year(4)", "b": "bit(9)", "ra": "double", "decl": "double",
}  # fmt: skip
MINE = Table(
    name="t", kind=Kind.OWN, columns=tuple(Column(name=n, sql_type=kind) for n, kind in KINDS.items())
)
TWO = Table(name="t2", kind=Kind.OWN, columns=MINE.columns)


def planned(sql):
    statement = read(sql, "sky", CATALOGUE, LexerMode())
    return statement.over([("mine", MINE), ("mine", TWO)]).plan()


def split(plan):
    return [(ship.table.name, ship.key) for ship in plan.ships]


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        ("FROM mine.t t JOIN Object o ON o.objectId = t.k", KeySplit("k", "Object", False)),
        ("FROM Object o, mine.t t WHERE t.i = o.objectId AND o.f > 1", KeySplit("i", "Object", False)),
        ("FROM mine.t t JOIN Source s ON s.objectId = t.k", KeySplit("k", "Object", False)),
        ("FROM Source s LEFT JOIN mine.t t ON s.objectId = t.k AND t.f > 1", KeySplit("k", "Object", True)),
        (
            "FROM mine.t t JOIN (SELECT objectId FROM Source GROUP BY objectId) q ON q.objectId = t.k",
            KeySplit("k", "Object", False),
        ),
        (
            "FROM Source s WHERE s.objectId IN (SELECT k FROM mine.t WHERE f > 1)",
            KeySplit("k", "Object", False),
        ),
        ("FROM Source s WHERE s.objectId IN (SELECT x.k FROM mine.t x)", KeySplit("k", "Object", False)),
        ("FROM Source s WHERE s.objectId NOT IN (SELECT k FROM mine.t)", None),
        ("FROM Source s WHERE s.objectId IN (SELECT k FROM mine.t) OR s.flux > 1", None),
        ("FROM Source s WHERE s.objectId IN (SELECT MAX(k) FROM mine.t)", None),
        ("FROM Source s WHERE s.objectId IN (SELECT k FROM mine.t GROUP BY k HAVING COUNT(*) > 1)", None),
        ("FROM Source s WHERE s.objectId IN (SELECT k FROM mine.t ORDER BY k LIMIT 3)", None),
        ("FROM Source s WHERE s.objectId IN (SELECT word FROM mine.t)", None),
        ("FROM Source s WHERE s.objectId IN (SELECT s.sourceId FROM mine.t)", None),
        ("FROM Source s WHERE s.sourceId IN (SELECT k FROM mine.t)", None),
        ("FROM Source s LEFT JOIN mine.t t ON s.objectId = t.k OR t.k = 1", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.k OR t.k = 1", None),
        ("FROM Source s JOIN mine.t t ON s.objectId <=> t.k", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.k + 1", None),
        ("FROM Source s JOIN mine.t t ON s.sourceId = t.k", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.word", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.d", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.g", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.y", None),
        ("FROM Source s JOIN mine.t t ON s.objectId = t.b", None),
    ],
)
def test_what_is_split(sql, key):
    assert split(planned("SELECT 1 " + sql)) == [("t", key)]


def test_rows_of_the_chunk_are_read_alone():
    plan = planned("SELECT o.name FROM mine.t t JOIN Object o ON o.objectId = t.k WHERE t.f > 1 OR o.f > 1")
    text = planner.fragment(plan).main.text
    assert f"`t`.`skyChunk` = {CHUNK_MARK}" in text
    assert f"`skyshard_scratch`.`{plan.ships[0].target}` AS `t`" in text
    assert "(`t`.`f` > 1 OR `o`.`f` > 1) AND" in text
    assert "skyChunk" not in plan.native.text


def test_inner_queries_read_rows_of_the_chunk():
    plan = planned(
        "SELECT COUNT(*) FROM Object o WHERE o.objectId IN (SELECT k FROM mine.t x WHERE x.f > 1 OR x.i)"
    )
    text = planner.fragment(plan).main.text
    assert f"AS `x` WHERE (`x`.`f` > 1 OR `x`.`i`) AND `x`.`skyChunk` = {CHUNK_MARK})" in text
    assert "skyChunk" not in plan.merge.partial.text


def test_rows_without_a_partner_stay():
    plan = planned("SELECT o.name FROM Object o LEFT JOIN mine.t t ON o.objectId = t.k WHERE t.k IS NULL")
    text = planner.fragment(plan).main.text
    assert f"ON (`o`.`objectId` = `t`.`k`) AND `t`.`skyChunk` = {CHUNK_MARK} WHERE" in text


def test_merges_know_nothing_of_chunks():
    plan = planned("SELECT COUNT(*), MAX(t.f) FROM mine.t t JOIN Object o ON o.objectId = t.k")
    assert "skyChunk" not in plan.merge.partial.text + plan.merge.statement.text
    assert "skyChunk" in planner.fragment(plan).main.text


def test_uses_of_a_table_are_split_apart():
    plan = planned("SELECT 1 FROM mine.t a JOIN Object o ON o.objectId = a.k JOIN mine.t b ON b.f = a.f")
    assert split(plan) == [("t", None), ("t", KeySplit("k", "Object", False))]
    assert len({ship.target for ship in plan.ships}) == 2
    plan = planned(
        "SELECT 1 FROM Object o LEFT JOIN mine.t a ON o.objectId = a.k JOIN mine.t b ON o.objectId = b.k"
    )
    assert split(plan) == [("t", KeySplit("k", "Object", False))]
    plan = planned(
        "SELECT 1 FROM mine.t a JOIN Object o ON o.objectId = a.k JOIN mine.t2 b ON b.i = o.objectId"
    )
    assert split(plan) == [("t", KeySplit("k", "Object", False)), ("t2", KeySplit("i", "Object", False))]


def test_a_cross_match_is_split_by_place():
    plan = planned(
        "SELECT 1 FROM mine.t t JOIN Object o ON scisql_angSep(t.ra, t.decl, o.ra, o.decl) < 0.1 "
        "AND t.k = o.objectId"
    )
    assert [(ship.split is not None, ship.key) for ship in plan.ships] == [(True, None)]


def test_a_list_of_keys_is_cut_for_every_chunk():
    plan = planned("SELECT * FROM Source WHERE objectId IN (1, 2, 3, 4, 5, 6, 7, 8)")
    assert plan.keys == plan.restriction == ByKey("Object", tuple("12345678"))
    main = planner.fragment(plan).main
    assert main.text.endswith(f"`objectId` IN ({KEYS_MARK})")
    assert lists(main) == (1,)
    assert len(template(main)[0]) == 3


@pytest.mark.parametrize(
    "condition",
    [
        "objectId IN (1, 2, 3, 4, 5, 6, 7)",
        "objectId IN (1, 2, 3, 4, 5, 6, 7, 8) OR flux > 1",
        "objectId NOT IN (1, 2, 3, 4, 5, 6, 7, 8)",
        "NOT (objectId IN (1, 2, 3, 4, 5, 6, 7, 8))",
        "objectId IN (1, 2, 3, 4, 5, 6, 7, 8.0)",
        "objectId IN (1, 2, 3, 4, 5, 6, 7, NULL)",
        "objectId IN (1, 2, 3, 4, 5, 6, 7, 9223372036854775808)",
        "sourceId IN (1, 2, 3, 4, 5, 6, 7, 8)",
        "objectId + 1 IN (1, 2, 3, 4, 5, 6, 7, 8)",
    ],
)
def test_other_lists_go_whole(condition):
    plan = planned("SELECT * FROM Source WHERE " + condition)
    assert plan.keys is None
    assert KEYS_MARK not in planner.fragment(plan).main.text


def test_parameters_of_a_list_go_with_it():
    statement = read(
        f"SELECT * FROM Source WHERE flux > ? AND objectId IN ({', '.join('?' * 9)}) AND band = ?",
        "sky",
        CATALOGUE,
        LexerMode(),
    )
    plan = statement.plan([1.5, *range(9), "r"])
    assert plan.keys == ByKey("Object", tuple(map(str, range(9))))
    assert planner.fragment(plan).main.parameters == (0, 10)
