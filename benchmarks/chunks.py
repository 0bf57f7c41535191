"""Ten thousand chunks of a few rows each, on two workers: what a query costs by chunks alone.

    python benchmarks/chunks.py [--repeats 5] [--stripes 90]

The stars are spread evenly, four a chunk, so that no chunk is empty; one plain MariaDB has the same rows. Table caches
are warm: each query is asked once before it counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.address import Address
from benchmarks.asking import Contest
from benchmarks.contest import PATIENT_S, PLAIN, SKYSHARD, layouts, workers_of
from benchmarks.findings import Findings, table
from benchmarks.queries import Query
from benchmarks.usage import AGENTS, HOME, PROXY, WORKERS, Usage
from skyshard.cluster.local import free_port
from tests.support import twin
from tests.support.servers import Inside, LocalCluster, PlainMariaDB

STRIPES = 90
"""So many stripes make some ten thousand chunks."""
EMPTY = "empty answer"
QUERIES = (
    Query(EMPTY, "SELECT * FROM tiny.Star WHERE mag < -100"),
    Query("COUNT with filter", "SELECT COUNT(*) FROM tiny.Star WHERE mag < 20"),
    Query("full scan", "SELECT * FROM tiny.Star"),
)
_KINDS = (PROXY, AGENTS, WORKERS, HOME)


def write(directory: Path, stripes: int) -> Path:
    """Write a catalogue of some four stars a chunk; return its path."""
    directory.mkdir(parents=True)
    number = round(4 * 4 / np.pi * stripes**2)
    index = np.arange(number)
    columns = {
        "id": index + 1,
        "ra": (index * 180 * (3 - np.sqrt(5))) % 360,  # a spiral from pole to pole, evenly dense
        "decl": np.degrees(np.arcsin((2 * index + 1) / number - 1)),
        "mag": np.random.default_rng(3).normal(20, 2, number).round(4),
    }
    pyarrow.csv.write_csv(pa.table(columns), directory / "star.csv")
    entry = {
        "name": "Star", "kind": "director", "key": "id", "longitude": "ra", "latitude": "decl",
        "columns": {name: "BIGINT" if name == "id" else "DOUBLE" for name in columns},
        "files": ["star.csv"], "format": {"type": "csv", "header": True},
    }  # fmt: skip
    sizes = {"stripes": stripes, "sub_stripes": 1, "overlap_deg": 0.001}
    path = directory / "CATALOG.yaml"
    path.write_text(yaml.safe_dump({"database": "tiny", "partitioning": sizes, "tables": [entry]}))
    return path


async def report(cluster: LocalCluster, plain: PlainMariaDB, repeats: int) -> Findings:
    """Ask, and return what was found; the catalogue is in the cluster."""
    await twin.copy_database(cluster.directory, "tiny", plain.address, engine="MyISAM")
    chunks = sum([(await layouts(worker, "tiny", "^Star_[0-9]+$"))[1] for worker in workers_of(cluster)])
    addresses = {PLAIN: Address("root", "", host="127.0.0.1", port=plain.port), SKYSHARD: cluster.address}
    contest = Contest(addresses, 1, Usage(Inside(cluster.directory), plain), [], {}, 60.0)
    await contest.start()
    out, lines = Findings(figures={"tiny chunks": chunks}), []
    for query in QUERIES:
        taken = await contest.measure(query, repeats)
        one, ours = taken[PLAIN], taken[SKYSHARD]
        if not ours.answered or ours.wrong:
            out.wrong.append(f"{query.name} over {chunks} chunks")
        if not (one.answered and ours.answered):
            lines.append([query.name, *(mine.error or "too long" for mine in (one, ours))])
            continue
        out.figures[f"tiny {query.name} s"] = ours.median
        used = [f"{ours.used[kind] / repeats:.2f}" for kind in _KINDS]
        lines.append([query.name, f"{one.median * 1e3:.1f}", f"{ours.median * 1e3:.1f}", *used])
    await contest.close()
    head = ["query", "plain MariaDB ms", "with chunks ms", *(f"{kind} CPU s" for kind in _KINDS)]
    out.lines = [f"### {chunks:,} chunks of some four rows, warm", "", *table(head, lines)]
    return out


def run(directory: Path, stripes: int, repeats: int) -> Findings:
    """Make a cluster and a plain server with the catalogue, and return what was found."""
    cluster = LocalCluster(directory / "chunks-cluster", free_port())
    plain = None
    try:
        cluster.ingest(write(directory / "tiny", stripes), timeout=PATIENT_S)
        plain = PlainMariaDB(directory / "chunks-plain", free_port(), home=False)
        return asyncio.run(report(cluster, plain, repeats))
    finally:
        cluster.stop()
        if plain is not None:
            plain.stop()


def main() -> int:
    """Run it and print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stripes", type=int, default=STRIPES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-chunks-") as name:
        found = run(Path(name), options.stripes, options.repeats)
    print("\n".join([*found.lines, *found.wrong]))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
