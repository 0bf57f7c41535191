"""Which chunk queries run now: a pure core, events in, instructions out.

Interactive jobs take slots first and have some of their own; while a scan waits or runs they leave it one
slot, so that a stream of them cannot hold it up for ever. Scans wait by chunk number: when a chunk is begun, every waiting scan of that chunk is started next to it, so that its pages are read once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec


class Start(msgspec.Struct, frozen=True):
    """Start this chunk of this job now."""

    job: int
    chunk: int


@dataclass(slots=True)
class Scheduler:
    """Slots and two lanes.

    Parameters
    ----------
    slots : int
        Chunk queries of scans that run at once.
    interactive_slots : int
        Further slots that only interactive jobs may take.
    """

    slots: int
    interactive_slots: int
    _quick: deque[Start] = field(default_factory=deque)
    _scans: dict[int, deque[int]] = field(default_factory=dict)
    _head: int = -1
    _running_quick: int = 0
    _running_scans: int = 0
    _lane: dict[int, bool] = field(default_factory=dict)

    def submit(self, job: int, chunks: list[int], interactive: bool) -> list[Start]:
        """Add a job; return what to start."""
        self._lane[job] = interactive
        if interactive:
            self._quick.extend(Start(job, chunk) for chunk in chunks)
        else:
            for chunk in chunks:
                self._scans.setdefault(chunk, deque()).append(job)
        return self._fill()

    def finished(self, job: int) -> list[Start]:
        """Note that one chunk of a job has ended; return what to start."""
        if self._lane[job]:
            self._running_quick -= 1
        else:
            self._running_scans -= 1
        return self._fill()

    def remove(self, job: int) -> list[int]:
        """Forget the waiting chunks of a job and return them (its running ones still call `finished`)."""
        out = [start.chunk for start in self._quick if start.job == job]
        self._quick = deque(start for start in self._quick if start.job != job)
        for chunk in list(self._scans):
            left = deque(other for other in self._scans[chunk] if other != job)
            out += [chunk] * (len(self._scans[chunk]) - len(left))
            if left:
                self._scans[chunk] = left
            else:
                del self._scans[chunk]
        return out

    def forget(self, job: int) -> None:
        """Forget a job of which nothing runs any more."""
        self._lane.pop(job, None)

    @property
    def running(self) -> int:
        """Chunk queries that run now."""
        return self._running_quick + self._running_scans

    @property
    def queued(self) -> int:
        """Chunk queries that wait."""
        return len(self._quick) + sum(map(len, self._scans.values()))

    def _fill(self) -> list[Start]:
        out: list[Start] = []
        total = self.slots + self.interactive_slots
        for_scans = 1 if total > 1 and (self._scans or self._running_scans) else 0
        while self._quick and self.running < total and self._running_quick < total - for_scans:
            out.append(self._quick.popleft())
            self._running_quick += 1
        while self._scans and self._running_scans < self.slots and self.running < total:
            if self._head not in self._scans:
                later = [chunk for chunk in self._scans if chunk > self._head]
                self._head = min(later) if later else min(self._scans)
            waiting = self._scans[self._head]
            out.append(Start(waiting.popleft(), self._head))
            if not waiting:
                del self._scans[self._head]
            self._running_scans += 1
        return out
