"""Rows of one query in their order: every worker sends one sorted stream, and they are merged as they come.

A row goes on once every stream has shown its next, so none of them may be missing: chunks of a worker that was lost
hold everything up until their new stream is there. A stream of which rows have gone on cannot be had again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from backend.agent_link import AgentPool
from backend.connection import RowBlock
from proxy.execute.budget import ByteBudget
from proxy.execute.copies import Copies
from proxy.execute.core import Abort, Discard, Instruction, Park, StartJob
from proxy.execute.dispatcher import End, RowStream, Said
from proxy.execute.health import Health
from proxy.execute.work import Work
from shard.errors import INTERNAL, SkyError
from shard.wire import frames
from shard.wire.sorting import Merger

AHEAD_BYTES = 1 << 20
"""Bytes of one stream past which no more of it is read ahead."""
_NEWS = Said(0, ())
"""Wakes whoever waits for rows."""


class SortedStream(RowStream):
    """Released rows of one query, as blocks, in the order of their keys.

    Streams are known by the number of their job, or by that of the chunks that wait for a worker, negative.
    """

    def __init__(
        self, work: Work, agents: AgentPool, budget: ByteBudget, health: Health, copies: Copies
    ) -> None:
        super().__init__(work, agents, budget, health, copies)
        self._streams: dict[int, int] = {}  # their numbers in the merge, once that has begun
        self._merger: Merger | None = None
        self._width = 0
        self._heads: dict[int, frames.Columns] = {}
        self._sizes: dict[int, int] = {}  # jobs' numbers of chunks
        self._fixed: set[int] = set()  # jobs that have ended, or of which rows have gone on
        self._complete = False

    # what workers send ---------------------------------------------------------------------------

    def _obey(self, instructions: list[Instruction]) -> None:
        for item in instructions:
            if isinstance(item, StartJob):
                self._join(item.job)
                self._sizes[item.job] = len(item.chunks)
            elif isinstance(item, Park):
                self._join(-item.park)
            elif isinstance(item, Discard):
                self._leave(item.job)
            elif isinstance(item, Abort):
                self._empty(item.job)
        super()._obey(instructions)

    async def _wait_for(self, park: int, workers: frozenset[int]) -> None:
        await super()._wait_for(park, workers)
        self._leave(-park)  # its chunks have their jobs now

    def _join(self, stream: int) -> None:
        """Expect a stream: nothing may go on without it."""
        self._streams[stream] = -1 if self._merger is None else self._merger.add()

    def _leave(self, stream: int) -> None:
        """Forget a stream."""
        number = self._streams.pop(stream)
        self._heads.pop(stream, None)
        self._open.pop(stream, None)
        self._came.pop((stream, 0), None)
        if self._merger is not None:
            left = self._merger.left(number)
            self._merger.drop(number)
            self._release(left)
        self._wake()

    def _empty(self, stream: int) -> None:
        """Hold everything up until a stream that is given up has left: none of its rows may go on."""
        if self._merger is not None:
            number = self._streams[stream]
            left = self._merger.left(number)
            self._merger.drop(number)
            self._streams[stream] = self._merger.add()
            self._release(left)

    def _wake(self) -> None:
        if self._hungry:
            self._hungry = False
            self._queue.put_nowait(_NEWS)

    def _columns(self, job: int, header: frames.Columns) -> None:
        super()._columns(job, header)
        if self._merger is None:
            self._width, self._merger = header.key, Merger(header.key, keep=False)
            self._streams = {stream: self._merger.add() for stream in self._streams}
        elif header.key != self._width:
            raise SkyError(INTERNAL, query_id=self._work.query_id)
        self._heads[job] = header
        self._work.on_progress(self._progress())

    def _progress(self) -> int:
        """Return how many chunks have been run: a stream begins with the last of its own."""
        return sum(self._sizes[job] for job in self._heads)

    def _merging(self) -> Merger:
        if self._merger is None:
            raise SkyError(INTERNAL, query_id=self._work.query_id)
        return self._merger

    def _rows(self, job: int, header: frames.Rows, body: bytes | bytearray) -> None:
        self._count(job, header, len(body))
        try:
            self._merging().feed(self._streams[job], body)
        except ValueError as error:
            raise SkyError(INTERNAL, query_id=self._work.query_id) from error
        self._wake()

    def _end_batch(self, job: int, header: frames.BatchEnd) -> None:
        super()._end_batch(job, header)
        self._fixed.add(job)
        self._merging().end(self._streams[job])
        self._wake()

    def _whole(self, job: int, header: frames.Whole, body: bytes | bytearray) -> None:
        raise SkyError(INTERNAL, query_id=self._work.query_id)  # rows without keys

    def _must_wait(self, job: int) -> bool:
        number = self._streams.get(job, -1)
        if self._merger is None or self._merger.waits(number):
            return False  # all others wait for it
        return self._full() or self._merger.left(number) >= AHEAD_BYTES

    # what goes on --------------------------------------------------------------------------------

    async def _blocks(self) -> AsyncIterator[RowBlock]:
        left = self._work.limit_rows
        while left != 0:
            while self._queue.qsize():
                self._heed(self._queue.get_nowait())
            merger = self._merger
            before = 0 if merger is None else merger.consumed
            block = self._next(-1 if left is None else left)
            if block is not None and merger is not None:
                left = None if left is None else left - block.rows
                size = merger.consumed - before
                yield block
                del block
                self._release(size)  # now that the client has it
                self._moved.set()
            elif self._complete and (merger is None or merger.done):
                break
            else:
                self._hungry = True
                self._moved.set()
                self._heed(await self._queue.get())
        for head in self._heads.values():
            self._said(head.warnings, head.notes)

    def _heed(self, item: object) -> None:
        if isinstance(item, BaseException):
            raise item
        self._complete = self._complete or isinstance(item, End)

    def _next(self, most: int) -> RowBlock | None:
        """Return the next rows that may go on."""
        if self._merger is None:
            return None
        try:
            data, rows, more = self._merger.take(frames.BLOCK_BYTES, most)
        except ValueError as error:
            raise SkyError(INTERNAL, query_id=self._work.query_id) from error
        if not data:
            return None
        for stream, number in self._streams.items():
            if stream > 0 and stream not in self._fixed and self._merger.begun(number):
                self._fixed.add(stream)
                self._core.rows(stream, 0, 0, must_stream=True)
        return RowBlock(data, rows, more)

    async def close(self) -> None:
        """Cancel what still runs, and forget what has come."""
        await super().close()
        self._merger = None


__all__ = ["SortedStream"]
