"""A cluster whose parts are killed and stopped, a plain server with the same rows, and queries for both."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil

from backend.address import Address
from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from skyshard.cluster.local import free_port
from tests.support import handmade, twin
from tests.support.agents import until
from tests.support.servers import LOOK, Inside, LocalCluster, PlainMariaDB

T = TypeVar("T")
WORKERS = 3
QUERIES = (
    "SELECT starId, ra, decl, name, code, d, big, txt, HEX(b), dt FROM Star",
    "SELECT COUNT(*), SUM(n), MIN(flux), MAX(flux) FROM Visit",
    "SELECT g, COUNT(*), SUM(small), MAX(d) FROM Star GROUP BY g",
    "SELECT s.starId, s.name, v.visitId, v.flux FROM Star s JOIN Visit v ON s.starId = v.starId",
    "SELECT * FROM Star WHERE starId = {star}",
    "SELECT v.visitId, v.band FROM Visit v WHERE v.starId IN ({star}, {other})",
    "SELECT starId, big FROM Star WHERE ra BETWEEN {lon} AND {lon} + 60 ORDER BY starId LIMIT 20",
    "SELECT DISTINCT band FROM Visit ORDER BY band",
    "SELECT COUNT(*) FROM Star a JOIN StarRef m ON a.starId = m.starId JOIN Ref r ON r.refId = m.refId",
    "SELECT COUNT(DISTINCT s.name) FROM Star s JOIN Band b ON b.band = LEFT(s.name, 1)",
    "SELECT a.starId, MAX(a.d) - (SELECT MIN(d) FROM Star) FROM Star a GROUP BY a.starId HAVING COUNT(*) > 0",
)
SLOW = "SELECT COUNT(*), SUM(n) FROM Visit WHERE SHA2(REPEAT(visitId, 150000), 512) > ''"
"""Takes seconds on the workers, so that something can happen meanwhile."""
QUICKLY = "SELECT COUNT(*), SUM(n) FROM Visit"
MARK = "SHA2(REPEAT"


def some_query(rng: random.Random) -> str:
    """Return one of the queries, with numbers."""
    star, other = rng.randrange(1, 400), rng.randrange(1, 400)
    return rng.choice(QUERIES).format(star=star, other=other, lon=rng.randrange(0, 300))


async def ask(connection: RawConnection, sql: str, begun: asyncio.Event | None = None) -> Counter:
    """Return the rows of a query, whatever their order; `begun` is set when the first have come."""
    result = await connection.query(sql.encode())
    found: Counter = Counter()
    async for block in result.blocks():
        if begun is not None:
            begun.set()
        found.update(tuple(row) for row in rows.split(block.data))
    return found


class Field:
    """What faults are tried on: `lab` in some copies on some workers, and in a plain server."""

    def __init__(self, directory: Path, workers: int = WORKERS, replicas: int = 2) -> None:
        self.workers, self.replicas = range(1, workers + 1), replicas
        self.plain = PlainMariaDB(directory / "plain")
        self.cluster = LocalCluster(
            directory / "c", free_port(), "--replicas", str(replicas), workers=workers
        )
        self.inside = Inside(self.cluster.directory)
        self.cluster.ingest(handmade.write(directory / "lab"))
        asyncio.run(twin.copy_database(self.cluster.directory, "lab", self.plain.address))

    def close(self) -> None:
        for name in ("agent-worker", "worker"):
            for number in self.workers:
                with contextlib.suppress(psutil.Error, ValueError):
                    self.inside.process(f"{name}{number}").send_signal(signal.SIGCONT)
        self.cluster.stop()
        self.plain.stop()

    async def compare(self, sql: str, plain: str | None = None) -> float:
        """Ask both; return how long the cluster took, in seconds, the connection included."""
        began = time.monotonic()
        async with self.client() as client:
            found = await ask(client, sql)
            took = time.monotonic() - began
        async with self.twin() as other:
            assert found == await ask(other, plain or sql), sql
        return took

    @contextlib.asynccontextmanager
    async def client(self, port: int | None = None, keep: bool = False):
        """Lend a connection, to another port if asked for; who wants to `keep` it closes it."""
        address = Address("root", "", host="127.0.0.1", port=port or self.cluster.port)
        connection = await RawConnection.open(address, "lab")
        try:
            yield connection
        finally:
            if not keep:
                await connection.close()

    @contextlib.asynccontextmanager
    async def twin(self):
        connection = await RawConnection.open(self.plain.address, "lab")
        try:
            yield connection
        finally:
            await connection.close()

    async def worker(self, number: int, *statements: str) -> list:
        """Run statements on a worker's own server."""
        connection = await RawConnection.open(self.inside.server(f"worker{number}"))
        found: list = []
        try:
            for statement in statements:
                found = await connection.fetch(statement)
        finally:
            await connection.close()
        return found

    async def runs(self, number: int, text: str) -> bool:
        """Whether a worker's server runs a statement that contains `text`."""
        found = await self.worker(
            number,
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() "
            f"AND COMMAND <> 'Sleep' AND INFO LIKE '%{text}%' AND INFO NOT LIKE '%{LOOK}%'",
        )
        return found[0][0] != b"0"

    async def until_well(self) -> None:
        """Wait until every process of the cluster is there and the proxy knows it."""

        async def well() -> bool:
            try:
                for number in self.workers:
                    status, _ = await asyncio.to_thread(self.inside.http, f"worker{number}", "/healthz")
                    if status != 200:
                        return False
                figures = await asyncio.to_thread(self.inside.figures, "proxy1")  # after the agents are there
                for number in self.workers:
                    if figures[f'skyshard_worker_up{{worker="worker{number}"}}'] != 1:
                        return False
            except (OSError, ServerError, KeyError):
                return False
            return True

        await until(well, 90, pause=0.1)

    async def until_spools_are_empty(self) -> None:
        """Wait until no agent holds rows of any query."""

        async def empty() -> bool:
            workers = [f"worker{number}" for number in self.workers]
            found = [await asyncio.to_thread(self.inside.figures, worker) for worker in workers]
            spools = [
                value
                for figures in found
                for name, value in figures.items()
                if name.startswith("skyshard_agent_spool_bytes")
            ]
            return len(spools) >= len(self.workers) and not any(spools)

        await until(empty, 10, pause=0.05)

    def signal(self, name: str, number: signal.Signals) -> psutil.Process:
        """Send a signal to a process of the cluster."""
        process = self.inside.process(name)
        os.kill(process.pid, number)
        return process


def main_of(
    about: str | None,
    play: Callable[[Field, Path, int, int], Awaitable[T]],
    told: Callable[[T], tuple[str, bool]],
) -> int:
    """Run faults from the command line; return the exit code.

    Parameters
    ----------
    play : callable
        Takes the field, a directory, how many faults and the seed.
    told : callable
        Returns what to print of what happened, and whether all was well.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=50, help="faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--replicas", type=int, default=2, help="copies of every chunk")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too

    async def run(there: Field, directory: Path) -> T:
        return await play(there, directory, asked.count, asked.seed)

    with tempfile.TemporaryDirectory(prefix="skyshard-faults-") as directory:
        there = Field(Path(directory), asked.workers, asked.replicas)
        try:
            found = asyncio.run(run(there, Path(directory)))
        finally:
            there.close()
    text, well = told(found)
    print(text)
    return int(not well)
