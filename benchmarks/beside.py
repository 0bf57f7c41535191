"""Short queries beside full scans, and what many different scans read from the disk.

    python benchmarks/beside.py [--stars 1000000] [--repeats 200] [--write benchmarks/FILE.md]

Builds a synthetic catalogue on two workers in a private directory. First look-ups, light curves and small cones are
asked alone and then while five clients, in a process of their own, scan the stars over and over: medians and the time
within which 95 of 100 have their answer. Then one scan, and thirty different ones at once, read the detections from
the disk, the system's page cache having been dropped before each (as root): bytes by `/proc/PID/io` of the workers'
servers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.address import Address
from backend.connection import RawConnection
from benchmarks.findings import Findings, table
from benchmarks.queries import QUERIES, text
from skyshard.cluster.local import free_port
from tests.support.servers import Inside, LocalCluster, skyshard

SCANS = 5
COLD = 30
SHORT = [query for query in QUERIES if query.short]
_SCAN = "SELECT * FROM synth.Object"
_COLD = "SELECT COUNT(*) FROM synth.Detection WHERE flux > {}"
_CACHES = Path("/proc/sys/vm/drop_caches")


async def _drained(connection: RawConnection, sql: str) -> int:
    """Ask, and forget the rows; return how many there were."""
    result = await connection.query(sql.encode())
    return sum([block.rows async for block in result.blocks()])


def scans(address: Address, begun: Event, stop: Event) -> None:
    """Scan with five connections until `stop`; `begun` once all have had rows (runs in a process of its own)."""

    async def scan(connection: RawConnection) -> None:
        while not stop.is_set():
            await _drained(connection, _SCAN)

    async def run() -> None:
        connections = [await RawConnection.open(address) for _ in range(SCANS)]
        for connection in connections:
            await _drained(connection, f"{_SCAN} LIMIT 1000")
        begun.set()
        await asyncio.gather(*map(scan, connections))
        for connection in connections:
            await connection.close()

    asyncio.run(run())


@contextlib.contextmanager
def scanning(address: Address) -> Iterator[None]:
    """Let others scan during the block."""
    context = multiprocessing.get_context("spawn")
    begun, stop = context.Event(), context.Event()
    process = context.Process(target=scans, args=(address, begun, stop))
    process.start()
    try:
        if not begun.wait(60):
            raise RuntimeError("no scan has begun within 60 s")
        yield
    finally:
        stop.set()
        process.join(120)
        process.kill()


async def waits(address: Address, stars: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Return query → median and 95th percentile in seconds, of queries that are asked in turn."""
    connection = await RawConnection.open(address)
    taken: dict[str, list[float]] = {query.name: [] for query in SHORT}
    for seed, query in itertools.product(range(-1, repeats), SHORT):  # the first is not counted
        started = time.perf_counter()
        await _drained(connection, text(query, seed, stars, rewritten=False))
        if seed >= 0:
            taken[query.name].append(time.perf_counter() - started)
    await connection.close()
    return {
        name: (statistics.median(found), statistics.quantiles(found, n=20)[-1])
        for name, found in taken.items()
    }


def _read(servers: list[psutil.Process]) -> int:
    """Return the bytes that servers have read from disks so far."""
    return sum(server.io_counters().read_bytes for server in servers)


async def cold(inside: Inside, address: Address, number: int) -> tuple[int, float]:
    """Return bytes and seconds of so many different scans at once, the page cache being empty."""
    servers = [
        inside.process(process.name)
        for process in inside.state.processes
        if process.name.rstrip("0123456789") == "worker"
    ]
    connections = [await RawConnection.open(address) for _ in range(number)]
    os.sync()
    await asyncio.to_thread(_CACHES.write_text, "3")
    before, started = _read(servers), time.perf_counter()
    await asyncio.gather(
        *(_drained(one, _COLD.format(1000 + 700 * index)) for index, one in enumerate(connections))
    )
    seconds = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return _read(servers) - before, seconds


async def report(cluster: LocalCluster, stars: int, repeats: int) -> Findings:
    """Measure, and return what was found."""
    address = cluster.address
    alone = await waits(address, stars, repeats)
    with scanning(address):
        beside = await waits(address, stars, repeats)
    out, lines = Findings(), []
    for name, (median, most) in alone.items():
        ratio = beside[name][1] / most
        out.figures |= {f"beside: {name} ratio": ratio, f"beside: {name} s": beside[name][1]}
        cells = [name, *(f"{value * 1e3:.2f}" for value in (median, most, *beside[name]))]
        lines.append([*cells, f"{ratio:.1f}"])
    head = [
        "short query",
        "median ms",
        "95 % ms",
        f"beside {SCANS} scans: median ms",
        "95 % ms",
        "ratio of the 95 %",
    ]
    out.lines = [f"### Short queries beside scans, {repeats} of each", "", *table(head, lines), ""]
    if not os.access(_CACHES, os.W_OK):
        out.lines.append("Cold scans need root: the page cache must be dropped.")
        return out
    inside = Inside(cluster.directory)
    one, single = await cold(inside, address, 1)
    many, together = await cold(inside, address, COLD)
    if one:  # a file system in memory reads nothing
        out.figures["cold: ratio"] = many / one
    out.lines.append(
        f"One cold scan read {one / 2**20:.1f} MiB in {single:.2f} s, {COLD} different ones at once "
        f"{many / 2**20:.1f} MiB ({many / max(1, one):.2f}x) in {together:.2f} s.",
    )
    return out


def main() -> None:
    """Build the cluster, measure, and print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stars", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--write", type=Path, help="file to append the report to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-beside-") as name:
        directory = Path(name)
        skyshard("sample", "--dir", directory / "data", "--stars", str(options.stars))
        cluster = LocalCluster(directory / "cluster", free_port())
        try:
            cluster.ingest(directory / "data" / "CATALOG.yaml")
            found = asyncio.run(report(cluster, options.stars, options.repeats))
        finally:
            cluster.stop()
    lines = [
        f"## {datetime.now(UTC):%Y-%m-%d}: {options.stars:,} stars, load {os.getloadavg()[0]:.0f}", "", *found.lines,
    ]  # fmt: skip
    print("\n".join(lines))
    if options.write is not None:
        with options.write.open("a") as file:
            file.write("\n".join(["", *lines]) + "\n")


if __name__ == "__main__":
    main()
