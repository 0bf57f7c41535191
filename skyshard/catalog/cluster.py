"""A cluster as commands on catalogues see it: a connection to the home server, and the workers' agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog.model import Worker
from shard.catalog.naming import META_DATABASE, quote
from skyshard.cluster.connect import ClusterAddress
from skyshard.home.command import connected
from skyshard.home.provision import check_version
from skyshard.home.watched import watched

META = quote(META_DATABASE)
AGAIN_S = 1.0
PATIENCE = 3
"""Times that a worker is asked before rows are added without it."""
_YEAR_S = 31_536_000


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a command works with: home server, agents, and by number the workers that have not been removed."""

    home: RawConnection
    agents: AgentPool
    workers: dict[int, Worker]


@asynccontextmanager
async def opened(address: ClusterAddress) -> AsyncIterator[Cluster]:
    """Yield a cluster's home server and agents; the block ends with the connection to that server, and so with its locks.

    Raises
    ------
    UserError
        If the home server does not answer, or its metadata are of another release.
    ConnectionLost
        If it goes away.
    """
    home = await connected(address.home)
    workers: dict[int, Worker] = {}
    agents = AgentPool(workers, address.secret, tls=address.tls)
    try:
        await home.run(f"SET SESSION sql_mode='', time_zone='+00:00', wait_timeout={_YEAR_S}")
        await check_version(home)
        workers.update(await read_workers(home))
        async with watched(home):
            yield Cluster(home, agents, workers)
    finally:
        await agents.close()
        if home.busy:
            home.abort()
        await home.close()


async def parted(cluster: Cluster) -> tuple[list[int], dict[int, str]]:
    """Return the workers that answer, and those that do not after some patience → their names."""
    there = await answering(cluster.agents, cluster.workers, PATIENCE)
    return sorted(there), {one: cluster.agents.name(one) for one in cluster.workers if one not in there}


async def alive(cluster: Cluster) -> set[int]:
    """Return the workers whose agent and MariaDB answer now."""
    return await answering(cluster.agents, cluster.workers)


async def answering(agents: AgentPool, workers: Iterable[int], times: int = 1) -> set[int]:
    """Return those of some workers whose agent and MariaDB answer.

    Parameters
    ----------
    times : int
        How often one that does not is asked, a second apart: it may be starting again.
    """
    left, out = list(workers), set[int]()
    for turn in range(times):
        if turn and left:
            await asyncio.sleep(AGAIN_S)
        pongs = await asyncio.gather(*(agents.ping(number) for number in left))
        out |= {one for one, pong in zip(left, pongs, strict=True) if pong is not None and pong.mariadb_ok}
        left = [number for number in left if number not in out]
    return out


async def read_workers(home: RawConnection) -> dict[int, Worker]:
    """Return the workers that have not been removed, by number."""
    rows = await home.fetch_texts(
        f"SELECT worker_id, name, host, port, state FROM {META}.workers WHERE state <> 'removed' ORDER BY worker_id"
    )
    return {
        int(number): Worker(worker_id=int(number), name=name, host=host, port=int(port), state=state)
        for number, name, host, port, state in rows
    }
