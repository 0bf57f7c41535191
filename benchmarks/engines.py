"""Storage engines, row formats and position indexes for chunk tables, side by side in one worker's server.

    python benchmarks/engines.py [--chunks 100] [--rows 10000] [--small 400] [--repeats 3] [--write benchmarks/runs]

One private MariaDB, started as a worker's is, holds the same stars in chunk tables of every contestant: some of 10°×10°
with many rows, and many with 100 rows. Everything is interleaved and given as medians, by the clock and by the
processor time of the server alone. In the end the server is killed (SIGKILL) directly after a load, twice: as the load
leaves its tables, and after FLUSH TABLES of them. What the operating system holds outlives that; a loss of power it does
not, so what it costs to have all of it on disk is measured apart (FLUSH TABLES and syncfs).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from backend.connection import RawConnection
from benchmarks import healpix
from shard.errors import ServerError
from tests.support.servers import PlainMariaDB

BANDS = "ugrizy"
COLUMNS = ("objectId", "ra", "decl", *(f"{band}Mag" for band in BANDS), "class", "chunkId", "subChunkId")
SIDE, ACROSS = 10.0, 10  # degrees of a chunk; chunks in a row of the sky
CONE_DEG = 0.1
SMALL_ROWS = 100
KILLED = 20
"""Chunks that are loaded before the server is killed."""
LOOK_UPS, CONES = 300, 100
FLUSHED = 500
"""Tables named by one FLUSH TABLES."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to store chunks.

    Attributes
    ----------
    options : str
        What follows the columns in CREATE TABLE.
    index : str
        The column of positions that is indexed, if one is.
    """

    name: str
    database: str
    options: str
    index: str = ""

    def columns(self) -> str:
        """Return the columns and keys in parentheses."""
        made = ["objectId BIGINT NOT NULL", "ra DOUBLE NOT NULL", "decl DOUBLE NOT NULL"]
        made += [f"{band}Mag DOUBLE" for band in BANDS]
        made += ["class INT", *(f"{name} INT NOT NULL DEFAULT 0 INVISIBLE" for name in COLUMNS[-2:])]
        made += ["hpx INT NOT NULL DEFAULT 0 INVISIBLE"] if self.index == "hpx" else []
        made += ["KEY (objectId)"] + ([f"KEY ({self.index})"] if self.index else [])
        return f"({', '.join(made)})"

    def load(self, file: Path, table: str) -> str:
        """Return the LOAD DATA of a chunk's text."""
        columns = ", ".join((*COLUMNS, "hpx" if self.index == "hpx" else "@none"))
        return f"LOAD DATA INFILE '{file}' INTO TABLE {self.database}.{table} ({columns})"

    def cone(self, table: str, ra: float, decl: float) -> str:
        """Return a cone search inside one chunk, with what the index can use in front."""
        low, high = decl - CONE_DEG, decl + CONE_DEG
        near = f"decl BETWEEN {low!r} AND {high!r}"
        if self.index == "hpx":
            near = f"hpx IN ({', '.join(map(str, healpix.cover(ra, decl, CONE_DEG)))})"
        lon, lat = f"RADIANS(ra - {ra!r}) / 2", f"RADIANS(decl - {decl!r}) / 2"
        apart = f"POW(SIN({lat}), 2) + COS(RADIANS(decl)) * {float(np.cos(np.radians(decl)))!r} * POW(SIN({lon}), 2)"
        limit = float(np.sin(np.radians(CONE_DEG) / 2) ** 2)
        return f"SELECT COUNT(*) FROM {self.database}.{table} WHERE {near} AND {apart} <= {limit!r}"


ENGINES = (
    Contestant("MyISAM FIXED", "fixed", "ENGINE=MyISAM ROW_FORMAT=FIXED"),
    Contestant("MyISAM DYNAMIC", "dynamic", "ENGINE=MyISAM ROW_FORMAT=DYNAMIC"),
    Contestant("Aria TRANSACTIONAL=0", "aria0", "ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=PAGE"),
    Contestant("Aria TRANSACTIONAL=1", "aria1", "ENGINE=Aria TRANSACTIONAL=1 ROW_FORMAT=PAGE"),
    Contestant("InnoDB", "innodb", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"),
)
INDEXED = (
    Contestant("MyISAM FIXED, index on decl", "decl", "ENGINE=MyISAM ROW_FORMAT=FIXED", "decl"),
    Contestant("MyISAM FIXED, indexed HEALPix", "hpx", "ENGINE=MyISAM ROW_FORMAT=FIXED", "hpx"),
)
ALL = (*ENGINES, *INDEXED)


def corner(chunk: int) -> tuple[float, float]:
    """Return where a chunk begins, in degrees."""
    return chunk % ACROSS * SIDE, -50.0 + chunk // ACROSS % 10 * SIDE


def write(directory: Path, chunks: int, rows: int) -> list[Path]:
    """Write the text of chunks, LOAD DATA's default format."""
    directory.mkdir()
    rng, out = np.random.default_rng(1), []
    for chunk in range(chunks):
        left, low = corner(chunk)
        ra, decl = left + rng.uniform(0, SIDE, rows), low + rng.uniform(0, SIDE, rows)
        keys = np.arange(rows) + chunk * rows
        mags = rng.normal(22, 2, (len(BANDS), rows)).round(4)
        fields = [keys, ra, decl, *mags, rng.integers(0, 10, rows)]
        ends = zip(rng.integers(0, 100, rows).tolist(), healpix.pixels(ra, decl).tolist(), strict=True)
        lines = (
            "\t".join(map(str, (*row, chunk, *end)))
            for row, end in zip(zip(*(one.tolist() for one in fields), strict=True), ends, strict=True)
        )
        out.append(directory / f"{chunk}.tsv")
        out[-1].write_text("\n".join(lines) + "\n")
    return out


@dataclass
class Taken:
    """Seconds of one thing, once a repetition: by the clock and of the server's processors."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def text(self, per: int = 1, unit: float = 1e3) -> str:
        """Return both medians for one of `per` equal steps."""
        wall, cpu = (statistics.median(one) * unit / per for one in (self.wall, self.cpu))
        return f"{wall:.3g} ({cpu:.3g})"


Step = Callable[[Contestant], Awaitable[None]]


class Bench:
    """One server and what was measured on it."""

    def __init__(self, server: PlainMariaDB, big: list[Path], small: list[Path], rows: int) -> None:
        self.server, self.big, self.small, self.rows = server, big, small, rows
        self.taken: dict[tuple[str, str], Taken] = defaultdict(Taken)
        self.answers: dict[str, int] = {}
        self.memory: dict[str, tuple[float, float]] = {}
        self._open: RawConnection | None = None

    @property
    def connection(self) -> RawConnection:
        """The one connection that asks."""
        assert self._open is not None
        return self._open

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold the connection; after a kill it is gone."""
        self._open = await RawConnection.open(self.server.address)
        try:
            yield
        finally:
            self._open.abort()

    @property
    def process(self) -> psutil.Process:
        """The server's process."""
        assert self.server.process is not None
        return psutil.Process(self.server.process.pid)

    async def timed(self, what: str, one: Contestant, step: Awaitable[None]) -> None:
        """Note what a step takes."""
        spent, began = sum(self.process.cpu_times()[:2]), time.perf_counter()
        await step
        self.taken[what, one.name].wall.append(time.perf_counter() - began)
        self.taken[what, one.name].cpu.append(sum(self.process.cpu_times()[:2]) - spent)

    async def each(self, what: str, listed: Sequence[Contestant], step: Step, repeats: int) -> None:
        """Measure a step of all contestants in turn, another one first in every repetition."""
        for turn in range(repeats):
            for one in (*listed[turn % len(listed) :], *listed[: turn % len(listed)]):
                await self.timed(what, one, step(one))
        print(f"{what}: done", file=sys.stderr, flush=True)

    # filling -------------------------------------------------------------------------------------

    async def make(self, one: Contestant, prefix: str, count: int) -> None:
        """Make empty tables like a template, as an ingest does."""
        run = self.connection.run
        await run(f"CREATE OR REPLACE TABLE {one.database}.template {one.columns()} {one.options}")
        for chunk in range(count):
            name = f"{one.database}.{prefix}_{chunk}"
            await run(f"CREATE OR REPLACE TABLE {name} LIKE {one.database}.template")

    async def load(self, one: Contestant, prefix: str, files: Sequence[Path]) -> None:
        """Load every table by one LOAD DATA of a file, as an agent does."""
        for chunk, file in enumerate(files):
            await self.connection.run(one.load(file, f"{prefix}_{chunk}"))

    async def close(self, one: Contestant, prefix: str, count: int) -> None:
        """Close tables, so that all of them is with the operating system."""
        names = [f"{one.database}.{prefix}_{chunk}" for chunk in range(count)]
        for start in range(0, count, FLUSHED):
            await self.connection.run(f"FLUSH TABLES {', '.join(names[start : start + FLUSHED])}")

    def sync(self) -> None:
        """Wait until the server's file system is on disk."""
        at = os.open(self.server.directory, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).syncfs(at) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(at)

    async def fill(self, repeats: int) -> None:
        """Measure making, loading and having on disk of both kinds of chunks."""

        async def settle(one: Contestant, prefix: str, count: int) -> None:
            await self.close(one, prefix, count)
            await asyncio.to_thread(self.sync)

        for prefix, files, listed in (("big", self.big, ALL), ("small", self.small, ENGINES)):
            for turn in range(repeats):
                for one in (*listed[turn % len(listed) :], *listed[: turn % len(listed)]):
                    await asyncio.to_thread(self.sync)
                    await self.timed(f"{prefix} make", one, self.make(one, prefix, len(files)))
                    await self.timed(f"{prefix} load", one, self.load(one, prefix, files))
                    await self.timed(f"{prefix} settle", one, settle(one, prefix, len(files)))
            print(f"{prefix} chunks: filled", file=sys.stderr, flush=True)

    def size(self, one: Contestant, prefix: str) -> float:
        """Return the MiB that tables' files take on the disk."""
        directory = self.server.directory / "data" / one.database
        return sum(file.stat().st_blocks for file in directory.glob(f"{prefix}_*")) / 2048

    # asking --------------------------------------------------------------------------------------

    async def scan(self, one: Contestant) -> None:
        """Read all rows of the large chunks; they are not decoded here."""
        found = 0
        for chunk in range(len(self.big)):
            result = await self.connection.query(f"SELECT * FROM {one.database}.big_{chunk}".encode())
            async for block in result.blocks():
                found += block.rows
        assert found == len(self.big) * self.rows, found

    async def _agree(self, what: str, found: int) -> None:
        assert self.answers.setdefault(what, found) == found, (what, found)

    async def _sum(self, statements: Sequence[str]) -> int:
        found = 0
        for text in statements:
            found += int((await self.connection.fetch(text))[0][0] or b"0")
        return found

    async def count(self, one: Contestant, prefix: str = "big") -> None:
        """Count rows by a filter in every chunk."""
        files = self.big if prefix == "big" else self.small
        where = f"FROM {one.database}.{prefix}_"
        texts = [f"SELECT COUNT(*) {where}{chunk} WHERE rMag < 20" for chunk in range(len(files))]
        await self._agree(f"count {prefix}", await self._sum(texts))

    async def look_up(self, one: Contestant) -> None:
        """Read single rows by key, each from the chunk that has it."""
        chance = random.Random(1)
        texts = []
        for _ in range(LOOK_UPS):
            chunk = chance.randrange(len(self.big))
            key = chunk * self.rows + chance.randrange(self.rows)
            texts.append(f"SELECT ra FROM {one.database}.big_{chunk} WHERE objectId = {key}")
        for text in texts:
            assert len(await self.connection.fetch(text)) == 1

    async def cones(self, one: Contestant) -> None:
        """Ask for cones inside single chunks."""
        chance = random.Random(2)
        texts = []
        for _ in range(CONES):
            chunk = chance.randrange(len(self.big))
            left, low = corner(chunk)
            ra, decl = (edge + chance.uniform(1, SIDE - 1) for edge in (left, low))
            texts.append(one.cone(f"big_{chunk}", ra, decl))
        await self._agree("cones", await self._sum(texts))

    async def _held(self) -> tuple[int, int]:
        """Return the bytes of memory that the server has taken, and its open files."""
        ((_, used),) = await self.connection.fetch("SHOW GLOBAL STATUS LIKE 'Memory_used'")
        return int(used or b"0"), self.process.num_fds()

    async def opened(self, one: Contestant) -> None:
        """Ask all small chunks after FLUSH TABLES, and again; note what an open table holds."""
        await self.connection.run("FLUSH TABLES")
        before = await self._held()
        await self.timed("cold", one, self.count(one, "small"))
        grown = [(new - old) / len(self.small) for new, old in zip(await self._held(), before, strict=True)]
        self.memory.setdefault(one.name, (grown[0] / 1024, grown[1]))
        await self.timed("warm", one, self.count(one, "small"))
        await self.timed("close", one, self.close(one, "small", len(self.small)))

    async def ask(self, repeats: int) -> None:
        """Measure all queries."""
        for one in ALL:  # nothing is asked of a cold cache
            await self.count(one)
        await self.each("scan", ENGINES, self.scan, min(repeats, 2))
        await self.each("count", ALL, self.count, repeats)
        await self.each("look-up", ALL, self.look_up, repeats)
        await self.each("cone", ALL, self.cones, repeats)
        for turn in range(repeats):
            for one in (*ENGINES[turn % len(ENGINES) :], *ENGINES[: turn % len(ENGINES)]):
                await self.opened(one)

    # killing -------------------------------------------------------------------------------------

    async def kill(self, flushed: bool) -> dict[str, str]:
        """Load, kill, start; return what is left of each contestant's tables, and what the first look costs."""
        files = self.big[:KILLED]
        for one in ENGINES:
            await self.make(one, "kill", len(files))
            await self.load(one, "kill", files)
            if flushed:
                await self.close(one, "kill", len(files))
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self.server.process.wait)
        began = time.perf_counter()
        await asyncio.to_thread(self.server.start)
        out = {"start": f"{time.perf_counter() - began:.1f}"}
        async with self.connected():
            for one in ENGINES:
                out[one.name] = await self._left(one, len(files))
        return out

    async def _left(self, one: Contestant, count: int) -> str:
        """Return whole tables, what the first statement on each takes, and what CHECK TABLE takes, in ms."""
        whole, taken, checked = 0, 0.0, 0.0
        for chunk in range(count):
            name = f"{one.database}.kill_{chunk}"
            began = time.perf_counter()
            try:
                rows = await self._sum([f"SELECT COUNT(objectId + ra) FROM {name} IGNORE INDEX (objectId)"])
            except ServerError:
                rows = -1
            taken += time.perf_counter() - began
            began = time.perf_counter()
            said = (await self.connection.fetch(f"CHECK TABLE {name} MEDIUM"))[-1][3]
            checked += time.perf_counter() - began
            whole += rows == self.rows and said == b"OK"
        return f"{whole} of {count} | {taken * 1e3 / count:.1f} | {checked * 1e3 / count:.1f}"


def report(bench: Bench, kills: Sequence[dict[str, str]], repeats: int, load: float) -> list[str]:
    """Return the lines of the report."""
    taken, big, small = bench.taken, len(bench.big), len(bench.small)

    def table(head: str, names: Sequence[Contestant], *cells: Callable[[Contestant], str]) -> list[str]:
        rows = [" | ".join((f"| {one.name}", *(cell(one) for cell in cells))) + " |" for one in names]
        return [head, "|---" * (head.count("|") - 1) + "|", *rows, ""]

    def of(what: str, per: int = 1, unit: float = 1e3) -> Callable[[Contestant], str]:
        return lambda one: taken[what, one.name].text(per, unit)

    return [
        f"## {datetime.now(UTC):%Y-%m-%d}: {big} chunks of {bench.rows:,} rows, {small} of {SMALL_ROWS}, "
        f"{len(os.sched_getaffinity(0))} cores shared with others, load {load:.0f}, medians of {repeats}",
        "",
        "By the clock, and in parentheses the server's processor time. Large chunks, 12 columns and an index on the key:",
        "",
        *table(
            "| tables | CREATE, ms each | LOAD DATA of all, s | to disk, s | MiB |",
            ALL, of("big make", big), of("big load", unit=1), of("big settle", unit=1),
            lambda one: f"{bench.size(one, 'big'):.0f}",
        ),
        *table(
            "| tables | all rows, s | COUNT with filter, ms | look-up by key, ms | cone of 0.1° in a chunk, ms |",
            ALL, lambda one: of("scan", unit=1)(one) if one in ENGINES else "", of("count"),
            of("look-up", LOOK_UPS), of("cone", CONES),
        ),
        "Small chunks; milliseconds and KiB each:",
        "",
        *table(
            "| tables | CREATE | LOAD DATA | to disk | KiB on disk | COUNT, table closed | open | close | KiB of memory open "
            "| files open |",
            ENGINES, of("small make", small), of("small load", small), of("small settle", small),
            lambda one: f"{bench.size(one, 'small') * 1024 / small:.0f}", of("cold", small), of("warm", small),
            of("close", small), lambda one: f"{bench.memory[one.name][0]:.0f}",
            lambda one: f"{bench.memory[one.name][1]:.1f}",
        ),
        f"SIGKILL of the server directly after the load of {min(KILLED, big)} chunks (start again: "
        f"{', '.join(kill['start'] for kill in kills)} s); whole tables, ms of the first statement on a table, of CHECK TABLE:",
        "",
        *table(
            "| tables | whole | first | CHECK | after FLUSH TABLES: whole | first | CHECK |",
            ENGINES, *(lambda one, kill=kill: kill[one.name] for kill in kills),
        ),
    ]  # fmt: skip


async def run(bench: Bench, repeats: int) -> list[dict[str, str]]:
    """Measure everything; return what the kills left."""
    async with bench.connected():
        for one in ALL:
            await bench.connection.run(f"CREATE DATABASE {one.database}")
        await bench.fill(min(repeats, 2))
        await bench.ask(repeats)
    kills = []
    for flushed in (False, True):
        async with bench.connected():
            kills.append(await bench.kill(flushed))
    return kills


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10_000, help="of a chunk")
    parser.add_argument("--small", type=int, default=400, help="chunks of 100 rows")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of queries; loads and scans of all rows: two at most"
    )
    parser.add_argument(
        "--write", type=Path, default=Path(__file__).parent / "runs", help="directory for the report"
    )
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    with tempfile.TemporaryDirectory(prefix="skyshard-engines-") as name:
        load, server = os.getloadavg()[0], PlainMariaDB(Path(name) / "worker", home=False)
        try:
            files = server.directory / "files"  # where the server may read
            big = write(files / "big", asked.chunks, asked.rows)
            bench = Bench(server, big, write(files / "small", asked.small, SMALL_ROWS), asked.rows)
            lines = report(bench, asyncio.run(run(bench, asked.repeats)), asked.repeats, load)
        finally:
            server.stop()
    print("\n".join(lines))
    asked.write.mkdir(parents=True, exist_ok=True)
    (asked.write / f"{datetime.now(UTC):%Y-%m-%d}-engines.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
