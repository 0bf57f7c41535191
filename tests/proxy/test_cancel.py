"""However a query is given up, nothing of it runs on any worker a second later."""

import asyncio
import signal
import subprocess
import sys
import time

import pymysql
import pytest

from backend.connection import RawConnection
from skyshard.cluster.mariadb import find
from tests.support.agents import until
from tests.support.servers import Inside

GONE_S = 1.0
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


async def begin(cluster):
    """Start the slow query; return its connection and the task that waits for its answer."""
    client = await RawConnection.open(cluster.address, "hip")
    return client, asyncio.ensure_future(client.query(SLOW.encode()))


@pytest.mark.parametrize("what", ["QUERY", "CONNECTION"])
async def test_kill(cluster, inside, what):
    client, answer = await begin(cluster)
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


async def test_a_client_that_disconnects(cluster, inside):
    client, answer = await begin(cluster)
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
    query = asyncio.ensure_future(asyncio.to_thread(ask, client, PAIRS))
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


def ask(client, sql):
    try:
        client.query(sql)
    except pymysql.MySQLError as error:
        return error.args[0]
    return 0
