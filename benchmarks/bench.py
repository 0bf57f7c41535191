"""skyshard beside one plain MariaDB with the same rows: medians and ratios, interleaved, in one run.

    python benchmarks/bench.py [--stars 500000] [--repeats 5]

Builds a synthetic catalogue in a private directory, ingests it into two workers, copies it into one plain
server (MyISAM, same indexes), asks both the same queries by the same client, and prints a Markdown table.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.connection import RawConnection
from skyshard.cluster.local import free_port
from tests.support import twin
from tests.support.servers import LocalCluster, PlainMariaDB, skyshard

QUERIES = {
    "full scan, 10 columns": "SELECT * FROM synth.Object",
    "COUNT with filter": "SELECT COUNT(*) FROM synth.Detection WHERE flux > 5000",
    "GROUP BY few groups": "SELECT band, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY band",
    "GROUP BY many groups": "SELECT objectId, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY objectId",
    "top 10": "SELECT objectId, rMag FROM synth.Object ORDER BY rMag LIMIT 10",
    "point look-up": "SELECT * FROM synth.Object WHERE objectId = 12345",
    "light curve": "SELECT * FROM synth.Detection WHERE objectId = 12345",
    "director-dependent join": "SELECT COUNT(*) FROM synth.Object o JOIN synth.Detection d USING (objectId) WHERE o.rMag < 20 AND d.band = 'r'",
}


async def seconds(address, sql):
    connection = await RawConnection.open(address)
    try:
        started = time.perf_counter()
        result = await connection.query(sql.encode())
        first, rows = 0.0, 0
        async for block in result.blocks():
            first = first or time.perf_counter() - started
            rows += block.rows
        return time.perf_counter() - started, first, rows
    finally:
        await connection.close()


async def run(cluster, plain, repeats):
    print("| query | rows | plain ms | skyshard ms | ratio | first row ms |")
    print("|---|---|---|---|---|---|")
    for name, sql in QUERIES.items():
        taken = {"plain": [], "sky": [], "first": []}
        for _ in range(repeats):
            for key, address in (("plain", plain.address), ("sky", cluster.address)):
                whole, first, rows = await seconds(address, sql)
                taken[key].append(whole)
                if key == "sky":
                    taken["first"].append(first)
        plain_s, sky_s, first_s = (statistics.median(taken[key]) for key in ("plain", "sky", "first"))
        ratio = sky_s / plain_s
        print(
            f"| {name} | {rows} | {plain_s * 1e3:.1f} | {sky_s * 1e3:.1f} | {ratio:.2f} | {first_s * 1e3:.1f} |"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stars", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-bench-") as name:
        directory = Path(name)
        skyshard("sample", "--dir", directory / "data", "--stars", str(options.stars))
        plain = PlainMariaDB(directory / "plain")
        cluster = LocalCluster(directory / "cluster", free_port())
        try:
            started = time.perf_counter()
            cluster.ingest(directory / "data" / "CATALOG.yaml")
            took = time.perf_counter() - started
            started = time.perf_counter()
            asyncio.run(twin.copy_database(cluster.directory, "synth", plain.address, engine="MyISAM"))
            copied = time.perf_counter() - started
            print(
                f"{options.stars} stars and their detections: ingest {took:.1f} s, copy into plain {copied:.1f} s\n"
            )
            asyncio.run(run(cluster, plain, options.repeats))
        finally:
            cluster.stop()
            plain.stop()


if __name__ == "__main__":
    main()
