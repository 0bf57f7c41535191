"""Near neighbours: all pairs closer than 1 arcmin, beside sub-chunk nested loops over the same chunk tables.

    python benchmarks/near.py [--rows 60000] [--most 1000000] [--repeats 3]

Rows lie at one density (15,000 a square degree) around the equator; 340 x 3 stripes. The loops are what Qserv
runs: for every sub-chunk a table of its rows and one of the rows within the radius of it, and a join of both by
distance alone, on both workers at once. `--most` adds larger areas, which show how the time grows. The processor
time is that of both workers' servers, a query; on a machine with other work it says more than the time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.address import Address
from backend.connection import RawConnection
from benchmarks.findings import Findings, table
from shard.geometry.chunker import max_alpha
from shard.planner.lexer import LexerMode
from shard.planner.statement import native
from skyshard.cluster.local import free_port
from tests.support.servers import Inside, LocalCluster

DENSITY = 15_000
"""Rows a square degree."""
RADIUS = 1 / 60
"""Degrees."""
STRIPES, SUB_STRIPES = 340, 3
QUERY = (
    "SELECT COUNT(*) FROM near{n}.Object a, near{n}.Object b "
    f"WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < {RADIUS} AND a.objectId <> b.objectId"
)


def write(directory: Path, number: int) -> Path:
    """Write a catalogue of so many rows; return its path."""
    directory.mkdir(parents=True)
    chance = np.random.default_rng(number)
    width = number / DENSITY / 2  # two degrees of declination, at the equator
    table = np.column_stack(
        [np.arange(1, number + 1), chance.uniform(20, 20 + width, number), chance.uniform(-1, 1, number)]
    )
    np.savetxt(directory / "object.csv", table, "%d,%.9f,%.9f", header="objectId,ra,decl", comments="")
    entry = {
        "name": "Object", "kind": "director", "key": "objectId", "longitude": "ra", "latitude": "decl",
        "columns": {"objectId": "BIGINT", "ra": "DOUBLE", "decl": "DOUBLE"},
        "files": ["object.csv"], "format": {"type": "csv", "header": True},
    }  # fmt: skip
    sizes = {"stripes": STRIPES, "sub_stripes": SUB_STRIPES, "overlap_deg": 0.01667}
    path = directory / "CATALOG.yaml"
    path.write_text(yaml.safe_dump({"database": f"near{number}", "partitioning": sizes, "tables": [entry]}))
    return path


@dataclass(frozen=True, slots=True)
class Taken:
    """What a query took: seconds, processor seconds of the workers' servers; and the pairs it found."""

    seconds: float
    processor: float
    pairs: int


def _processor(servers: list[psutil.Process]) -> float:
    return sum(sum(server.cpu_times()[:2]) for server in servers)


async def pairs(address: Address, servers: list[psutil.Process], number: int, repeats: int) -> Taken:
    """Return the medians."""
    connection = await RawConnection.open(address)
    seconds, processor, found = [], [], []
    try:
        for _ in range(repeats):
            started, before = time.perf_counter(), _processor(servers)
            found = await connection.fetch(QUERY.format(n=number))
            seconds.append(time.perf_counter() - started)
            processor.append(_processor(servers) - before)
    finally:
        await connection.close()
    return Taken(statistics.median(seconds), statistics.median(processor), int(found[0][0] or 0))


async def loops(workers: list[Address], servers: list[psutil.Process], number: int) -> Taken:
    """Return the same by sub-chunk nested loops."""
    started, before = time.perf_counter(), _processor(servers)
    found = await asyncio.gather(*(_loops(worker, f"near{number}") for worker in workers))
    return Taken(time.perf_counter() - started, _processor(servers) - before, sum(found))


async def _loops(worker: Address, database: str) -> int:
    distance = native("SELECT scisql_angSep(a.ra, a.decl, b.ra, b.decl)", LexerMode())
    if distance is None:
        raise TypeError("no native form of scisql_angSep")
    join = (
        f"SELECT COUNT(*) FROM a JOIN b ON {distance.removeprefix('SELECT ').rpartition(' AS ')[0]} < {RADIUS} "
        "AND a.objectId <> b.objectId"
    )
    connection = await RawConnection.open(worker, database)
    total = 0
    try:
        for row in await connection.fetch("SHOW TABLES LIKE 'Object\\_%'"):
            chunk = int((row[0] or b"").rsplit(b"_", 1)[1])
            boxes = await connection.fetch(
                "SELECT subChunkId, MIN(ra), MAX(ra), MIN(decl), MAX(decl) "
                f"FROM Object_{chunk} GROUP BY subChunkId"
            )
            for box in boxes:
                await connection.run_all(_tables(chunk, *(float(value or b"") for value in box)))
                total += int((await connection.fetch(join))[0][0] or 0)
    finally:
        await connection.close()
    return total


def _tables(chunk: int, sub: float, west: float, east: float, south: float, north: float) -> list[str]:
    """Return what makes a sub-chunk's rows the table a, and those around them the table b."""
    wide = max_alpha(RADIUS, max(abs(south), abs(north)))
    near = (
        f"WHERE ra BETWEEN {west - wide} AND {east + wide} "
        f"AND decl BETWEEN {south - RADIUS} AND {north + RADIUS}"
    )
    head = "CREATE OR REPLACE TEMPORARY TABLE {} ENGINE=MEMORY AS SELECT objectId, ra, decl FROM "
    return [
        f"{head.format('a')} Object_{chunk} WHERE subChunkId = {sub:.0f}",
        f"{head.format('b')} Object_{chunk} {near} "
        f"UNION ALL SELECT objectId, ra, decl FROM ObjectFullOverlap_{chunk} {near}",
    ]


async def report(cluster: LocalCluster, sizes: list[int], repeats: int) -> Findings:
    """Measure; the catalogues are in the cluster."""
    inside = Inside(cluster.directory)
    names = [f"worker{n}" for n in range(1, inside.state.workers + 1)]
    workers = [inside.server(name) for name in names]
    servers = [inside.process(name) for name in names]
    out, lines, seconds_a_row = Findings(), [], []
    for number in sizes:
        ours = await pairs(cluster.address, servers, number, repeats)
        seconds_a_row.append(ours.seconds / number)
        cells = [f"{number:,}", f"{ours.pairs:,}", f"{ours.seconds:.2f}", f"{ours.processor:.2f}"]
        cells += [f"{1e6 * each / number:.1f}" for each in (ours.seconds, ours.processor)]
        if number == sizes[0]:
            slow = await loops(workers, servers, number)
            if slow.pairs != ours.pairs:
                out.wrong.append(f"near neighbours of {number:,}: {ours.pairs:,}, not {slow.pairs:,}")
            out.figures |= {"near s": ours.seconds, "near: loops": slow.seconds / ours.seconds}
            ratios = f"{slow.seconds / ours.seconds:.1f}, {slow.processor / ours.processor:.1f}"
            lines.append([*cells, f"{slow.seconds:.2f}", f"{slow.processor:.2f}", ratios])
        else:
            lines.append([*cells, "", "", ""])
        print(" | ".join(lines[-1]), file=sys.stderr)
    if len(sizes) > 1:
        out.figures |= {"near: growth": max(seconds_a_row[1:]) / seconds_a_row[0], "near: rows": sizes[-1]}
    head = ["rows", "pairs", "skyshard s", "processor s", "µs a row", "processor µs a row"]
    head += ["sub-chunk loops s", "processor s", "ratios"]
    out.lines = ["### Pairs closer than 1 arcmin", "", *table(head, lines)]
    return out


def run(directory: Path, sizes: list[int], repeats: int) -> Findings:
    """Make a cluster with the catalogues and return what was found."""
    cluster = LocalCluster(directory / "near-cluster", free_port())
    try:
        for number in sizes:
            cluster.ingest(write(directory / f"near{number}", number), timeout=3600)
        return asyncio.run(report(cluster, sizes, repeats))
    finally:
        cluster.stop()


def sizes_to(first: int, most: int) -> list[int]:
    """Return numbers of rows: each four times the one before, and the last."""
    out = [first]
    while out[-1] * 8 <= most:
        out.append(out[-1] * 4)
    return [*out, most] if most > first else out


def main() -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-near-") as name:
        found = run(Path(name), sizes_to(options.rows, options.most), options.repeats)
    print("\n".join([*found.lines, *found.wrong]))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
