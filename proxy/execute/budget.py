"""One byte budget for the whole proxy process: past it, reading from agents waits.

One query may have a third of it, so that a client that does not read leaves room for the others.
"""

from __future__ import annotations

import asyncio


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
        self._watchers: set[asyncio.Event] = set()

    def full(self, own: int = 0) -> bool:
        """Whether no more should be read, for a query that holds `own` bytes."""
        return self.used >= self.limit or own >= self.limit // 3

    def add(self, size: int) -> None:
        """Count bytes that were read."""
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back; if that makes room, whoever watches is told."""
        self.used -= size
        if not self.full():
            for event in self._watchers:
                event.set()

    def watch(self, event: asyncio.Event) -> None:
        """Set `event` whenever there is room again, until `unwatch`."""
        self._watchers.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        """Forget a watcher."""
        self._watchers.discard(event)
