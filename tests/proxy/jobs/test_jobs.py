"""Asynchronous queries: submitted, seen, fetched, cancelled, kept for a while, and never lost."""

import contextlib
import re
import time

import pymysql
import pytest

from proxy.jobs.runner import MOST_REFUSED
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


@contextlib.contextmanager
def cancelled():
    """Cancel the jobs (client, number) that are put into the list, however the block ends."""
    jobs = []
    try:
        yield jobs
    finally:
        for client, number in jobs:
            try:
                fetch(client, f"CANCEL {number}")
            except pymysql.MySQLError:
                assert seen(client, number)[0] not in ("QUEUED", "EXECUTING")  # it has ended by itself


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


async def test_a_job_may_do_what_its_user_may(cluster, client, account):
    """Whatever PREPARE does not see: the server's own tables, functions with the caller's rights, files."""
    account("poor@127.0.0.1", grants=("SELECT ON hip.*", "ALL ON poor.*"))
    for sql in (
        "CREATE OR REPLACE DATABASE poor",
        "CREATE FUNCTION poor.accounts() RETURNS INT READS SQL DATA SQL SECURITY INVOKER "
        "RETURN (SELECT COUNT(*) FROM mysql.global_priv)",
        "CREATE SQL SECURITY INVOKER VIEW poor.seen AS SELECT DISTINCT USER AS u FROM information_schema.PROCESSLIST",
    ):
        fetch(client, sql)
    try:
        with connect(cluster, user="poor", password="geheim", database="poor") as poor:
            assert (await ended(poor, submit(poor, "SELECT poor.accounts() AS n")))[0] == "FAILED"
            for sql, wanted in (
                ("SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST AS p WHERE p.USER = 'root'", 0),
                ("SELECT COUNT(*) AS n FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab'", 0),
                ("SELECT COUNT(*) AS n FROM seen WHERE u NOT LIKE 'skyshard_job_%'", 0),
                ("SELECT LOAD_FILE('/etc/hostname') IS NULL AS n", 1),
                ("SELECT COUNT(*) AS n FROM hip.Object WHERE objectId < 0", 0),
            ):
                number = submit(poor, sql)
                assert (await ended(poor, number))[0] == "COMPLETED", seen(poor, number)
                assert fetch(poor, f"SELECT n FROM qserv_result({number})") == [(wanted,)], sql
    finally:
        fetch(client, "DROP DATABASE poor")

    async def gone():
        return fetch(client, r"SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'skyshard\_job%'") == [(0,)]

    await until(gone, 10, pause=0.05)


async def test_rights_are_those_of_the_moment_it_begins(cluster, client, proxy, account, inside):
    account("poor@127.0.0.1")
    with connect(cluster, user="poor", password="geheim") as poor:
        with cancelled() as blockers:
            blockers += [(poor, submit(poor, PAIRS)) for _ in range(3)]  # `running_per_user` of them

            async def at_work():  # with the rights that they began with
                return all(seen(poor, blocker)[1] > 0 for _, blocker in blockers)

            await until(at_work, 20, pause=0.05)
            number = submit(poor, "SELECT objectId FROM Object WHERE objectId < 10")
            fetch(client, "REVOKE SELECT ON hip.* FROM poor@127.0.0.1")

            async def counted():
                figures = inside.figures("proxy1")
                waiting, running = (
                    figures[f'skyshard_jobs{{state="{one}"}}'] for one in ("waiting", "running")
                )
                return waiting == 1 and running == 3

            await until(counted, 20, pause=0.1)
            assert seen(poor, number)[0] == "QUEUED"
        state = await ended(poor, number)
    assert (state[0], "denied" in state[5]) == ("FAILED", True)


async def test_of_a_grant_on_columns_those_that_are_left_go_along(cluster, client, account):
    fetch(client, "CREATE OR REPLACE DATABASE poor")
    try:
        fetch(client, "CREATE TABLE poor.c AS SELECT 1 AS a, 2 AS `b``,(c)`, 3 AS c")
        account("poor@127.0.0.1", grants=("SELECT (c, a, `b``,(c)`), UPDATE (c), INSERT ON poor.c",))
        fetch(client, "ALTER TABLE poor.c DROP COLUMN c")
        with connect(cluster, user="poor", password="geheim", database="poor") as poor:
            number = submit(poor, "SELECT a, `b``,(c)` FROM c")
            assert (await ended(poor, number))[0] == "COMPLETED", seen(poor, number)
            assert fetch(poor, f"SELECT * FROM qserv_result({number})") == [(1, 2)]
    finally:
        fetch(client, "DROP DATABASE poor")


async def test_the_active_role_goes_along(cluster, client, account):
    account("poor@127.0.0.1", grants=())
    fetch(client, "CREATE OR REPLACE ROLE reader")
    try:
        fetch(client, "GRANT SELECT ON hip.* TO reader")
        fetch(client, "GRANT reader TO poor@127.0.0.1")
        with connect(cluster, user="poor", password="geheim", database=None) as poor:
            assert refused(poor, "SUBMIT SELECT COUNT(*) AS n FROM hip.Object")[0] == 1142
            fetch(poor, "SET ROLE reader")
            assert (await ended(poor, submit(poor, "SELECT COUNT(*) AS n FROM hip.Object")))[0] == "COMPLETED"
    finally:
        fetch(client, "DROP ROLE reader")


async def test_settings_and_limits_of_a_job(cluster, client, proxy):
    fetch(client, "SET skyshard_gather_limit = 1000")
    state = await ended(
        client, submit(client, "SELECT COUNT(*) AS n FROM Object a JOIN Object b ON a.vmag = b.vmag")
    )
    assert (state[0], "skyshard_gather_limit" in state[5]) == ("FAILED", True)
    fetch(client, "SET skyshard_gather_limit = DEFAULT")
    fetch(client, "SET max_statement_time = 0.5")
    state = await ended(client, submit(client, PAIRS))
    assert (state[0], "max_statement_time" in state[5]) == ("FAILED", True), state
    fetch(client, "SET max_statement_time = 0, sql_select_limit = 5")
    assert refused(client, "SUBMIT SELECT objectId FROM Object")[0] == 1235


async def test_limits(cluster, client, proxy, inside):
    with connect(proxy(jobs={"per_user": 1})) as strict:
        number = submit(strict, PAIRS)
        errno, message = refused(strict, "SUBMIT SELECT 1 AS one")
        assert (errno, "jobs.per_user" in message) == (1226, True)
        fetch(strict, f"CANCEL {number}")
        assert (await ended(strict, submit(strict, "SELECT 1 AS one")))[0] == "COMPLETED"


async def test_bytes_of_results_are_counted_as_they_are_written(cluster, client, proxy, account):
    account("full@127.0.0.1", grants=("SELECT ON hip.*",))
    with connect(cluster, user="full", password="geheim") as full, cancelled() as blockers:
        blockers += [(one, submit(one, PAIRS)) for one in (client, client, client, full)]

        async def busy():  # so that the other proxy takes what comes next
            return all(seen(one, number)[0] == "EXECUTING" for one, number in blockers)

        await until(busy, 20, pause=0.05)
        with connect(proxy(jobs={"user_bytes": 100_000}), user="full", password="geheim") as strict:
            small = await ended(strict, submit(strict, "SELECT objectId FROM Object WHERE objectId < 1000"))
            large = await ended(strict, submit(strict, "SELECT * FROM Detection"))
            assert small[0] == "COMPLETED", small
            assert (large[0], "exceeded" in large[5]) == ("FAILED", True)
            assert int(re.search(r"\((\d+)\)", large[5])[1]) < 2_000_000  # of far more


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


async def test_the_history_has_refused_queries_and_not_any_number_of_them(proxy, account):
    account("asker@127.0.0.1")
    refusals = 45
    quick = proxy(jobs={"history_min_s": 60.0})  # else one that the machine holds up is noted, and rightly
    with connect(quick, user="asker", password="geheim") as asker:
        # Refused when it is decided about, when the home server reads it, and when it is planned.
        fine = "SELECT COUNT(*) FROM Object"
        wrong = (
            "INSERT INTO Object SELECT * FROM Object",
            "SELECT nothing FROM Object",
            "SELECT COUNT(*) FROM Object a, Object b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 1",
        )
        said = {sql: refused(asker, sql)[1] for sql in wrong}
        fetch(asker, fine)
        for number in range(refusals):
            refused(asker, f"SELECT nothing{number} FROM Object")

        async def noted():
            rows = fetch(asker, "SELECT QUERY, STATUS, ERROR FROM information_schema.queries")
            found = {sql: (status, error) for sql, status, error in rows}
            return found if len(found) >= MOST_REFUSED else None

        await until(noted, 20, pause=0.1)
        found = await noted()
    assert {sql: found.get(sql) for sql in wrong} == {sql: ("FAILED", error) for sql, error in said.items()}
    assert fine not in found
    assert len(found) <= 2 * MOST_REFUSED < refusals  # a minute may have ended meanwhile


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
