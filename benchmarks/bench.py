"""skyshard beside one plain MariaDB and beside Spider, with the same rows, asked the same in one run.

    python benchmarks/bench.py [--stars 1000000] [--repeats 5] [--quick | --tiny] [--large] [--only PART ...] [--write benchmarks/runs]

Builds a synthetic catalogue in a private directory; (a) one plain MariaDB holds all of it, (b) Spider has it
spread over the same worker servers by key, (c) skyshard has it in chunks on two workers, all with one engine, row
format and set of indexes. All are asked the same queries by the same client, in turn, over TCP without TLS; the tables give
medians and ratios to (a). Then look-ups by several clients, short queries beside scans, memory, near neighbours, and ten
thousand chunks. It ends with the table of aims, and with status 1 if an answer of skyshard's was wrong.
`--quick` is small enough for some minutes, `--only` asks for some parts alone. `--write` names a directory for the
report and a picture of it, by date.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.address import Address
from benchmarks import aims, answers, beside, chunks, contest, lookups, near, plot, report, slow
from benchmarks.asking import SHORT_TIMES, Contest
from benchmarks.contest import PLAIN, SKYSHARD, SPIDERS
from benchmarks.findings import Findings
from benchmarks.queries import MATCH, MATCH_DEG, NEAR_ROWS, NEIGHBOURS
from benchmarks.usage import Usage, family_peak_mb
from skyshard.cluster import certificate
from skyshard.cluster.local import free_port
from tests.support import twin
from tests.support.servers import ExtraProxy, Inside, LocalCluster, PlainMariaDB, skyshard

QUERIES, LOOK_UPS, BESIDE, MEMORY, NEAR, CHUNKS = PARTS = (
    "queries", "look-ups", "beside", "memory", "near", "chunks",
)  # fmt: skip
_NEAR = f"near{NEAR_ROWS}"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    stars: int
    repeats: int
    look_ups: int
    seconds: float
    patience: float
    large_gb: float
    near_most: int
    stripes: int

    @staticmethod
    def of(options: argparse.Namespace) -> Size:
        large = 10.0 if options.large else 1.0
        if options.tiny:
            return Size(20_000, 1, 40, 0.3, 5.0, 0.1, 120_000, 20)
        if options.quick:
            return Size(100_000, 3, 200, 1.0, 10.0, large if options.large else 0.3, 240_000, 45)
        return Size(options.stars, options.repeats, 1000, 5.0, 30.0, large, 1_000_000, chunks.STRIPES)


class Field:
    """The servers of all contestants, filled; stopped at the end."""

    def __init__(self, directory: Path, size: Size) -> None:
        self.directory, self.size = directory, size
        self.cluster = LocalCluster(directory / "cluster", free_port())
        self.servers: list[PlainMariaDB] = []
        self.trouble: str | None = None

    def fill(self) -> None:
        """Load skyshard, and start the others."""
        data, stars = self.directory / "data", self.size.stars
        skyshard("sample", "--dir", data, "--stars", str(stars), timeout=contest.PATIENT_S)
        for catalog in (
            data / "CATALOG.yaml",
            contest.write_wide(self.directory / "wide", stars // contest.WIDE_SHARE),
            near.write(self.directory / "near", NEAR_ROWS),
        ):
            self.cluster.ingest(catalog, timeout=contest.PATIENT_S)
        tls = self.cluster.directory / "tls"
        files = certificate.Files(tls / "server.crt", tls / "server.key")
        for part in ("plain", "spider"):
            self.servers.append(PlainMariaDB(self.directory / part, free_port(), files, home=False))

    def stop(self) -> None:
        """Stop all."""
        self.cluster.stop()
        for server in self.servers:
            server.stop()

    @property
    def addresses(self) -> dict[str, Address]:
        """Where the contestants listen."""
        plain, head = [Address("root", "", host="127.0.0.1", port=server.port) for server in self.servers]
        spiders = {} if self.trouble else dict.fromkeys(SPIDERS, head)
        return {PLAIN: plain, **spiders, SKYSHARD: self.cluster.address}

    async def others(self) -> tuple[dict[str, contest.Stored], dict[str, int]]:
        """Give the others the same rows; return how tables are stored, and what queries count."""
        plain, head = self.servers
        for database in ("synth", "wide", _NEAR):
            await twin.copy_database(self.cluster.directory, database, plain.address, engine="MyISAM")
        table = f"{_NEAR}.Object"
        self.trouble = await contest.make_spider(self.cluster, plain, head, table)
        stored = await contest.equal_terms(self.cluster, plain, self.trouble is None, table)
        stars, crowd = [await contest.positions(plain.address, name) for name in ("synth.Object", table)]
        found = contest.places(stars)
        for address in dict.fromkeys(self.addresses.values()):
            await contest.make_own(address, self.size.stars, found)
        expected = {
            MATCH: answers.pairs(found, stars, MATCH_DEG),
            NEIGHBOURS: answers.pairs(crowd, crowd, near.RADIUS) - len(crowd),
        }
        return stored, expected


async def measure(field: Field, parts: Sequence[str], wanted: Sequence[str], out: Findings) -> None:
    """Ask the contestants; all but Spider and the plain server are filled."""
    size, cluster = field.size, field.cluster
    stored, expected = await field.others()
    plain, head = field.servers
    usage = Usage(Inside(cluster.directory), plain, head)
    addresses = field.addresses
    out.add(
        Findings(
            ["All contestants store the same rows alike:", "", *(f"- {each}" for each in stored.values())]
        )
    )
    if field.trouble:
        out.add(Findings([f"Spider does not run here: {field.trouble}"]))
    if QUERIES in parts:
        servers = [plain.address, head.address, *contest.workers_of(cluster)]
        asked = Contest(addresses, size.stars, usage, servers, expected, size.patience)
        rows = {name: each.rows // each.chunks for name, each in stored.items()}
        out.add(await report.run(asked, list(addresses), rows, size.repeats, wanted))
        await asked.close()
    if LOOK_UPS in parts:
        out.add(await look_ups(field, addresses))
    if BESIDE in parts:
        out.add(await beside.report(cluster, size.stars, size.look_ups // 2))
    out.add(Findings(report.memory(usage)))
    if MEMORY in parts:
        out.add(await slow.report(cluster, field.directory, size.stars, size.large_gb, 6 * size.seconds))


async def look_ups(field: Field, addresses: Mapping[str, Address]) -> Findings:
    """Return the look-ups' tables."""
    some = {name: addresses[name] for name in (PLAIN, SPIDERS[0], SKYSHARD) if name in addresses}
    out = await lookups.alone(some, field.size.stars, field.size.look_ups)
    two = ExtraProxy(field.cluster, field.directory / "two", 2)
    try:
        some[lookups.TWO] = Address("root", "", host="127.0.0.1", port=two.port)
        out.add(await lookups.rates(some, field.size.stars, field.size.seconds))
        peak = family_peak_mb(two.process.pid)
        out.add(Findings([f"Most memory of one of the two processes: {peak:.0f} MB."]))
    finally:
        two.stop()
    return out


def run(options: argparse.Namespace, directory: Path, out: Findings) -> None:
    """Run the parts; add to the findings, the table of aims last."""
    size, parts = Size.of(options), options.only or PARTS
    cores = len(os.sched_getaffinity(0))
    out.lines = [
        f"## {datetime.now(UTC):%Y-%m-%d %H:%M}: {size.stars:,} stars, {cores} cores shared with others, load "
        f"{os.getloadavg()[0]:.0f}, medians of {size.repeats} (short queries: {size.repeats * SHORT_TIMES})",
    ]  # fmt: skip
    if set(parts) - {NEAR, CHUNKS}:
        field = Field(directory, size)
        try:
            field.fill()
            asyncio.run(measure(field, parts, options.query or (), out))
        finally:
            field.stop()
    if NEAR in parts:
        out.add(near.run(directory, near.sizes_to(NEAR_ROWS, size.near_most), size.repeats))
    if CHUNKS in parts:
        out.add(chunks.run(directory, size.stripes, size.repeats))
    out.figures["wrong"] = len(out.wrong)
    out.add(Findings(aims.lines(out.figures)))
    if out.wrong:
        out.add(
            Findings(["### Wrong, or not answered by skyshard", "", *(f"- {what}" for what in out.wrong)])
        )


def write(found: Findings, directory: Path, stars: int) -> None:
    """Write the report and its picture; one of the same day stays."""
    directory.mkdir(parents=True, exist_ok=True)
    name, number = f"{datetime.now(UTC):%Y-%m-%d}-{stars}", 1
    while (path := directory / f"{name}{f'-{number}' if number > 1 else ''}.md").exists():
        number += 1
    text = "\n".join(found.lines) + "\n"
    path.write_text(text)
    if "| query | rows a chunk |" in text:
        plot.draw(text, path.with_suffix(".svg"))


def main() -> int:
    """Run the benchmark and print the report; return 1 if an answer was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stars", type=int, default=1_000_000, help="stars; about five detections each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100,000 stars, three repeats, fewer chunks")
    parser.add_argument("--tiny", action="store_true", help="20,000 stars, once: to try the program itself")
    parser.add_argument("--large", action="store_true", help="a large result of 10 GB instead of 1 GB")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    parser.add_argument("--query", nargs="+", help="only queries whose names contain one of these")
    parser.add_argument("--write", type=Path, help="directory for the report and its picture")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    found = Findings()
    try:
        with tempfile.TemporaryDirectory(prefix="skyshard-bench-") as name:
            run(options, Path(name), found)
    finally:
        print("\n".join(found.lines))  # what was measured before something failed, too
    if options.write is not None:
        write(found, options.write, Size.of(options).stars)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
