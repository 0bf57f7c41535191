"""Memory of a proxy: 64 clients that read slowly, and one large result whose reader rests in its middle.

Each has a proxy of its own, started for it, so that its peak is not an earlier query's. The readers are of three users,
for of one user's queries no more than 24 run at once.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from backend.address import Address
from backend.connection import RawConnection
from benchmarks.findings import Findings, table
from benchmarks.usage import family_peak_mb
from tests.support.servers import ExtraProxy, LocalCluster

READERS, USERS = 64, 3
PAUSE_S = 0.2
"""Seconds that a slow reader rests after each block."""
REST_S, REST_AFTER = 5.0, 64 << 20
"""Seconds that the reader of the large result rests, and bytes that it has read by then."""


async def _users(address: Address) -> list[Address]:
    connection = await RawConnection.open(address)
    for number in range(USERS):
        await connection.run(f"CREATE USER IF NOT EXISTS reader{number}@'%'")
        await connection.run(f"GRANT SELECT ON synth.* TO reader{number}@'%'")
    await connection.close()
    return [Address(f"reader{number}", "", host=address.host, port=address.port) for number in range(USERS)]


async def readers(proxy: ExtraProxy, sql: str, seconds: float) -> tuple[float, int]:
    """Read slowly; return the proxy's peak in MB, and how many readers had rows that were not their last."""
    users = await _users(Address("root", "", host="127.0.0.1", port=proxy.port))
    connections = [await RawConnection.open(users[number % USERS]) for number in range(READERS)]
    end = time.perf_counter() + seconds
    reading = 0

    async def read(connection: RawConnection) -> None:
        nonlocal reading
        result = await connection.query(sql.encode())
        async for _ in result.blocks():
            if time.perf_counter() > end:
                reading += 1
                return
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*map(read, connections))
    peak = family_peak_mb(proxy.process.pid)
    for connection in connections:
        connection.abort()
    return peak, reading


async def large(proxy: ExtraProxy, sql: str) -> tuple[float, int, int, float]:
    """Read one result; return the proxy's peak in MB, rows, bytes, and seconds without the reader's rest."""
    connection = await RawConnection.open(Address("root", "", host="127.0.0.1", port=proxy.port))
    started = time.perf_counter()
    result = await connection.query(sql.encode())
    count = size = rested = 0
    async for block in result.blocks():
        count += block.rows
        size += len(block.data)
        if not rested and size > REST_AFTER:
            rested = 1
            await asyncio.sleep(REST_S)
    seconds = time.perf_counter() - started - rested * REST_S
    await connection.close()
    return family_peak_mb(proxy.process.pid), count, size, seconds


async def report(
    cluster: LocalCluster, directory: Path, stars: int, large_gb: float, seconds: float
) -> Findings:
    """Measure both."""
    out = Findings()
    connection = await RawConnection.open(cluster.address)
    ((detections,),) = await connection.fetch("SELECT COUNT(*) FROM synth.Detection")
    await connection.close()
    rows = int(detections or 0)
    name = "Object" if stars >= 500_000 else "Detection"  # so that no reader comes to the end
    proxy = ExtraProxy(cluster, directory / "slow")
    try:
        many, reading = await readers(proxy, f"SELECT * FROM synth.{name}", seconds)
    finally:
        proxy.stop()
    filler = max(1, round(large_gb * 1e9 / rows) - 80)  # a row has some 80 bytes besides
    proxy = ExtraProxy(cluster, directory / "large")
    try:
        one, count, size, taken = await large(
            proxy, f"SELECT d.*, REPEAT('x', {filler}) FROM synth.Detection d"
        )
    finally:
        proxy.stop()
    if count != rows:
        out.wrong.append(f"large result: {count} rows, not {rows}")
    out.figures |= {"slow readers reading": reading, "large result GB": size / 1e9, "large result MB": one}
    if reading == READERS:
        out.figures["slow readers MB"] = many
    out.lines = [
        "### Memory of a proxy that was started for it", "",
        *table(
            ["what", "peak MB"],
            [
                [f"{READERS} readers of {USERS} users, a block each {PAUSE_S} s for {seconds:.0f} s; "
                 f"reading at the end: {reading}", f"{many:.0f}"],
                [f"a result of {size / 1e9:.1f} GB in {taken:.0f} s, whose reader rested {REST_S:.0f} s", f"{one:.0f}"],
            ],
        ),
    ]  # fmt: skip
    return out
