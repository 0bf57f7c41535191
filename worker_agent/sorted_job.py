"""A job whose rows are wanted in their order: every chunk sorts its own, and one merged stream is sent.

Nothing is sent before all chunks have been run; what they give is held in `runs`. The stream is one batch, which ends
with all chunks of the job.
"""

from __future__ import annotations

import asyncio

from backend.connection import RowBlock
from shard.wire import frames, sorting
from shard.wire.packets import PacketError
from worker_agent.batch import Batch
from worker_agent.runner import Floor, JobRun, Send, refusal
from worker_agent.runs import Runs, keyer
from worker_agent.spool import Spool


class SortedJob(JobRun):
    """One such job from start to end."""

    def __init__(self, floor: Floor, job: frames.Job, send: Send) -> None:
        super().__init__(floor, job, send)
        self._runs = Runs(floor.space)
        self._keyer: sorting.Keyer | None = None

    def _tell(self, batch: Batch) -> None:
        if self._keyer is None and batch.types:
            job = self._job
            self._keyer = keyer(job.order, job.hidden, batch.types, job.binary)
            self._columns = batch.types[job.hidden :]

    async def _keep(self, batch: Batch, spool: Spool, block: RowBlock) -> None:
        """Put a chunk's rows to its others."""
        if self._keyer is None or not block.data:
            return
        try:
            keyed = self._keyer.keyed(block.data)
        except ValueError as error:
            raise PacketError(str(error)) from error
        await self._runs.put(batch.chunk, keyed)

    async def _send_all(self) -> None:
        while not self._all_ended():
            self._changed.clear()
            await self._changed.wait()
        spools = [spool for _, spool in self._spools.values()]
        if self._keyer is None:
            raise RuntimeError("a chunk has ended without columns")
        width = self._keyer.width
        said = tuple(note for spool in spools for note in spool.notes)
        warnings = sum(spool.warnings for spool in spools)
        await self._send(frames.Columns(self._columns or (), width, warnings, said), b"")
        try:
            await self._send_rows(width)
        except ValueError as error:
            raise refusal(PacketError(str(error)), self._job.chunks[0]) from error
        self._runs.close()
        self.chunks_done = len(self._job.chunks)
        end = frames.BatchEnd(0, tuple(self._job.chunks), self._rows, self.bytes_sent)
        await self._send(end, b"")
        await self._send(frames.JobEnd(), b"")

    def _all_ended(self) -> bool:
        return not self._left and all(spool.ended for _, spool in self._spools.values())

    async def _send_rows(self, width: int) -> None:
        limit = self._job.row_limit
        while limit is None or self._rows < limit:
            most = -1 if limit is None else limit - self._rows
            data, rows, more = await self._runs.take(width, frames.BLOCK_BYTES, most)
            if not data:
                return
            self._rows += rows
            self.bytes_sent += len(data)
            await self._send(frames.Rows(0, rows, more), data)
            await asyncio.sleep(0)  # a proxy that reads as fast must not keep the agent from others

    async def _clean_up(self, sender: asyncio.Future[None]) -> None:
        await super()._clean_up(sender)
        self._runs.close()


__all__ = ["SortedJob"]
