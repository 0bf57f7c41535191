"""One loading process beside two on the same files: seconds of the clock and of processors.

    python benchmarks/loaders.py [--rows 2000000] [--files 8] [--repeats 3]

A director (key, position, magnitude; overlap 0.1°) in several CSV files is registered with `--batch 0` and loaded by one
`skyshard ingest load`, or by two at the same time, each with `--processes 1`; interleaved, medians. Files come in the
order of the sky (`--order sky`: a chunk's rows are in one file or two, so they are moved, not copied, in the end) or in
none (`--order random`: every chunk has rows of every file). Processor time is that of the loading processes, and of
everything with them (servers, agents). The clock's ratio is bounded by the processors: two processes cannot be faster
than (processor seconds of two) / (processors) seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv

sys.path.insert(0, str(Path(__file__).parents[1]))

from skyshard.cluster.local import free_port
from tests.support.servers import LocalCluster, skyshard

CATALOG = """\
database: {database}
partitioning: {{stripes: 18, sub_stripes: 10, overlap_deg: 0.1}}
tables:
  - {{name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: ['star*.csv'],
     columns: {{id: BIGINT NOT NULL, ra: DOUBLE NOT NULL, decl: DOUBLE NOT NULL, vt: FLOAT}}}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds: of the clock, of the loaders' processors, of everybody's."""

    wall: float
    loaders: float
    all: float


def write(directory: Path, rows: int, files: int, order: str) -> None:
    """Write the stars."""
    rng = np.random.default_rng(1)
    ra, decl = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    if order == "sky":
        turn = np.lexsort((ra, np.floor((decl + 90) / 10)))
        ra, decl = ra[turn], decl[turn]
    ids, vt = np.arange(rows), rng.normal(12, 2, rows).round(3)
    for number in range(files):
        part = slice(number * rows // files, (number + 1) * rows // files)
        table = pa.table({"id": ids[part], "ra": ra[part], "decl": decl[part], "vt": vt[part]})
        pyarrow.csv.write_csv(table, directory / f"star{number}.csv")


def own_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of a process that has children which ended."""
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def servers(directory: Path) -> list[psutil.Process]:
    """Return the processes of a cluster."""
    text = str(directory)
    return [one for one in psutil.process_iter(["cmdline"]) if text in " ".join(one.info["cmdline"] or ())]


def load(cluster: LocalCluster, catalog: Path, loaders: int) -> Run:
    """Register, load by so many processes, drop."""
    where = ("--dir", cluster.directory)
    done = skyshard("ingest", "register", catalog, "--batch", "0", "--json", *where)
    number = json.loads(done.stdout)["id"]
    before = sum(map(own_seconds, servers(cluster.directory)))
    command = [sys.executable, "-m", "skyshard.cli", "ingest", "load", str(number), "--processes", "1"]
    spent = os.times()
    began = time.perf_counter()
    running = [
        subprocess.Popen([*command, *map(str, where)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(loaders)
    ]
    for process in running:
        assert process.wait() == 0
    wall = time.perf_counter() - began
    now = os.times()
    mine = now.children_user + now.children_system - spent.children_user - spent.children_system
    theirs = sum(map(own_seconds, servers(cluster.directory))) - before
    skyshard("ingest", "--abort", number, *where)
    return Run(wall, mine, mine + theirs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--order", choices=("sky", "random"), default="sky")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-bench-") as name:
        base = Path(name)
        write(base, options.rows, options.files, options.order)
        catalog = base / "catalog.yaml"
        catalog.write_text(CATALOG.format(database="stars"))
        cluster = LocalCluster(base / "c", free_port())
        found: dict[int, list[Run]] = {1: [], 2: []}
        others = os.getloadavg()[0]
        try:
            load(cluster, catalog, 1)  # whatever is slow the first time
            for _ in range(options.repeats):
                for loaders, runs in found.items():
                    runs.append(load(cluster, catalog, loaders))
        finally:
            cluster.stop()
    cores = os.cpu_count() or 1
    print("| load of others | loaders | seconds | of processors: loaders | everybody | at best, s |")
    print("|---|---|---|---|---|---|")
    for loaders, runs in found.items():
        wall, mine, whole = (
            statistics.median(getattr(run, name) for run in runs) for name in ("wall", "loaders", "all")
        )
        print(f"| {others:.1f} | {loaders} | {wall:.2f} | {mine:.2f} | {whole:.2f} | {whole / cores:.2f} |")
    ratios = [one.wall / two.wall for one, two in zip(found[1], found[2], strict=True)]
    print(
        f"\none / two, by the clock: {statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)})"
    )


if __name__ == "__main__":
    main()
