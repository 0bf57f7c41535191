"""One user's fifty scans do not starve another's single one, in one proxy process or several, nor at the agents."""

import asyncio
import time
from urllib.request import urlopen

import pytest

from backend.address import Address
from backend.connection import RawConnection
from skyshard.cluster.layout import free_port
from tests.support.agents import until
from tests.support.servers import ExtraProxy, Inside

MANY = 50
SCAN = "SELECT visitId, n FROM Visit WHERE SHA2(REPEAT(visitId, 4000), 512) > '' AND visitId % 7 = 0"


@pytest.fixture
async def users(cluster):
    """Two accounts that may read the catalogue."""
    home = await RawConnection.open(Address("root", "", host="127.0.0.1", port=cluster.port))
    for name in ("greedy", "modest"):
        await home.run(f"CREATE USER {name}")
        await home.run(f"GRANT SELECT ON lab.* TO {name}")
    yield
    for name in ("greedy", "modest"):
        await home.run(f"DROP USER {name}")
    await home.close()


def page(port):
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    ("processes", "admission"),
    [
        (0, {"scans": 4, "scans_per_user": 3}),
        (0, {"scans": 0, "scans_per_user": 0}),  # the agents alone are to be fair
        (2, {"scans": 4, "scans_per_user": 4}),
    ],
)
@pytest.mark.usefixtures("users")
async def test_many_scans_do_not_starve_one(cluster, tmp_path, processes, admission):
    http = free_port()
    shown = {} if processes else {"http": f"127.0.0.1:{http}"}
    proxy = ExtraProxy(cluster, tmp_path, processes, admission=admission, **shown)
    done = 0

    def opened(user):
        return RawConnection.open(Address(user, "", host="127.0.0.1", port=proxy.port), "lab")

    async def ask(user, made=None):
        nonlocal done
        connection = made or await opened(user)
        try:
            found = sorted(await connection.fetch(SCAN))
        finally:
            await connection.close()
        done += user == "greedy"
        return found

    try:
        modest = await opened("modest")
        many = [asyncio.create_task(ask("greedy")) for _ in range(MANY)]
        figures = Inside(cluster.directory).figures

        async def busy():
            found = await asyncio.to_thread(figures, "worker1")
            return found['skyshard_agent_lane{lane="scan",what="waiting"}'] > 0

        await until(busy)
        before, began = done, time.monotonic()
        one = await ask("modest", modest)
        overtaken, took = done - before, time.monotonic() - began
        if admission["scans"] and not processes:
            text = await asyncio.to_thread(page, http)
            assert 'skyshard_lane{lane="scan",what="running"} 3.0' in text
            assert 'skyshard_admission_seconds_count{lane="scan"}' in text
        assert MANY - before > MANY // 2, "the scans were over too soon to be in anybody's way"
        found = await asyncio.gather(*many)
        print(f"{overtaken} of {MANY} scans ended before the other user's one, which took {took:.2f} s")
        assert overtaken <= 12
        assert one
        assert all(rows == one for rows in found)
    finally:
        proxy.stop()
