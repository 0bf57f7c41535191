"""A proxy of several processes: connections spread, and kills, limits and restarts hold for all of them."""

import asyncio
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import psutil
import pytest

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from proxy.session.throttle import ACCOUNT_FAILURES
from shard.errors import ServerError
from tests.proxy.test_cancel import GONE_S, MARK, PAIRS, SLOW
from tests.support.agents import until
from tests.support.rawclient import RawClient
from tests.support.rawclient import ServerError as RefusedError
from tests.support.servers import ExtraProxy, Inside


@pytest.fixture
def shared(cluster, tmp_path):
    made = Shared(cluster, tmp_path)
    yield made
    made.proxy.stop()


class Shared:
    """A proxy of two processes on a cluster; three queries a user, twelve connections."""

    def __init__(self, cluster, directory):
        self.proxy = ExtraProxy(cluster, directory, 2, limits={"queries": 3}, max_connections=12)
        self.address = Address("root", "", host="127.0.0.1", port=self.proxy.port)

    def figure(self, process: int, name: str) -> float:
        with urlopen(f"http://127.0.0.1:{self.proxy.http + process}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.split(" ")[0].split("{")[0] == name
        )

    def spread(self, name: str) -> list[float]:
        return [self.figure(process, name) for process in (0, 1)]

    async def everywhere(self) -> None:
        async def up():
            try:
                return self.spread("skyshard_sessions") is not None
            except OSError:
                return False

        await until(up, 30, pause=0.1)

    async def connection(self, process: int) -> RawConnection:
        """Return a connection of one of the processes."""
        while True:
            before = self.figure(process, "skyshard_sessions")
            made = await RawConnection.open(self.address, "hip")
            if self.figure(process, "skyshard_sessions") > before:
                return made
            await made.close()  # the kernel has given it to the other

    async def _are(self, number: int) -> bool:
        """Whether so many sessions are counted."""
        return sum(self.spread("skyshard_sessions")) == number

    async def connections(self, number: int) -> list[RawConnection]:
        """Return so many connections, of which each process has some."""
        await self.everywhere()
        found = [await RawConnection.open(self.address, "hip") for _ in range(number)]
        while min(self.spread("skyshard_sessions")) < 1:  # the kernel has dealt all to one
            await found.pop().close()
            await until(lambda: self._are(number - 1))  # there is room for another
            found.append(await RawConnection.open(self.address, "hip"))
        return found


async def ended(connections) -> None:
    for connection in connections:
        await connection.close()


async def test_connections_and_their_limit_are_shared(shared):
    found = await shared.connections(12)

    async def all_counted():
        return sum(shared.spread("skyshard_sessions")) == 12

    await until(all_counted)
    for _ in range(4):  # whichever process it comes to
        with pytest.raises((ServerError, ConnectionLost)) as caught:
            await RawConnection.open(shared.address)
        assert "1040" in str(caught.value) or getattr(caught.value, "errno", 0) == 1040
    await found.pop().close()

    async def admitted():
        try:
            found.append(await RawConnection.open(shared.address))
        except (ServerError, ConnectionLost):
            return False
        return True

    await until(admitted)
    await ended(found)


async def test_queries_are_limited_and_killed_across_processes(cluster, shared):
    inside = Inside(cluster.directory)
    found = await shared.connections(8)
    running = [asyncio.ensure_future(one.query(SLOW.encode())) for one in found[:3]]

    async def three():
        return sum(shared.spread("skyshard_running_queries")) == 3

    await until(three)
    for other in found[3:]:  # of both processes
        with pytest.raises(ServerError) as caught:
            await other.fetch("SELECT COUNT(*) FROM Object WHERE ra < 5")
        assert caught.value.errno == 1226
    for other, victim in zip(found[5:], found[:3], strict=True):
        began = time.monotonic()
        await other.run(f"KILL QUERY {victim.thread_id}")
    errors = await asyncio.gather(*running, return_exceptions=True)
    assert [error.errno for error in errors] == [1317] * 3

    async def nowhere():
        return not await inside.statements(MARK)

    await until(nowhere)
    assert time.monotonic() - began < GONE_S
    for one in found:
        assert int((await one.fetch("SELECT COUNT(*) FROM Object"))[0][0]) > 0
    await ended(found)


async def test_guessing_is_slowed_down_for_all_processes(shared, account):
    account("shared_target")
    await shared.everywhere()
    seen = []
    for attempt in range(ACCOUNT_FAILURES + 8):
        with RawClient(shared.proxy.port) as client, pytest.raises(RefusedError) as caught:
            client.connect(user="shared_target", password=f"guess{attempt}")
        seen.append(caught.value.errno)
    given_back = seen[ACCOUNT_FAILURES:].count(1045)  # one for every six seconds that this took
    assert seen[:ACCOUNT_FAILURES] == [1045] * ACCOUNT_FAILURES
    assert given_back < 4
    with RawClient(shared.proxy.port).connect(user="root") as client:  # whoever else comes from there
        assert client.query("SELECT 1").rows == [(b"1",)]


async def test_running_queries_are_shown_by_every_process(shared):
    found = await shared.connections(6)
    running = asyncio.ensure_future(found[0].query(PAIRS.encode()))
    number = found[0].thread_id
    seen: dict[int, set[bytes]] = {}

    async def by_all():
        for other in found[1:]:
            for row in await other.fetch("SHOW FULL PROCESSLIST"):
                if int(row[0]) == number and row[6] and b" chunks" in row[6]:
                    assert (row[4], row[7]) == (b"Query", PAIRS.encode())
                    assert 0 <= float(row[8]) <= 100
                    seen.setdefault(other.thread_id, set()).add(row[6])
        return len(seen) == 5 and all(len(states) > 1 for states in seen.values())

    await until(by_all, 40)
    for other in found[1:]:
        ((command, text, stage, stages, percent),) = await other.fetch(
            "SELECT COMMAND, INFO, STAGE, MAX_STAGE, PROGRESS FROM information_schema.PROCESSLIST "
            f"WHERE ID = {number} AND STATE LIKE '%chunks'"
        )
        assert (command, text) == (b"Query", PAIRS.encode())
        assert 1 <= int(stage) <= int(stages) <= 2
        assert 0 <= float(percent) <= 100
        short = {int(row[0]): row[7] for row in await other.fetch("SHOW PROCESSLIST")}
        assert short[number] == PAIRS.encode()[:100]
    await found[5].run(f"KILL QUERY {number}")
    with pytest.raises(ServerError):
        await running
    for other in found[1:]:
        assert not [r for r in await other.fetch("SHOW PROCESSLIST") if b" chunks" in (r[6] or b"")]
    await ended(found)


async def stop_twice(shared, busy: RawConnection, resting: RawConnection) -> None:
    """As systemd does, the first signal goes to all processes: that is one, and what a client does may end."""
    parent = psutil.Process(shared.proxy.process.pid)
    children = parent.children()
    await busy.run("START TRANSACTION")
    await busy.fetch("SELECT COUNT(*) FROM mysql.user")
    for process in (parent, *children):
        process.send_signal(signal.SIGTERM)

    async def left():
        return resting.closed

    await until(left)
    assert await busy.fetch("SELECT 1") == [[b"1"]]
    assert shared.proxy.process.poll() is None
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(shared.proxy.process.wait, 30) == 0
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_a_process_that_dies_is_started_again_and_holds_no_limit(shared):
    found = await shared.connections(6)
    victim, other = psutil.Process(shared.proxy.process.pid).children()
    victim.kill()

    async def renewed():
        now = psutil.Process(shared.proxy.process.pid).children()
        return len(now) == 2 and victim not in now and other in now

    await until(renewed, 30, pause=0.05)
    await shared.everywhere()
    for one in found:  # the other process's go on
        try:
            await one.fetch("SELECT 1")
        except ConnectionLost:
            continue
        await one.close()
    again = await shared.connections(12)
    assert sum(shared.spread("skyshard_sessions")) == 12
    await ended(again[2:])
    await stop_twice(shared, *again[:2])


def test_processes_that_cannot_start_end_the_command(tmp_path):
    path = tmp_path / "proxy.yaml"
    path.write_text("listen: 127.0.0.1:1\n")
    done = subprocess.run(
        [sys.executable, "-m", "skyshard.cli", "proxy", "--config", str(path), "--processes", "2"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "skyshard proxy:" in done.stderr
    assert "Traceback" not in done.stderr


STORED = SLOW.replace("COUNT(*)", "COUNT(*) AS n", 1)
FILLING = [
    f"CREATE TABLE own_protocol.stored AS {STORED}",
    f"INSERT INTO own_protocol.t {STORED}",
    f"UPDATE own_protocol.t SET n = ({SLOW})",
    f"SELECT n, ({SLOW}) FROM own_protocol.t",
]


async def test_a_kill_from_elsewhere_ends_what_fills_tables_of_the_session(cluster, shared, own):
    """The home server waits for rows then, and does not heed it."""
    inside = Inside(cluster.directory)
    await shared.everywhere()
    client = await shared.connection(0)
    others = [await shared.connection(1), await RawConnection.open(inside.server("home"))]
    await client.run(f"CREATE TABLE {own}.t AS SELECT 1 AS n")

    async def somewhere():
        return await inside.statements(MARK)

    async def nowhere():
        return not await inside.statements(MARK)

    async def held():
        """MariaDB forgets the KILL of a session that is idle there, as this one is between its first statements."""
        return await others[1].fetch(
            f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {client.thread_id} "
            "AND (INFO LIKE 'LOAD DATA %' OR INFO LIKE '%DO GET_LOCK(%')"
        )

    for number, sql in enumerate(FILLING):
        running = asyncio.ensure_future(client.query(sql.encode()))
        await until(somewhere)
        if number % 2:  # else the processes tell each other
            await until(held)
        began = time.monotonic()
        await others[number % 2].run(f"KILL QUERY {client.thread_id}")
        await until(nowhere)
        assert time.monotonic() - began < GONE_S, sql
        (error,) = await asyncio.gather(running, return_exceptions=True)
        assert (error.errno, error.sqlstate) == (1317, "70100")
        assert await client.fetch(f"SELECT n FROM {own}.t") == [[b"1"]]
    await ended([client, *others])
