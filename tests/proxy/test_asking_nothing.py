"""Statements that no row can answer, and PREPARE, ask no worker: BI tools learn columns so, of tables with billions of rows."""

import pytest

from tests.support.agents import until
from tests.support.rawclient import outcome
from tests.support.servers import Inside

GROUPS = "SELECT kind, COUNT(*) n, MAX(d) FROM lab.Star GROUP BY kind"
WITHOUT_ROWS = [
    "SELECT * FROM Object LIMIT 0",
    "SELECT * FROM Object WHERE FALSE",
    f"{GROUPS} LIMIT 0",
    f"{GROUPS} WITH ROLLUP LIMIT 0",
    "SELECT COUNT(*) FROM Object LIMIT 0",
    "SELECT COUNT(*) FROM Object WHERE vmag > 3 LIMIT 0",
    "SELECT name FROM lab.Star ORDER BY name LIMIT 0",
    "SELECT DISTINCT name FROM lab.Star LIMIT 0 OFFSET 3",
    f"SELECT * FROM ({GROUPS}) q LIMIT 0",
    f"SELECT * FROM ({GROUPS}) q WHERE 1=0",
    f"WITH q AS ({GROUPS}) SELECT * FROM q WHERE 1=0",
    "SELECT * FROM (SELECT * FROM lab.Star LIMIT 0) q",
    "SELECT name FROM lab.Star UNION SELECT code FROM lab.Star LIMIT 0",
    "SELECT name FROM lab.Star WHERE 1=0 UNION SELECT code FROM lab.Star WHERE NULL",
    "SELECT * FROM Object WHERE 1=0",
    "SELECT * FROM Object WHERE (0 = 1)",
    "SELECT * FROM Object WHERE 1<>1",
    "SELECT * FROM Object WHERE 1=0 AND vmag > 3",
    "SELECT * FROM Object WHERE objectId IN (1, 2) AND NULL",
    "SELECT * FROM Object WHERE bv = NULL ORDER BY vmag",
    "SELECT o.objectId, d.flux FROM Object o JOIN Detection d ON o.objectId = d.objectId AND 1 = 0",
    "SELECT a.objectId, s.starId FROM Object a JOIN lab.Star s ON a.vmag = s.d WHERE 1 = 0",
    "SELECT a.objectId, s.starId FROM Object a JOIN lab.Star s ON a.vmag = s.d LIMIT 0",
    f"{GROUPS} HAVING FALSE",
    f"{GROUPS} WITH ROLLUP HAVING 1=0 AND n > 3",
    "SELECT COUNT(*) FROM Object HAVING NULL",
    "SELECT objectId, vmag FROM Object HAVING 1=0 ORDER BY vmag LIMIT 3",
    "SELECT objectId, COUNT(*) FROM Detection GROUP BY objectId HAVING 0 AND COUNT(*) > 1",
    "SELECT GROUP_CONCAT(kind) FROM lab.Star HAVING FALSE",
    f"SELECT * FROM ({GROUPS} HAVING 1=0) q",
]
ONE_ROW = [
    "SELECT COUNT(*), COUNT(DISTINCT kind), SUM(d), GROUP_CONCAT(name) FROM lab.Star WHERE 1=0",
    f"SELECT COUNT(*), SUM(n) FROM ({GROUPS}) q WHERE 1=0",
    "SELECT COUNT(*), MAX(starId) FROM (SELECT * FROM lab.Star LIMIT 0) q",
    "SELECT COUNT(*) FROM (SELECT COUNT(*) c FROM lab.Star HAVING 0) q",
]
GOOD = [
    "SELECT * FROM Object",
    "SELECT objectId, vmag FROM Object WHERE objectId = ?",
    "SELECT COUNT(*), AVG(vmag) FROM Object WHERE vmag > ?",
    GROUPS,
    f"SELECT n, COUNT(*) FROM ({GROUPS}) q GROUP BY n",
    "SELECT a.objectId, s.starId FROM Object a JOIN lab.Star s ON a.vmag = s.d ORDER BY 1 LIMIT 7",
    "SELECT o1.objectId, o2.objectId FROM Object o1, Object o2 WHERE scisql_angSep(o1.ra, o1.decl, o2.ra, o2.decl) < 0.01",
    "CREATE TABLE own_protocol.kept AS SELECT kind, COUNT(*) n FROM lab.Star GROUP BY kind",
]


@pytest.fixture
def asked(cluster):
    """Return what tells the jobs that agents have been given."""
    inside = Inside(cluster.directory)

    def jobs():
        figures = [inside.figures(name) for name in ("worker1", "worker2")]
        counted = [value for found in figures for name, value in found.items() if "_jobs_total" in name]
        running = sum(found["skyshard_agent_running"] + found["skyshard_agent_queued"] for found in figures)
        return sum(counted), running

    return jobs


async def settled(asked):
    """Return the number of jobs when what others asked has ended."""
    seen = [(-1.0, 1.0)]

    async def same_twice():
        seen.append(asked())
        return seen[-1] == seen[-2] and not seen[-1][1]

    await until(same_twice, pause=0.1)
    return seen[-1][0]


async def test_no_worker_is_asked_for_what_has_no_rows(pair, own, asked):
    ours, theirs = pair()
    before = await settled(asked)
    for number, sql in enumerate((*WITHOUT_ROWS, *ONE_ROW)):
        for client in (ours, theirs):
            rows = client.query(sql).rows
            assert len(rows) == (number >= len(WITHOUT_ROWS)), sql
            if (
                not rows and "UNION" not in sql
            ):  # MariaDB counts what LIMIT cuts off, and no row of an empty table
                assert client.query("SELECT FOUND_ROWS()").rows == [(str(len(rows)).encode(),)], sql
            assert len(client.execute(client.prepare(sql)[0]).rows) == len(rows), sql
        assert ours.query(sql).rows == theirs.query(sql).rows, sql
    ours.query(f"CREATE TABLE {own}.t AS {GROUPS} LIMIT 0")
    ours.query(f"INSERT INTO {own}.t SELECT kind, COUNT(*), MAX(d) FROM lab.Star WHERE 1=0 GROUP BY kind")
    assert ours.query(f"SELECT COUNT(*) FROM {own}.t").rows == [(b"0",)]
    ours.query("SET sql_select_limit = 0")
    for sql in ("SELECT COUNT(*) FROM Object", f"SELECT * FROM ({GROUPS}) q", "SELECT * FROM Object"):
        assert ours.query(sql).rows == [], sql
    assert await settled(asked) == before
    ours.query("SET sql_select_limit = DEFAULT")
    assert ours.query("SELECT MAX(vmag) FROM Object").rows
    assert await settled(asked) > before


async def test_no_worker_is_asked_by_prepare(pair, own, asked):
    ours, theirs = pair()
    before = await settled(asked)
    for sql in GOOD:
        told = [ours.prepare(sql)[1:]]
        if "scisql" not in sql and "own_" not in sql:
            told.append(theirs.prepare(sql)[1:])
        assert told.count(told[0]) == len(told), sql
        ours.query(f"PREPARE s FROM '{sql}'")
        ours.query("DEALLOCATE PREPARE s")
    assert await settled(asked) == before


def test_limit_0_does_not_end_what_must_be_counted(pair):
    seen = []
    for client in pair():
        rows = client.query("SELECT SQL_CALC_FOUND_ROWS objectId FROM Object WHERE vmag < 3 LIMIT 0").rows
        seen.append((rows, client.query("SELECT FOUND_ROWS()").rows))
    assert seen[0] == seen[1]
    assert seen[0][1] > [(b"0",)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT objectId, (SELECT starId FROM lab.Star) FROM Object LIMIT 0",
        "SELECT COUNT(*), (SELECT starId FROM lab.Star) FROM Object WHERE vmag > 3 LIMIT 0",
        "SELECT nosuch FROM Object LIMIT 0",
        "SELECT MAX(COUNT(*)) FROM Object WHERE 1=0",
        "SELECT objectId FROM Object WHERE 1=0 AND vmag = (SELECT starId FROM lab.Star)",
        "SELECT COUNT(*), (SELECT starId FROM lab.Star) FROM Object WHERE 1=0",
        "SELECT COUNT(*) FROM Object WHERE 18446744073709551615 + 1 = 0",
    ],
)
def test_errors_without_rows_are_mariadbs(pair, sql):
    seen = []
    for client in pair():
        client.command(b"\x03" + sql.encode())
        seen.append(outcome(client))
    assert seen[0] == seen[1]
