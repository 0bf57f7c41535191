"""One byte budget for the whole proxy process: past it, reading from agents waits."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bytes of rows that are in the process, of all queries together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def full(self) -> bool:
        """Whether no more should be read."""
        return self.used >= self.limit

    def add(self, size: int) -> None:
        """Count bytes that were read."""
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size
        while self._waiting and not self.full():
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        if self._waiting and not self.full():
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
