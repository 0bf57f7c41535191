"""Which fragments read one chunk table and nothing else: an agent may run them over the tables of several chunks."""

import pytest

from shard.planner import planner
from shard.planner.fragment import template
from shard.planner.lexer import LexerMode
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE


def table_of(sql):
    statement = read(sql, "sky", CATALOGUE, LexerMode())
    return planner.fragment(statement.plan()).table


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) FROM Object WHERE f > 1",
        "SELECT name, COUNT(*) FROM sky.Object AS o GROUP BY 1 ORDER BY 2 DESC LIMIT 3",
        "SELECT COUNT(*) FROM (SELECT DISTINCT objectId FROM Source) AS d",
        "SELECT COUNT(*) FROM Source WHERE scisql_s2PtInCircle(1, 2, 3, 4, 5) = 1",
    ],
)
def test_one_table_alone(sql):
    found = table_of(sql)
    assert found is not None
    name = "Source" if "Source" in sql else "Object"
    assert template(found) == ((f"`sky`.`{name}_", "`"), ())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) FROM Object JOIN Source USING (objectId)",
        "SELECT COUNT(*) FROM (SELECT objectId, flux AS united FROM Source) d WHERE objectId IN (1, 2, 3, 4, 5, 6, 7, 8, 9)",
        "SELECT ra FROM Object",
        "SELECT COUNT(*) FROM Object AS a JOIN Object AS b USING (objectId)",
        "SELECT COUNT(*) FROM Source JOIN Filter USING (band)",
        "SELECT COUNT(*) FROM Source WHERE band IN (SELECT band FROM Filter)",
        "SELECT COUNT(*) FROM Object AS o WHERE EXISTS (SELECT 1 FROM Source AS s WHERE s.objectId = o.objectId)",
        "SELECT COUNT(*) FROM Pair JOIN Object USING (objectId) JOIN Ref ON refObjectId = refId",
        "SELECT COUNT(*) FROM Object AS a, Object AS b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.05",
    ],
)
def test_anything_beside_it(sql):
    assert table_of(sql) is None
