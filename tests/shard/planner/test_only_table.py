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
        "SELECT band, MAX(objectId) FROM Source GROUP BY band",
        "SELECT DISTINCT name, f FROM Object ORDER BY f LIMIT 7",
        "SELECT COUNT(DISTINCT band) FROM Source",
        "SELECT COUNT(*) FROM (SELECT band, flux FROM Source WHERE flux > 1) AS d",
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


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(DISTINCT objectId) FROM Source",
        "SELECT band, COUNT(DISTINCT objectId) FROM Source GROUP BY band",
        "SELECT COUNT(DISTINCT objectId), COUNT(DISTINCT band) FROM Source",
        "SELECT objectId, COUNT(*) AS n FROM Source AS s GROUP BY s.objectId ORDER BY n DESC LIMIT 3",
        "SELECT objectId AS o, COUNT(*) AS n FROM Source GROUP BY 1 ORDER BY n DESC LIMIT 3",
        "SELECT DISTINCT objectId AS o, band FROM Source ORDER BY o LIMIT 3",
        "SELECT COUNT(*) FROM (SELECT DISTINCT objectId FROM Source) AS d",
        "SELECT AVG(n) FROM (SELECT objectId, COUNT(*) AS n FROM Source GROUP BY objectId) AS d",
        "SELECT objectId, ROW_NUMBER() OVER (PARTITION BY objectId) AS n FROM Source ORDER BY n LIMIT 3",
    ],
)
def test_what_the_director_key_keeps_apart(sql):
    """Groups of a union would be as many as all its chunks have, and none would be of two chunks."""
    assert table_of(sql) is None
