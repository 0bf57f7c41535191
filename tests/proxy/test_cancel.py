"""However a query is given up, nothing of it runs on any worker a second later."""

import asyncio
import signal
import subprocess
import sys
import time

import pymysql
import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from skyshard.cluster.mariadb import find
from tests.support.agents import until
from tests.support.servers import Inside

GONE_S = 5.0
"""The statements would take minutes, or (PAIRS) 10 seconds and more."""
SLOW = (
    "SELECT COUNT(*) FROM Detection a JOIN Detection b ON a.objectId = b.objectId JOIN Detection c "
    "ON a.objectId = c.objectId WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd * c.flux) > 3"
)
PAIRS = (
    "SELECT COUNT(*) FROM Detection a JOIN Detection b ON a.objectId = b.objectId "
    "WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd) > 3"
)
MARK = "SIN("


@pytest.fixture
def inside(cluster):
    return Inside(cluster.directory)


async def runs(inside):
    async def somewhere():
        return await inside.statements(MARK)

    await until(somewhere)


async def gone(inside):
    began = time.monotonic()

    async def nowhere():
        return not await inside.statements(MARK)

    await until(nowhere)
    assert time.monotonic() - began < GONE_S


def ask(client, sql, binary):
    """Run a statement as text, or prepare and execute it."""
    return client.execute(sql.encode(), ()) if binary else client.query(sql.encode())


async def begin(cluster, binary):
    """Start the slow query; return its connection and the task that waits for its answer."""
    client = await RawConnection.open(cluster.address, "hip")
    return client, asyncio.ensure_future(ask(client, SLOW, binary))


BOTH = pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])


@BOTH
@pytest.mark.parametrize("what", ["QUERY", "CONNECTION"])
async def test_kill(cluster, inside, what, binary):
    client, answer = await begin(cluster, binary)
    other = await RawConnection.open(cluster.address)
    await runs(inside)
    await other.run(f"KILL {what} {client.thread_id}")
    await gone(inside)
    (error,) = await asyncio.gather(answer, return_exceptions=True)
    if what == "QUERY":
        assert (error.errno, error.sqlstate) == (1317, "70100")
        assert await client.fetch("SELECT 1") == [[b"1"]]
    else:
        assert client.closed or type(error).__name__ == "ConnectionLost"
    await client.close()
    await other.close()


@pytest.fixture(scope="module")
def own(cluster):
    """A table of a user's own, too large for the workers: what is joined with it the home server sends."""
    with pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", autocommit=True) as client:
        with client.cursor() as cursor:
            cursor.execute("CREATE OR REPLACE DATABASE own_cancel")
            cursor.execute("CREATE TABLE own_cancel.t AS SELECT 500 AS id, REPEAT('x', 17000000) AS word")
        yield
        with client.cursor() as cursor:
            cursor.execute("DROP DATABASE own_cancel")


@BOTH
@pytest.mark.parametrize(
    "tables", ["Detection", "own_cancel.t JOIN Object ON objectId + 0.0 <= id AND objectId < 600 AND word > ''"]
)  # fmt: skip
async def test_kill_among_rows(cluster, inside, own, tables, binary):
    """The error comes behind whole rows, and the connection goes on."""
    client = await RawConnection.open(cluster.address, "hip")
    other = await RawConnection.open(cluster.address)
    result = await ask(client, f"SELECT objectId, REPEAT('SIN(', 50000) FROM {tables}", binary)
    blocks = result.blocks()
    found = (await anext(blocks)).rows
    await other.run(f"KILL QUERY {client.thread_id}")
    with pytest.raises(ServerError) as caught:
        found += sum([block.rows async for block in blocks])
    assert (caught.value.errno, caught.value.sqlstate) == (1317, "70100")
    assert found > 0
    await gone(inside)
    again = await ask(client, "SELECT objectId FROM Object WHERE objectId < 5", binary)
    assert sum([block.rows async for block in again.blocks()]) == 4
    await client.close()
    await other.close()


@BOTH
async def test_a_client_that_disconnects(cluster, inside, binary):
    client, answer = await begin(cluster, binary)
    await runs(inside)
    client.abort()
    await gone(inside)
    await asyncio.gather(answer, return_exceptions=True)


async def test_ctrl_c_in_the_command_line_client(cluster, inside):
    command = [find("mariadb"), "-h127.0.0.1", f"-P{cluster.port}", "-uroot", "hip", "-e", SLOW]
    client = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    await runs(inside)
    client.send_signal(signal.SIGINT)
    await gone(inside)
    said, _ = await client.communicate()
    assert b"1317" in said


async def test_a_client_that_is_killed(cluster, inside):
    program = (
        "import pymysql, sys; pymysql.connect(host='127.0.0.1', port=int(sys.argv[1]), user='root', db='hip')"
        ".query(sys.argv[2])"
    )
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(cluster.port), SLOW)
    await runs(inside)
    client.kill()
    await gone(inside)
    await client.wait()


async def test_a_limit_stops_the_workers(cluster, inside):
    client = await RawConnection.open(cluster.address, "hip")
    sql = f"SELECT a.objectId {SLOW[SLOW.index('FROM') :]}".replace("> 3", "> -3 LIMIT 5")
    assert len(await client.fetch(sql)) == 5
    await gone(inside)
    await client.close()


def test_the_list_of_processes_counts_chunks(cluster):
    with pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", database="hip") as client:
        thread = asyncio.run(watched(cluster, client))
    assert thread


async def watched(cluster, client):
    """Watch a query's chunks being counted up, then kill it."""
    other = await RawConnection.open(cluster.address)
    query = asyncio.ensure_future(asyncio.to_thread(refused, client, PAIRS))
    seen = set()

    async def counted():
        for row in await other.fetch("SHOW FULL PROCESSLIST"):
            if int(row[0]) == client.thread_id() and row[6] and b" chunks" in row[6]:
                assert row[7] == PAIRS.encode()
                done, total = map(int, row[6].split()[1].split(b"/"))
                if total:
                    assert 0 <= done <= total
                    seen.add(done)
        return len(seen) > 2

    await until(counted, 60)
    await other.run(f"KILL QUERY {client.thread_id()}")
    assert await query == 1317
    await other.close()
    return seen


def refused(client, sql):
    try:
        client.query(sql)
    except pymysql.MySQLError as error:
        return error.args[0]
    return 0
