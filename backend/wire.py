"""The socket's edge of a MariaDB connection: bytes in with backpressure, waiting for room to write.

It knows no packets. Reading pauses when nobody takes what was received, and a lost link is one
exception, `ConnectionLost`, whatever the event loop calls it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

HIGH_WATER = 1 << 20
"""Bytes received and not yet taken, past which reading pauses."""


class ConnectionLost(Exception):  # noqa: N818 - it is what happened
    """The server closed the connection, or it could not be made."""


class Wire(asyncio.Protocol):
    """Bytes received pile up here until the reader of the current reply takes them.

    Parameters
    ----------
    high_water : int
        Bytes past which reading pauses until they are taken; 0: it pauses until somebody wants more.

    Attributes
    ----------
    size : int
        Bytes received and not yet taken.
    lost : str or None
        Why nothing more will come.
    transport : asyncio.Transport
        Set when a connection is made with this protocol, else by whoever puts it on a transport.
    first : callable or None
        Is given received bytes before they pile up, if none wait; returns whether it has taken them.
    """

    def __init__(self, high_water: int = HIGH_WATER) -> None:
        self._high_water = high_water
        self.first: Callable[[bytes], bool] | None = None
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.lost: str | None = None
        self.transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._end: asyncio.Event | None = None
        self._paused = False
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class

    def data_received(self, data: bytes) -> None:
        """Keep received bytes; pause the transport past the limit."""
        if self.first is not None and not self.pieces and self.first(data):
            return
        self.pieces.append(data)
        self.size += len(data)
        if self.size > self._high_water and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, and wake whoever waits."""
        self._ended(str(exc) if exc else "closed by the server")
        self.resume_writing()

    def eof_received(self) -> bool:
        """Note that nothing more comes; the transport closes."""
        self._ended("closed by the server")
        return False

    def _ended(self, reason: str) -> None:
        self.lost = reason
        self.wake()
        if self._end is not None:
            self._end.set()

    async def end(self) -> None:
        """Wait until nothing more will come."""
        if self._end is None:
            self._end = asyncio.Event()
        if self.lost is None:
            await self._end.wait()

    def pause_writing(self) -> None:
        """Note that the transport is full."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that the transport has room again."""
        self._full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def wake(self) -> None:
        """Wake whoever waits for bytes."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Wait that long for a byte; return whether there is something to take or to fail with."""
        if not self.pieces and self.lost is None:
            loop = asyncio.get_running_loop()
            reader = self._reader = loop.create_future()
            timer = loop.call_later(seconds, self.wake)
            try:
                await reader
            finally:
                timer.cancel()
                self._reader = None
        return bool(self.pieces) or self.lost is not None

    async def take(self, once: bool = False) -> bytes:
        """Return what has been received, waiting for the first byte; with `once`, or for `wake`.

        Raises
        ------
        ConnectionLost
            If nothing is there and nothing will come.
        """
        while not self.pieces:
            if self.lost is not None:
                raise ConnectionLost(self.lost)
            self.resume()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
            if once and not self.pieces and self.lost is None:
                return b""
        data = self.pieces.popleft() if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        self.size = 0
        if self._high_water:
            self.resume()
        return data

    def resume(self) -> None:
        """Read on, if reading had paused: whoever looks for bytes, or for the connection's end, needs that."""
        if self._paused and self.transport is not None and self.lost is None:
            self._paused = False
            self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until the transport takes more bytes."""
        while self._full and self.lost is None:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        if self.lost is not None:
            raise ConnectionLost(self.lost)
