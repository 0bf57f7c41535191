"""How an UPDATE or DELETE is taken apart and put together again over gathered rows."""

import pytest

from shard.catalog.model import Column, Kind, Table
from shard.errors import SkyError
from shard.planner import change as changes
from shard.planner import planner
from shard.planner.lexer import LexerMode, tokenize
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

MINE = Table(
    name="t", kind=Kind.OWN, columns=tuple(Column(name=name, sql_type="BIGINT") for name in ("id", "x"))
)


def planned(sql, values=()):
    change = changes.find(sql, tokenize(sql))
    statement = read(change.query, "sky", CATALOGUE, LexerMode())
    prepared = changes.prepared(change, statement)
    return change, prepared, changes.plan(change, statement.over([("mine", MINE)]), values, None)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (
            "UPDATE IGNORE mine.t JOIN Object o ON o.objectId = t.id SET t.x = o.ra, id = DEFAULT WHERE o.f > 1",
            "UPDATE IGNORE `mine`.`t` JOIN `skyshard_scratch`.`gather_0` AS `o` ON `o`.`objectId` = `t`.`id`"
            " SET `t`.`x` = `o`.`ra`, id = DEFAULT WHERE `o`.`f` > 1",
        ),
        (
            "DELETE FROM mine.t WHERE id IN (SELECT objectId FROM Object) ORDER BY id LIMIT 3 RETURNING id, x",
            "DELETE FROM `mine`.`t` WHERE `id` IN (SELECT `p0` AS `objectId` FROM `skyshard_scratch`.`gather_0`)"
            " ORDER BY `id` LIMIT 3 RETURNING id, x",
        ),
        (
            "DELETE a.* FROM mine.t a, Source s WHERE s.objectId = a.id AND s.flux > 2",
            "DELETE a.* FROM `mine`.`t` AS `a`, `skyshard_scratch`.`gather_0` AS `s`"
            " WHERE `s`.`objectId` = `a`.`id` AND `s`.`flux` > 2",
        ),
    ],
)
def test_the_statement_over_gathered_rows(sql, text):
    assert planned(sql)[2].gather.statement.text.strip() == text


def test_only_listed_rows_are_gathered():
    plan = planned("UPDATE mine.t JOIN Object o ON o.objectId = t.id SET t.x = o.ra")[2]
    assert [ship.table.name for ship in plan.gather.parts[0].plan.ships] == ["t"]
    assert plan.gather.parts[0].columns == ("objectId", "ra")


def test_parameters_keep_their_places():
    sql = (
        "UPDATE mine.t JOIN Object o ON o.objectId = t.id AND o.ra < ? SET t.x = o.ra + ?, id = ?"
        " WHERE o.decl > ? LIMIT 7"
    )
    change, prepared, plan = planned(sql, (1, 2, 3, 4))
    assert change.order == (1, 2, 0, 3)
    assert prepared.text.count("?") == 4
    assert plan.gather.statement.parameters == (2, 0, 1, 3)
    assert planner.fragment(plan.gather.parts[0].plan).main.parameters == (3, 2)


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("UPDATE mine.t JOIN Object o ON 1 SET o.ra = 1", 1290),
        ("UPDATE mine.t JOIN Object o ON 1 SET ra = 1", 1290),
        ("UPDATE (mine.t JOIN Object o ON 1) SET o.ra = 1", 1290),
        ("UPDATE mine.t JOIN (mine.u JOIN Object o ON 1) ON 1 SET o.ra = 1", 1290),
        ("DELETE o FROM mine.t JOIN Object o ON 1", 1290),
        ("DELETE FROM Object WHERE ra = 1", 1290),
        ("DELETE FROM mine.t WHERE id IN (SELECT objectId FROM Object) RETURNING (SELECT 1)", 1235),
        ("UPDATE mine.t SET x = SLEEP(1) WHERE id IN (SELECT objectId FROM Object)", 1235),
    ],
)
def test_what_is_refused(sql, number):
    with pytest.raises(SkyError) as caught:
        planned(sql)
    assert caught.value.errno == number


@pytest.mark.parametrize("sql", ["SELECT 1", "UPDATE t", "DELETE HISTORY t", "UPDATE t SET 1", "DELETE t"])
def test_what_is_no_change(sql):
    assert changes.find(sql, tokenize(sql)) is None
