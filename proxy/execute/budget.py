"""One byte budget for the whole proxy process: past it, reading from agents waits.

One query may have a third of it, so that a client that does not read leaves room for the others.
"""

from __future__ import annotations

import asyncio

JOB_BYTES = 512 << 10
"""Bytes that a running job costs besides its rows: its connection, a frame in the making, its book-keeping.

Measured: with 64 readers that stop, each job costs the process about as much beyond the rows it counts.
"""


class ByteBudget:
    """Bytes of rows that are in the process, of all queries together.

    Parameters
    ----------
    limit : int
        Bytes past which no more should be read.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._jobs = 0
        self._watchers: set[asyncio.Event] = set()

    def full(self, own: int = 0) -> bool:
        """Whether no more should be read, for a query that holds `own` bytes."""
        return self.used + self._reserved() >= self.limit or own >= self.limit // 3

    def _reserved(self) -> int:
        """Return what the jobs cost; rows have half of everything, or many small answers could not be held back."""
        return min(self._jobs * JOB_BYTES, self.limit // 2)

    def enter(self) -> None:
        """Count a job that runs."""
        self._jobs += 1

    def leave(self) -> None:
        """Count it no more; if that makes room, whoever watches is told."""
        self._jobs -= 1
        self._tell()

    def add(self, size: int) -> None:
        """Count bytes that were read."""
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back; if that makes room, whoever watches is told."""
        self.used -= size
        self._tell()

    def _tell(self) -> None:
        if not self.full():
            for event in self._watchers:
                event.set()

    def watch(self, event: asyncio.Event) -> None:
        """Set `event` whenever there is room again, until `unwatch`."""
        self._watchers.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        """Forget a watcher."""
        self._watchers.discard(event)
