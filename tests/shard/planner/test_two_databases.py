"""Chunk queries read one database's tables on workers: those of another need not be there, or not as they are now."""

import msgspec
import pytest

from shard.planner.lexer import LexerMode
from shard.planner.plan import Strategy
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

SKY = CATALOGUE["sky"]
CATALOGUES = {**CATALOGUE, "other": msgspec.structs.replace(SKY, name="other")}
JOINED = [
    "SELECT o.objectId, f.wl FROM Object o JOIN {}.Filter f ON f.band = o.name",
    "SELECT o.objectId FROM Object o JOIN (SELECT band FROM {}.Filter WHERE wl > 1) f ON f.band = o.name",
    "SELECT o.objectId FROM Object o WHERE o.name IN (SELECT f.band FROM {}.Filter f)",
    "SELECT o.objectId, (SELECT MAX(wl) FROM {}.Filter f WHERE f.band = o.name) FROM Object o",
    "SELECT COUNT(*) FROM Object o LEFT JOIN {}.Filter f ON f.band = o.name",
    "SELECT d.objectId FROM (SELECT o.objectId FROM Object o JOIN {}.Filter f ON f.band = o.name) d",
    "SELECT o.objectId FROM Object o WHERE EXISTS (SELECT 1 FROM {}.Source s WHERE s.objectId = o.objectId)",
]


def planned(sql):
    return read(sql, "sky", CATALOGUES, LexerMode()).plan()


@pytest.mark.parametrize("sql", JOINED)
def test_what_is_of_the_same_database_is_joined_on_the_workers(sql):
    assert planned(sql.format("sky")).strategy is not Strategy.GATHER


@pytest.mark.parametrize("sql", JOINED)
def test_tables_of_another_database_are_read_at_home(sql):
    plan = planned(sql.format("other"))
    assert plan.strategy is Strategy.GATHER
    for part in plan.gather.parts:
        assert {database for database, _ in part.plan.tables} == {part.plan.database}
