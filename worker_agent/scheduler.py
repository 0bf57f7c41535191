"""Which chunk queries run now: a pure core, events in, instructions out.

Interactive jobs take slots first and have some of their own; while a scan waits or runs they leave it one
slot, so that a stream of them cannot hold it up for ever. Scans wait by chunk number: when a chunk is begun,
every waiting scan of that chunk is started next to it, so that its pages are read once. A job whose chunks
are small takes several at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec


class Start(msgspec.Struct, frozen=True):
    """Start these chunks of this job now; they take one slot together."""

    job: int
    chunks: tuple[int, ...]


@dataclass(slots=True)
class Scheduler:
    """Slots and two lanes.

    Parameters
    ----------
    slots : int
        Starts of scans that run at once.
    interactive_slots : int
        Further slots that only interactive jobs may take.
    """

    slots: int
    interactive_slots: int
    _quick: deque[int] = field(default_factory=deque)
    _scans: dict[int, deque[int]] = field(default_factory=dict)
    _order: list[int] = field(default_factory=list)
    """Chunks that scans wait for, ascending; some are gone by now."""
    _at: int = 0
    """Where in the order the scans are."""
    _mine: dict[int, list[int]] = field(default_factory=dict)
    """Waiting chunks by job; those of scans ascend."""
    _width: dict[int, int] = field(default_factory=dict)
    _running_quick: int = 0
    _running_scans: int = 0
    _lane: dict[int, bool] = field(default_factory=dict)

    def submit(self, job: int, chunks: Sequence[int], interactive: bool) -> list[Start]:
        """Add a job, or chunks that were removed from it; return what to start."""
        self._lane[job] = interactive
        if interactive:
            if chunks:
                self._mine[job] = [*self._mine.get(job, ()), *chunks]
                self._quick.append(job)
            return self._fill()
        self._mine[job] = sorted([*self._mine.get(job, ()), *chunks])
        for chunk in chunks:
            self._scans.setdefault(chunk, deque()).append(job)
        self._sort(self._order[self._at] if self._at < len(self._order) else -1)
        return self._fill()

    def widen(self, job: int, width: int) -> None:
        """Let a job take so many chunks at a time."""
        if job in self._lane:
            self._width[job] = width

    def finished(self, job: int) -> list[Start]:
        """Note that one start of a job has ended; return what to start."""
        if self._lane[job]:
            self._running_quick -= 1
        else:
            self._running_scans -= 1
        return self._fill()

    def begin_one(self) -> bool:
        """Take a slot for a look-up that is no job of the queue; return False if it would have to wait."""
        if self._quick or self._scans:
            return False
        total = self.slots + self.interactive_slots
        for_scans = 1 if total > 1 and self._running_scans else 0
        if self.running >= total or self._running_quick >= total - for_scans:
            return False
        self._running_quick += 1
        return True

    def end_one(self) -> list[Start]:
        """Give the slot of a look-up back; return what to start."""
        self._running_quick -= 1
        return self._fill()

    def remove(self, job: int) -> list[int]:
        """Forget the waiting chunks of a job and return them (its running ones still call `finished`)."""
        waiting = self._mine.pop(job, [])
        if self._lane.get(job):
            self._quick = deque(other for other in self._quick if other != job)
        else:
            for chunk in waiting:
                self._take(job, chunk)
        return waiting

    def forget(self, job: int) -> None:
        """Forget a job of which nothing runs any more."""
        self._lane.pop(job, None)
        self._width.pop(job, None)
        self._mine.pop(job, None)

    @property
    def running(self) -> int:
        """Starts that run now."""
        return self._running_quick + self._running_scans

    @property
    def queued(self) -> int:
        """Chunk queries that wait."""
        return sum(map(len, self._mine.values()))

    def _fill(self) -> list[Start]:
        out: list[Start] = []
        total = self.slots + self.interactive_slots
        for_scans = 1 if total > 1 and (self._scans or self._running_scans) else 0
        while self._quick and self.running < total and self._running_quick < total - for_scans:
            out.append(self._quick_start())
            self._running_quick += 1
        while self._scans and self._running_scans < self.slots and self.running < total:
            out.append(self._scan_start())
            self._running_scans += 1
        return out

    def _quick_start(self) -> Start:
        job = self._quick[0]
        mine, width = self._mine[job], self._width.get(job, 1)
        chunks, self._mine[job] = tuple(mine[:width]), mine[width:]
        if not self._mine[job]:
            self._quick.popleft()
        return Start(job, chunks)

    def _scan_start(self) -> Start:
        head = self._head()
        job = self._scans[head][0]
        mine = self._mine[job]
        begin = bisect_left(mine, head)
        chunks = tuple(mine[begin : begin + self._width.get(job, 1)])
        del mine[begin : begin + len(chunks)]
        for chunk in chunks:
            self._take(job, chunk)
        return Start(job, chunks)

    def _take(self, job: int, chunk: int) -> None:
        waiting = self._scans[chunk]
        waiting.remove(job)
        if not waiting:
            del self._scans[chunk]

    def _head(self) -> int:
        """Return the chunk that is next: the one that others have just begun, or the first behind it."""
        while True:
            while self._at < len(self._order):
                if self._order[self._at] in self._scans:
                    return self._order[self._at]
                self._at += 1
            self._sort(-1)

    def _sort(self, head: int) -> None:
        self._order = sorted(self._scans)
        self._at = bisect_left(self._order, head)
