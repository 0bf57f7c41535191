"""How long the repair of a lost worker takes: three workers, two copies, as many stars as Tycho-2 has.

    python benchmarks/repair.py [--stars 1871011] [--repeats 3]

Agent and server of one worker are stopped; the clock runs from `skyshard repair` until every chunk has two copies again, by
rows and checksums. Prints a row for each repetition, with the load of the machine.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).parents[1]))

from skyshard.cluster.local import free_port
from tests.support.servers import Inside, LocalCluster, skyshard

CATALOG = """\
database: sky
partitioning: {stripes: 18, sub_stripes: 10, overlap_deg: 0.1}
tables:
  - {name: Star, kind: director, key: starId, longitude: ra, latitude: decl, files: [stars.parquet]}
"""


def write(directory: Path, stars: int) -> Path:
    """Write a catalogue of stars at random places, with two magnitudes; return its file."""
    rng = np.random.default_rng(1)
    columns = {
        "starId": np.arange(stars),
        "ra": rng.uniform(0, 360, stars),
        "decl": np.degrees(np.arcsin(rng.uniform(-1, 1, stars))),
        "bt": rng.normal(11, 1, stars).astype(np.float32),
        "vt": rng.normal(11, 1, stars).astype(np.float32),
    }
    directory.mkdir()
    pyarrow.parquet.write_table(pa.table(columns), directory / "stars.parquet")
    (directory / "CATALOG.yaml").write_text(CATALOG)
    return directory / "CATALOG.yaml"


def lose(inside: Inside, number: int, what: signal.Signals) -> None:
    """Stop a worker, or let it go on."""
    for name in (f"agent-worker{number}", f"worker{number}"):
        inside.process(name).send_signal(what)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=1_871_011)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skyshard-repair-") as directory:
        cluster = LocalCluster(Path(directory) / "c", free_port(), "--replicas", "2", workers=3)
        inside = Inside(cluster.directory)
        try:
            began = time.perf_counter()
            cluster.ingest(write(Path(directory) / "sky", asked.stars))
            print(f"ingest of {asked.stars:,} stars in two copies: {time.perf_counter() - began:.1f} s")
            print("| worker | load | copies | rows with overlap | seconds |\n|---|---|---|---|---|")
            taken = []
            for turn in range(asked.repeats):
                number = 1 + turn % 3
                lose(inside, number, signal.SIGSTOP)
                try:
                    load, began = os.getloadavg()[0], time.perf_counter()
                    done = skyshard("repair", "--json", "--dir", cluster.directory)
                    taken.append(time.perf_counter() - began)
                finally:
                    lose(inside, number, signal.SIGCONT)
                (outcome,) = json.loads(done.stdout)
                assert outcome["copied"] > 0
                assert not outcome["failed"]
                assert not outcome["lost"]
                print(
                    f"| {number} | {load:.0f} | {outcome['copied']} | {outcome['rows']:,} | {taken[-1]:.1f} |",
                    flush=True,
                )
                skyshard("repair", "--rebalance", "--dir", cluster.directory)
            print(f"median {statistics.median(taken):.1f} s")
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
