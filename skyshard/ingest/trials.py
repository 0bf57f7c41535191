"""What a catalogue file would give, without publishing anything: its files read and checked, or loaded and timed."""

from __future__ import annotations

import time

import msgspec

from backend.connection import RawConnection
from backend.scratch import scratch
from skyshard.errors import UserError
from skyshard.ingest import files, processes, staging
from skyshard.ingest.ingest import Ingest
from skyshard.ingest.job import defined
from skyshard.ingest.spill import SCRATCH, Spill


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


class Trial(Ingest):
    """An ingest that publishes nothing."""

    async def validate(self) -> list[TableTrial]:
        """Read, check and place all rows; return what they are.

        Raises
        ------
        UserError
            For the first that cannot be stored.
        """
        found = self._found()
        home = await self._home()
        try:
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
                return out
        finally:
            await self._end(home)

    async def benchmark(self) -> Timing:
        """Load everything into tables that nobody sees, check it and drop it; return how long that took."""
        found = self._found()
        home = await self._home()
        try:
            placement = await self._cluster(home)
            stage = staging.Staging(home, self._agents, list(self._workers), self._file.database)
            await stage.lock()
            number = await stage.begin("benchmark", self._places.name, self._file.grid(), self._wanted)
            try:
                began = time.monotonic()
                await self._load(
                    home, stage, number, placement, [found[spec.name] for spec in self._file.tables]
                )
                seconds = time.monotonic() - began
            finally:
                await self._abandon(home, stage, number, list(self._workers))
        finally:
            await self._end(home)
        rows = sum(table.rows for table in self._tables)
        size = sum(processes.size_of(listed) for listed in found.values())
        return Timing(
            database=self._file.database,
            rows=rows,
            size=size,
            seconds=round(seconds, 3),
            rows_per_s=round(rows / seconds, 1),
            bytes_per_s=round(size / seconds, 1),
        )

    def _found(self) -> dict[str, list[files.DataFile]]:
        out = {
            spec.name: files.find(spec, self._place(spec), self._places, self._base)
            for spec in self._file.tables
        }
        if remote := next((file.url for listed in out.values() for file in listed if file.url), None):
            raise UserError(f"{remote}: trials are for files of this machine")
        return out

    async def _end(self, home: RawConnection) -> None:
        await home.close()
        await self._finish()
