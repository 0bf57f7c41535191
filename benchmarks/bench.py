"""skyshard beside one plain MariaDB and beside Spider, with the same rows, asked the same in one run.

    python benchmarks/bench.py [--stars 1000000] [--repeats 5] [--quick] [--write benchmarks/runs]

Builds a synthetic catalogue in a private directory; (a) one plain MariaDB holds all of it, (b) Spider has it
spread over the same worker servers by key, (c) skyshard has it in chunks on two workers. All are asked the same
queries by the same client, in turn, over TCP without TLS; the table gives medians and ratios to (a). `--quick`
is small enough for three minutes. `--write` names a directory for the report and a picture of it, by date.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection, RowBlock
from benchmarks import contest, near, plot
from benchmarks.queries import QUERIES, Query, text
from shard.errors import ServerError
from shard.wire import rows
from skyshard.cluster.local import free_port
from tests.support import twin
from tests.support.servers import Inside, LocalCluster, PlainMariaDB, skyshard

PLAIN, SKYSHARD = "plain", "skyshard"
SPIDERS = ("Spider", "Spider, direct aggregates")
LEVELS = (1, 8, 64)
PATIENCE_S = 20.0
"""Seconds a contestant has for one query."""
COMPARED = 2000
"""Rows up to which answers are compared value by value; longer ones by their length."""


@dataclass(slots=True)
class Taken:
    """What one contestant took for one query, in seconds, and what it answered."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    error: str = ""

    @property
    def median(self) -> float:
        """Median of the whole time."""
        return statistics.median(self.whole)


async def ask(connection: RawConnection, sql: str) -> tuple[float, float, int, list[RowBlock]]:
    """Return seconds to the end and to the first row, number of rows, and the blocks of a small answer."""
    started = time.perf_counter()
    result = await connection.query(sql.encode())
    first, count, kept = 0.0, 0, []
    async for block in result.blocks():
        first = first or time.perf_counter() - started
        count += block.rows
        if count <= COMPARED:
            kept.append(block)
    whole = time.perf_counter() - started
    return whole, first or whole, count, kept


def answer_of(count: int, blocks: Sequence[RowBlock]) -> object:
    """Return what can be compared of an answer: all of a small one, sorted; of a long one its length."""
    if count > COMPARED:
        return count
    found = [row for block in blocks for row in rows.split(block.data)]
    return sorted([[_rounded(value) for value in row] for row in found], key=repr)


def _rounded(value: bytes | None) -> object:
    with contextlib.suppress(TypeError, ValueError):
        return f"{float(value or b''):.9g}"
    return value


class Contest:
    """The contestants' connections, and what each took."""

    def __init__(self, addresses: dict[str, Address], keys: int, inside: Inside) -> None:
        self._addresses, self._keys, self._inside = addresses, keys, inside
        self._open: dict[str, RawConnection] = {}

    async def start(self) -> None:
        """Connect to all."""
        for name in self._addresses:
            self._open[name] = await self._connect(name)

    async def _connect(self, name: str) -> RawConnection:
        connection = await RawConnection.open(self._addresses[name])
        if name in SPIDERS:
            await connection.run(f"SET SESSION spider_direct_aggregate={SPIDERS.index(name)}")
        return connection

    async def measure(self, query: Query, repeats: int) -> dict[str, Taken]:
        """Ask all the same, in turn."""
        taken = {name: Taken() for name in self._addresses}
        for seed in range(-1, repeats * 20 if query.short else repeats):  # the first is not counted
            for name, mine in taken.items():
                if mine.error:
                    continue
                sql = text(query, seed, self._keys, name != SKYSHARD)
                before = processor(self._inside) if name == SKYSHARD else Counter()
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        whole, first, count, blocks = await ask(self._open[name], sql)
                except (ServerError, ConnectionLost, TimeoutError) as error:
                    mine.error = str(error) or f"more than {PATIENCE_S:.0f} s"
                    print(f"{name}: {query.name}: {mine.error}", file=sys.stderr)
                    with contextlib.suppress(ServerError, ConnectionLost, TimeoutError):
                        await self._open[name].kill_query(self._addresses[name])
                    self._open[name].abort()
                    self._open[name] = await self._connect(name)
                    continue
                if name == SKYSHARD:  # the workers' servers are Spider's, too
                    mine.used += processor(self._inside) - before
                if seed >= 0:
                    mine.whole.append(whole)
                    mine.first.append(first)
                    mine.answers.append(answer_of(count, blocks))
        return taken

    async def rate(self, name: str, level: int, seconds: float) -> float:
        """Return look-ups a second of so many connections."""
        end = time.perf_counter() + seconds
        counts = [0] * level

        async def loop(number: int) -> None:
            connection = await RawConnection.open(self._addresses[name])
            try:
                while time.perf_counter() < end:
                    key = (number * 7919 + counts[number] * 104729) % self._keys + 1
                    await connection.fetch(f"SELECT * FROM synth.Object WHERE objectId = {key}")
                    counts[number] += 1
            finally:
                await connection.close()

        await asyncio.gather(*(loop(number) for number in range(level)))
        return sum(counts) / seconds

    async def close(self) -> None:
        """Disconnect."""
        for connection in self._open.values():
            await connection.close()


def processor(inside: Inside) -> Counter[str]:
    """Return processor seconds used so far by kind of process of the cluster."""
    used: Counter[str] = Counter()
    for process in inside.state.processes:
        name = process.name.rstrip("0123456789")
        kind = {"agent-worker": "agents", "worker": "worker servers"}.get(name, name)
        with contextlib.suppress(psutil.Error):
            used[kind] += sum(psutil.Process(process.pid).cpu_times()[:2])
    return used


def peak_mib(pid: int) -> float:
    """Return the most memory a process has had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def _line(query: Query, taken: dict[str, Taken], others: Sequence[str], share: float) -> str:
    plain, sky = taken[PLAIN], taken[SKYSHARD]
    cells = [query.name, f"{plain.median * 1e3:.2f}"]
    for name in (*others, SKYSHARD):
        mine = taken[name]
        if mine.error or not mine.whole:
            cells.append("fails")
            continue
        wrong = "" if mine.answers == plain.answers else ", wrong"
        cells.append(f"{mine.median * 1e3:.2f} ({mine.median / plain.median:.2f}x{wrong})")
    cells += [f"{statistics.median(sky.first) * 1e3:.1f}" if sky.whole else "", f"{share:.0%}"]
    return "| " + " | ".join(cells) + " |"


async def run(contestants: Contest, names: Sequence[str], repeats: int) -> list[str]:
    """Return the lines of the report."""
    others = [name for name in names if name in SPIDERS]
    head = ["query", "plain ms", *(f"{name} ms" for name in others), "skyshard ms", "first row ms", "ours"]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    await contestants.start()
    for query in QUERIES:
        taken = await contestants.measure(query, repeats)
        used = taken[SKYSHARD].used
        ours = sum(used[kind] for kind in used if kind.startswith(("proxy", "agents")))
        out.append(_line(query, taken, others, ours / max(1e-9, sum(used.values()))))
        print(out[-1], file=sys.stderr)
    return out


async def rates(contestants: Contest, names: Sequence[str], seconds: float) -> list[str]:
    """Return the table of look-ups a second."""
    out = ["| connections | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for level in LEVELS:
        cells = [f"{await contestants.rate(name, level, seconds):.0f}" for name in names]
        out.append(f"| {level} | " + " | ".join(cells) + " |")
    return out


async def report(
    cluster: LocalCluster, plain: PlainMariaDB, head: PlainMariaDB, stars: int, repeats: int, seconds: float
) -> list[str]:
    """Fill the contestants, ask them, and return the report."""
    inside = Inside(cluster.directory)
    for database in ("synth", "wide"):
        await twin.copy_database(cluster.directory, database, plain.address, engine="MyISAM")
    trouble = await contest.make_spider(cluster, plain, head)
    addresses = {PLAIN: _tcp(plain), **({} if trouble else {name: _tcp(head) for name in SPIDERS})}
    addresses[SKYSHARD] = cluster.address
    for address in {PLAIN: addresses[PLAIN], "": _tcp(head), SKYSHARD: cluster.address}.values():
        await contest.make_targets(address, stars)
    contestants = Contest(addresses, stars, inside)
    cores = len(os.sched_getaffinity(0))
    out = [
        f"## {datetime.now(UTC):%Y-%m-%d}: {stars:,} stars, {cores} cores shared with others, "
        f"load {os.getloadavg()[0]:.0f}, medians of {repeats} (short queries: {repeats * 20})",
        "",
        *([f"Spider does not run here: {trouble}", ""] if trouble else []),
        *await run(contestants, list(addresses), repeats),
        "",
        "Look-ups by key a second:",
        "",
        *await rates(contestants, [PLAIN, *([] if trouble else SPIDERS[:1]), SKYSHARD], seconds),
        "",
        f"Most memory of the proxy: {peak_mib(inside.process('proxy1').pid):.0f} MiB.",
    ]
    await contestants.close()
    return out


def _tcp(server: PlainMariaDB) -> Address:
    return Address("root", "", host="127.0.0.1", port=server.port)


def main() -> None:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stars", type=int, default=1_000_000, help="stars; about five detections each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100,000 stars, three repeats")
    parser.add_argument("--write", type=Path, help="directory for the report and its picture")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    stars, repeats = (100_000, 3) if options.quick else (options.stars, options.repeats)
    with tempfile.TemporaryDirectory(prefix="skyshard-bench-") as name:
        directory = Path(name)
        skyshard("sample", "--dir", directory / "data", "--stars", str(stars))
        wide = contest.write_wide(directory / "wide", stars // 20)
        servers = [PlainMariaDB(directory / part, free_port()) for part in ("plain", "spider")]
        cluster = LocalCluster(directory / "cluster", free_port())
        try:
            cluster.ingest(directory / "data" / "CATALOG.yaml")
            cluster.ingest(wide)
            lines = asyncio.run(report(cluster, *servers, stars, repeats, 1.0 if options.quick else 5.0))
        finally:
            cluster.stop()
            for server in servers:
                server.stop()
        lines += ["", "Pairs closer than 1 arcmin:", ""]
        lines += near.run(directory, near.sizes_to(60_000, 240_000 if options.quick else 1_000_000), repeats)
    print("\n".join(lines))
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
        report_path = options.write / f"{datetime.now(UTC):%Y-%m-%d}-{stars}.md"
        report_path.write_text("\n".join(lines) + "\n")
        plot.draw("\n".join(lines), report_path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
