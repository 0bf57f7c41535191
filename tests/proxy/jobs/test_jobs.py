"""Asynchronous queries: submitted, seen, fetched, cancelled, kept for a while, and never lost."""

import time

import pymysql
import pytest

from tests.proxy.test_cancel import MARK, PAIRS
from tests.support.agents import until
from tests.support.servers import Inside


@pytest.fixture
def inside(cluster):
    return Inside(cluster.directory)


def connect(cluster, **options):
    options = {"host": "127.0.0.1", "port": cluster.port, "user": "root", "database": "hip", **options}
    return pymysql.connect(autocommit=True, **options)


def fetch(client, sql):
    with client.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def submit(client, sql):
    ((number, place),) = fetch(client, f"SUBMIT {sql}")
    assert place == f"table:result_{number}"
    return number


def seen(client, number):
    found = fetch(
        client,
        "SELECT STATUS, CHUNKS, CHUNKS_COMP, `ROWS`, BYTES, ERROR, QUERY, TYPE, COMPLETED >= SUBMITTED "
        f"FROM information_schema.queries WHERE ID = {number}",
    )
    return found[0] if found else None


async def ended(client, number, seconds=60):
    async def over():
        return seen(client, number)[0] not in ("QUEUED", "EXECUTING")

    await until(over, seconds, pause=0.05)
    return seen(client, number)


def refused(client, sql):
    with pytest.raises(pymysql.MySQLError) as caught:
        fetch(client, sql)
    return caught.value.args


SELECTS = (
    "SELECT objectId, ra, decl, vmag FROM Object WHERE objectId < 500 ORDER BY vmag, objectId",
    "SELECT band, COUNT(*) AS n, MAX(flux) AS f FROM Detection GROUP BY band",
    "WITH b AS (SELECT objectId FROM Object ORDER BY vmag LIMIT 5) SELECT b.objectId, COUNT(*) AS n FROM b "
    "JOIN Detection d ON b.objectId = d.objectId GROUP BY b.objectId",
    "SELECT 1 AS one, 'ü''x' AS txt",
)


@pytest.mark.parametrize("sql", SELECTS)
async def test_a_result_is_what_the_query_answers(cluster, client, sql):
    number = submit(client, sql)
    state = await ended(client, number)
    wanted = fetch(client, sql)
    assert state[0] == "COMPLETED", state
    assert (state[3], state[5], state[6], state[7], state[8]) == (len(wanted), None, sql, "ASYNC", 1)
    assert state[1] == state[2]
    found = fetch(client, f"SELECT * FROM qserv_result({number})")
    assert (found if "ORDER" in sql and "WITH" not in sql else sorted(found)) == (
        wanted if "ORDER" in sql and "WITH" not in sql else sorted(wanted)
    )
    assert fetch(client, f"SELECT COUNT(*) FROM qserv_result({number}) AS r") == [(len(wanted),)]
    with connect(cluster) as other:  # any session of the same user
        assert len(fetch(other, f"select * from `QSERV_RESULT` ( {number} )")) == len(wanted)
    fetch(client, f"CALL qserv_result_delete({number})")
    errno, message = refused(client, f"SELECT * FROM qserv_result({number})")
    assert (errno, "has been deleted" in message) == (1105, True)
    assert fetch(client, f"SELECT 'qserv_result({number})'") == [(f"qserv_result({number})",)]


async def test_what_cannot_be_submitted(cluster, client, account):
    for sql, errno in (
        ("SELECT nothing FROM Object", 1054),
        ("SELECT * FROM Nowhere", 1146),
        ("SELECT FROM", 1064),
        ("DELETE FROM Object", 1235),
        ("SELECT CURRENT_USER(), objectId FROM Object", 1235),
        ("SELECT objectId + @x FROM Object", 1235),
        ("SELECT objectId FROM Object INTO OUTFILE '/tmp/x'", 1235),
    ):
        assert refused(client, f"SUBMIT {sql}")[0] == errno, sql
    account("poor@127.0.0.1", grants=())
    with connect(cluster, user="poor", password="geheim", database=None) as poor:
        assert refused(poor, "SUBMIT SELECT * FROM hip.Object")[0] == 1142


async def test_a_query_that_fails(client):
    number = submit(client, "SELECT objectId, (SELECT 1 UNION SELECT 2) AS x FROM Object")
    state = await ended(client, number)
    assert (state[0], "more than 1 row" in state[5]) == ("FAILED", True)
    errno, message = refused(client, f"SELECT * FROM qserv_result({number})")
    assert (errno, "more than 1 row" in message) == (1105, True)


async def test_cancel(client, inside):
    number = submit(client, PAIRS)

    async def runs():
        return await inside.statements(MARK) and seen(client, number)[1] > 0

    await until(runs, 30, pause=0.05)
    assert refused(client, f"SELECT * FROM qserv_result({number})")[0] == 1105
    assert refused(client, f"CALL qserv_result_delete({number})")[0] == 1105
    fetch(client, f"CANCEL {number}")
    assert seen(client, number)[0] == "ABORTED"

    async def gone():
        return not await inside.statements(MARK)

    await until(gone, 20, pause=0.05)
    assert refused(client, f"CANCEL {number}")[0] == 1105
    assert refused(client, "CANCEL 123456789")[0] == 1094


async def test_jobs_are_their_users_own(cluster, client, account):
    account("ada@127.0.0.1")
    account("bob@127.0.0.1")
    with (
        connect(cluster, user="ada", password="geheim") as ada,
        connect(cluster, user="bob", password="geheim") as bob,
    ):
        number = submit(ada, "SELECT objectId FROM Object WHERE objectId < 10")
        assert (await ended(ada, number))[0] == "COMPLETED"
        assert len(fetch(ada, f"SELECT * FROM qserv_result({number})")) == 9
        assert seen(bob, number) is None
        for sql in (
            f"SELECT * FROM qserv_result({number})",
            f"CALL qserv_result_delete({number})",
            f"CANCEL {number}",
        ):
            assert refused(bob, sql)[0] == 1094
        assert refused(bob, f"SELECT * FROM skyshard_jobs.result_{number}")[0] == 1142
        fetch(ada, f"CALL qserv_result_delete({number})")


async def test_limits(cluster, client, proxy, inside):
    with connect(proxy(jobs={"per_user": 1})) as strict:
        number = submit(strict, PAIRS)
        errno, message = refused(strict, "SUBMIT SELECT 1 AS one")
        assert (errno, "jobs.per_user" in message) == (1226, True)
        fetch(strict, f"CANCEL {number}")
        assert (await ended(strict, submit(strict, "SELECT 1 AS one")))[0] == "COMPLETED"


async def test_results_are_kept_for_some_time(client, proxy):
    number = submit(client, "SELECT objectId FROM Object WHERE objectId < 10")
    assert (await ended(client, number))[0] == "COMPLETED"
    proxy(jobs={"keep_s": 0.0, "history_s": 100.0})

    async def dropped():
        try:
            fetch(client, f"SELECT * FROM qserv_result({number})")
        except pymysql.MySQLError as error:
            return error.args[0] == 1105
        return False

    await until(dropped, 20, pause=0.1)
    assert seen(client, number)[0] == "COMPLETED"


async def test_the_history_has_other_queries_too(client):
    mark = f"SELECT COUNT(*) AS n{time.monotonic_ns()} FROM Detection WHERE SIN(flux) > 2"
    fetch(client, mark)

    async def noted():
        found = fetch(client, "SELECT QUERY, TYPE, STATUS, CHUNKS FROM information_schema.queries")
        return [row for row in found if row[0] == mark]

    await until(noted, 20, pause=0.1)
    ((_, kind, status, chunks),) = await noted()
    assert (kind, status, chunks > 100) == ("SYNC", "COMPLETED", True)


async def test_a_job_survives_its_proxy(cluster, inside):
    with connect(cluster) as client:
        wanted = fetch(client, "SELECT COUNT(*) FROM Detection WHERE SIN(flux) > 0.5")
        slow = "SELECT COUNT(*) AS n FROM Detection a WHERE SIN(a.flux) > 0.5 AND SHA2(REPEAT(a.flux, 200), 512) > ''"
        number = submit(client, slow)

        async def runs():
            return await inside.statements("SHA2(REPEAT")

        await until(runs, 30, pause=0.02)
    await inside.renew("proxy1")
    with connect(cluster) as client:
        assert (await ended(client, number, 90))[0] == "COMPLETED"
        assert fetch(client, f"SELECT * FROM qserv_result({number})") == wanted
        leftovers = fetch(client, "SHOW TABLES IN skyshard_jobs LIKE 'running%'")
        assert leftovers == []
