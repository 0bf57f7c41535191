"""Ingest of Tycho-2 beside one LOAD DATA LOCAL of the same file, and the memory of an ingest larger than its cap.

    python benchmarks/ingest.py [--sample DIR] [--repeats 3] [--large 10]

`--sample` is what `skyshard sample --full` wrote; without it that is run (an 88 MB download). The file is a CSV of
1.87 million rows. skyshard loads it into two workers as a director, with overlap and director index, until a query
by key answers; one plain MariaDB loads it into one table of the same engine, columns and indexes. Both are given
by the wall clock, interleaved. `--large` repeats the rows so often, with other keys, and gives the ingest's peak
memory.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.connection import RawConnection
from shard.errors import ServerError
from skyshard.cluster.local import free_port
from tests.support.servers import LocalCluster, PlainMariaDB, skyshard

CATALOG = """\
database: {database}
partitioning: {{stripes: 18, sub_stripes: 10, overlap_deg: 0.1}}
tables:
  - {{name: Tycho2, kind: director, key: tycho2Id, longitude: ra, latitude: decl, files: [{file}],
     columns: {{tycho2Id: BIGINT NOT NULL, ra: DOUBLE NOT NULL, decl: DOUBLE NOT NULL, vt: FLOAT}}}}
"""
TABLE = (
    "(tycho2Id BIGINT NOT NULL, ra DOUBLE NOT NULL, decl DOUBLE NOT NULL, vt FLOAT, "
    "chunkId INT NOT NULL DEFAULT 0 INVISIBLE, subChunkId INT NOT NULL DEFAULT 0 INVISIBLE, "
    "KEY (tycho2Id)) ENGINE=MyISAM"
)
BLOCK = 1 << 20


def timed_ingest(cluster: LocalCluster, catalog: Path) -> tuple[float, float]:
    """Return (seconds, peak MiB of memory) of the command and its processes; pages of files are not their own."""
    command = [sys.executable, "-m", "skyshard.cli", "ingest", str(catalog), "--dir", str(cluster.directory)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    peak = 0
    while True:
        try:
            assert process.wait(0.05) == 0
        except subprocess.TimeoutExpired:
            peak = max(peak, sum(own_memory(pid) for pid in (process.pid, *children(process.pid))))
        else:
            return time.perf_counter() - started, peak / 1024


def children(pid: int) -> list[int]:
    """Return a process's children."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def own_memory(pid: int) -> int:
    """Return the KiB of memory that are a process's own, 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


async def until_queryable(cluster: LocalCluster, database: str, key: int) -> None:
    """Ask for a row by its key until the proxy has noticed the catalogue."""
    connection = await RawConnection.open(cluster.address)
    try:
        while True:
            try:
                rows = await connection.fetch(f"SELECT ra FROM {database}.Tycho2 WHERE tycho2Id = {key}")
            except ServerError:  # not published yet, as far as the proxy knows
                continue
            assert len(rows) == 1
            return
    finally:
        await connection.close()


async def load_plain(plain: PlainMariaDB, file: Path, rows: int) -> float:
    """Return the seconds of one LOAD DATA LOCAL."""

    async def stream():
        with file.open("rb") as opened:
            while data := opened.read(BLOCK):
                yield data

    connection = await RawConnection.open(plain.address)
    try:
        await connection.run("CREATE DATABASE IF NOT EXISTS b")
        await connection.run(f"CREATE OR REPLACE TABLE b.Tycho2 {TABLE}")
        started = time.perf_counter()
        ok = await connection.load(
            b"LOAD DATA LOCAL INFILE 'x' INTO TABLE b.Tycho2 FIELDS TERMINATED BY ',' IGNORE 1 LINES "
            b"(tycho2Id, ra, decl, vt)",
            stream(),
        )
        taken = time.perf_counter() - started
        assert (ok.affected_rows, ok.warnings) == (rows, 0)
        return taken
    finally:
        await connection.close()


def compare(cluster: LocalCluster, plain: PlainMariaDB, file: Path, rows: int, repeats: int) -> None:
    """Print the table of speeds."""
    ours, theirs, peak = [], [], 0.0
    others = os.getloadavg()[0]
    for number in range(repeats):
        theirs.append(asyncio.run(load_plain(plain, file, rows)))
        catalog = file.with_name("catalog.yaml")
        catalog.write_text(CATALOG.format(database=f"tycho{number}", file=file.name))
        started = time.perf_counter()
        peak = max(peak, timed_ingest(cluster, catalog)[1])
        asyncio.run(until_queryable(cluster, f"tycho{number}", rows // 2))
        ours.append(time.perf_counter() - started)
    whole, plainly = statistics.median(ours), statistics.median(theirs)
    print(
        "| rows | MB | load of others | LOAD DATA LOCAL s | skyshard ingest, queryable s | speed ratio | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {rows} | {file.stat().st_size / 1e6:.0f} | {others:.1f} | {plainly:.2f} | {whole:.2f} | {plainly / whole:.2f} "
        f"| {peak:.0f} |"
    )


def large(cluster: LocalCluster, stars: pa.Table, file: Path, times: int) -> None:
    """Print the table of memory."""
    print("\n| rows | MB | skyshard ingest s | peak MiB |")
    print("|---|---|---|---|")
    for repeated in sorted({max(1, times // 2), times}):
        with pyarrow.csv.CSVWriter(file, stars.schema) as writer:
            for number in range(repeated):
                keys = pa.array(stars.column("tycho2Id").to_numpy() + number * stars.num_rows)
                writer.write_table(stars.set_column(0, "tycho2Id", keys))
        catalog = file.with_name("catalog.yaml")
        catalog.write_text(CATALOG.format(database=f"large{repeated}", file=file.name))
        taken, peak = timed_ingest(cluster, catalog)
        rows = stars.num_rows * repeated
        print(f"| {rows} | {file.stat().st_size / 1e6:.0f} | {taken:.1f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-bench-") as name:
        base = Path(name)
        if options.sample is None:
            skyshard("sample", "--full", "--dir", base / "sample")
        stars = pyarrow.parquet.read_table((options.sample or base / "sample") / "data" / "tycho2.parquet")
        pyarrow.csv.write_csv(stars, base / "tycho2.csv")
        plain = PlainMariaDB(base / "plain")
        cluster = LocalCluster(base / "c", free_port())
        try:
            compare(cluster, plain, base / "tycho2.csv", stars.num_rows, options.repeats)
            if options.large:
                large(cluster, stars, base / "large.csv", options.large)
        finally:
            cluster.stop()
            plain.stop()


if __name__ == "__main__":
    main()
