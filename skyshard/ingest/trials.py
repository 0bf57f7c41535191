"""What a catalogue file would give, without publishing anything: its files read and checked, or loaded and timed."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from backend.scratch import scratch
from shard.catalog.catalog_file import CatalogFile, SourceLines
from skyshard.catalog.cluster import opened, parted
from skyshard.home.provision import check_version
from skyshard.ingest import files, processes
from skyshard.ingest.first import FirstIngest
from skyshard.ingest.ingest import Ingest
from skyshard.ingest.job import defined
from skyshard.ingest.order import fingerprint, order_of, parsed, stamped
from skyshard.ingest.registering import first_order
from skyshard.ingest.spill import SCRATCH, Spill
from skyshard.ingest.steps import Steps
from skyshard.ingest.transactions import META, find, lock_database
from skyshard.ingest.whole import abandon


class TableTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of a table hold; `size` in bytes as they are stored, `read_s` seconds."""

    table: str
    rows: int
    chunks: int
    overlap_rows: int
    files: int
    size: int
    read_s: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a catalogue is ingested: everything but the publishing, in seconds."""

    database: str
    rows: int
    size: int
    seconds: float
    rows_per_s: float
    bytes_per_s: float


class _Validation(Ingest):
    """Reads, checks and places rows, and loads none."""

    async def run(self, found: Mapping[str, list[files.DataFile]]) -> list[TableTrial]:
        """Do it for the files of each table."""
        home = await self._home()
        try:
            await check_version(home)
            with scratch(SCRATCH) as directory:
                out = []
                for spec in self.in_order():
                    job = await self._job(home, spec, found[spec.name], directory)
                    began = time.monotonic()
                    with scratch(SCRATCH) as texts, Spill(texts) as main, Spill(texts) as overlap:
                        async for _ in self._partition(job, main, overlap, texts):
                            pass
                        self._described(job, defined(job))
                        out.append(
                            TableTrial(
                                table=spec.name,
                                rows=job.rows,
                                chunks=len({*main.rows, *overlap.rows}) if defined(job).is_sharded else 0,
                                overlap_rows=sum(overlap.rows.values()),
                                files=len(job.listed),
                                size=processes.size_of(job.listed),
                                read_s=round(time.monotonic() - began, 3),
                            )
                        )
                    if any(one.url for one in found[spec.name]):
                        await asyncio.to_thread(shutil.rmtree, directory / f"{spec.name} files")
                return out
        finally:
            await home.close()
            await self._finish()


async def validate(steps: Steps, catalog: Path) -> list[TableTrial]:
    """Read, check and place all rows of a catalogue file; return what they are.

    Raises
    ------
    UserError
        For the first that cannot be stored.
    """
    file, lines = parsed(order_of(catalog), complete=True)
    found = await asyncio.to_thread(_files, file, lines, catalog.parent)
    trial = _Validation(file, lines, catalog.parent, steps.address, jobs=steps.jobs, bars=steps.bars)
    return await trial.run(found)


async def benchmark(steps: Steps, catalog: Path) -> Timing:
    """Load everything as a first ingest does, check it and drop it; return how long loading and checking took.

    Raises
    ------
    UserError
        If something is wrong with the files or the cluster.
    """
    order = order_of(catalog)
    async with opened(steps.address) as cluster:
        order, what = await first_order(cluster, order, replace=False, replicas=None)
        file, lines = parsed(order)
        now = await asyncio.to_thread(stamped, file, lines, order)
        first = FirstIngest(cluster, file, (await parted(cluster))[0])
        await lock_database(cluster.home, file.database)
        detail = msgspec.json.encode(order).decode()
        number = await first.open("benchmark", detail, fingerprint(order), what, now, "running")
        try:
            began = time.monotonic()
            await steps.load_in(cluster, await find(cluster.home, number))
            tables = await first.check(number, what, lines)
            seconds = time.monotonic() - began
        finally:
            await abandon(steps.address, cluster, first, number)
        # Nobody asked for a transaction: what has no fingerprint is in no list of them.
        await cluster.home.run(f"UPDATE {META}.ingests SET fingerprint = '' WHERE ingest_id = {number}")
    rows = sum(table.rows for table in tables)
    size = sum(stamp.size for listed in now for _, stamp in listed)
    return Timing(
        database=file.database,
        rows=rows,
        size=size,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / seconds, 1),
        bytes_per_s=round(size / seconds, 1),
    )


def _files(file: CatalogFile, lines: SourceLines, base: Path) -> dict[str, list[files.DataFile]]:
    return {
        spec.name: files.find(spec, ("tables", index), lines, base) for index, spec in enumerate(file.tables)
    }
