"""Proxies and agents are restarted one after the other, and no query fails for it."""

import asyncio
import contextlib
import itertools
import signal
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from skyshard.cluster.local import free_port
from tests.faults.field import QUERIES, WORKERS, ask
from tests.support.agents import until
from tests.support.rawclient import RawClient
from tests.support.servers import ExtraProxy

FEW = [0, 1, 2, 4, 6, 8]
SCAN = "SELECT starId, d FROM Star WHERE starId <> -71"
SAME = "SELECT starId, d FROM Star"
LONG = "SELECT visitId, n FROM Visit WHERE visitId <> -72"
CLIENTS = 4


def answer(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=5) as got:
            return got.status, got.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextlib.asynccontextmanager
async def locked(field, worker: int, table: str):
    """Keep a worker's chunks of a table from being read, until `UNLOCK TABLES` or the end of the block."""
    connection = await RawConnection.open(field.inside.server(f"worker{worker}"))
    found = await connection.fetch(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab' AND TABLE_ROWS > 0 "
        f"AND TABLE_NAME REGEXP '^{table}_[0-9]+$'"
    )
    await connection.run("LOCK TABLES " + ", ".join(f"lab.`{row[0].decode()}` WRITE" for row in found))
    try:
        yield connection
    finally:
        await connection.close()


async def opened(proxy, number: int) -> list[RawConnection]:
    address = Address("root", "", host="127.0.0.1", port=proxy.port)
    return [await RawConnection.open(address, "lab") for _ in range(number)]


async def ended(connection: RawConnection) -> None:
    async def lost() -> bool:
        return connection.closed

    await until(lost)


class Reader:
    """A client that has read the first rows of a cursor."""

    def __init__(self, port: int, sql: str) -> None:
        self.client = RawClient(port).connect(user="root", database="lab")
        self.number = self.client.prepare(sql)[0]
        self.client.execute(self.number, cursor=1)
        self.rows = len(self.client.fetch(self.number, 10)[0])

    def read_on(self) -> int:
        """Return how many rows there are, once the server has closed the connection behind them."""
        self.rows += len(self.client.fetch(self.number, 1000)[0])
        assert self.client.socket.recv(1) == b""
        self.client.socket.close()
        return self.rows


async def finishes(field, proxy, http: int) -> None:
    """A proxy with patience: what runs comes to its end, and what clients are in the middle of; a second signal ends it."""
    idle, asking, changing, locking, lasting = await opened(proxy, 5)
    await changing.run("START TRANSACTION")
    await changing.fetch("SELECT COUNT(*) FROM mysql.user")
    await locking.fetch("SELECT GET_LOCK('rolling', 5)")
    await lasting.run("CREATE TEMPORARY TABLE skyshard_scratch.mine (a INT)")
    readers = [
        await asyncio.to_thread(Reader, proxy.port, sql)
        for sql in (SAME, "SELECT seq FROM mysql.seq_1_to_50")
    ]

    async def runs() -> bool:
        return await field.runs(1, SCAN[-6:])

    async with locked(field, 1, "Star") as stars:
        scan = asyncio.create_task(ask(asking, SCAN))
        await until(runs)
        proxy.process.send_signal(signal.SIGTERM)
        await ended(idle)  # without a word, as MariaDB does
        assert await asyncio.to_thread(answer, f"http://127.0.0.1:{http}/healthz") == (503, "draining\n")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", proxy.port)) != 0
        assert not scan.done()
        await stars.run("UNLOCK TABLES")
        async with field.twin() as twin:
            stored = await ask(twin, SAME)
        assert await scan == stored
    await ended(asking)
    await changing.run("COMMIT")
    await locking.fetch("SELECT RELEASE_ALL_LOCKS()")
    await asyncio.gather(ended(changing), ended(locking))
    assert await asyncio.gather(*(asyncio.to_thread(one.read_on) for one in readers)) == [stored.total(), 50]
    assert await lasting.fetch("SELECT COUNT(*) FROM skyshard_scratch.mine") == [[b"0"]]
    assert proxy.process.poll() is None
    proxy.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(proxy.process.wait, 10) == 0
    await ended(lasting)


async def gives_up(field, proxy) -> None:
    """A proxy without: what runs is told, and ends on workers too."""
    late, stuck = await opened(proxy, 2)

    async def runs() -> bool:
        return await field.runs(2, LONG[-6:])

    async with locked(field, 2, "Visit"):
        long = asyncio.create_task(ask(late, LONG))
        at_home = asyncio.create_task(stuck.run("DO SLEEP(60)"))
        await until(runs)
        proxy.process.send_signal(signal.SIGTERM)
        for task in (long, at_home):
            with pytest.raises(ServerError) as caught:
                await task
            assert (caught.value.errno, caught.value.sqlstate) == (1053, "08S01")
        assert await asyncio.to_thread(proxy.process.wait, 10) == 0

        async def ends() -> bool:
            return not await runs()

        await until(ends)  # which it cannot by itself


async def test_what_a_proxy_does_ends_before_it(field, tmp_path):
    http = free_port()
    made = [{"http": f"127.0.0.1:{http}"}, {"drain_s": 0.2}]
    patient, hurried = await asyncio.gather(
        *(asyncio.to_thread(ExtraProxy, field.cluster, tmp_path, **settings) for settings in made)
    )
    try:
        async with asyncio.timeout(50):
            await asyncio.gather(finishes(field, patient, http), gives_up(field, hurried))
    finally:
        for proxy in (patient, hurried):
            proxy.stop()


class Load:
    """Clients that connect to one of two proxies, ask two questions, and leave; who finds one closed takes the other."""

    def __init__(self, ports, right):
        self.ports, self.right = ports, right
        self.asked, self.turned_away = 0, 0
        self.wrong = []
        self._turns = itertools.count()

    async def connect(self) -> RawConnection:
        first = next(self._turns) % 2
        for port in (self.ports[first], self.ports[1 - first]):
            try:
                return await RawConnection.open(Address("root", "", host="127.0.0.1", port=port), "lab")
            except (ConnectionLost, OSError):
                self.turned_away += 1
        raise AssertionError("no proxy takes clients")

    async def client(self) -> None:
        for number in itertools.count():
            connection = await self.connect()
            for sql in (self.right[number % len(self.right)], self.right[(number + 3) % len(self.right)]):
                try:
                    if await ask(connection, sql[0]) != sql[1]:
                        self.wrong.append((sql[0], "another answer"))
                except (ServerError, ConnectionLost) as error:
                    self.wrong.append((sql[0], repr(error)))
                self.asked += 1
            with contextlib.suppress(ConnectionLost):
                await connection.close()

    async def goes_on(self) -> None:
        """Wait until further questions have been answered."""
        wanted = self.asked + 2 * CLIENTS

        async def more() -> bool:
            return self.asked >= wanted

        await until(more)


async def test_a_rolling_restart_fails_no_query(field, tmp_path):
    texts = [QUERIES[index].format(star=7, other=32, lon=100) for index in FEW]
    async with field.twin() as twin:
        right = [(sql, await ask(twin, sql)) for sql in texts]
    proxies = await asyncio.gather(
        *(asyncio.to_thread(ExtraProxy, field.cluster, tmp_path / name) for name in ("one", "two"))
    )
    load = Load([proxy.port for proxy in proxies], right)
    clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
    try:
        await load.goes_on()
        for number, proxy in itertools.zip_longest(range(1, WORKERS + 1), proxies):
            old = field.signal(f"agent-worker{number}", signal.SIGTERM)
            if proxy is not None:
                proxy.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(proxy.process.wait, 30) == 0
            await asyncio.to_thread(old.wait, 30)
            await load.goes_on()
            if proxy is not None:
                await asyncio.to_thread(proxy.again)
            await field.until_well()
        assert load.turned_away > 0
        assert not any(client.done() for client in clients)
        assert load.wrong == []
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for proxy in proxies:
            proxy.stop()
