"""The client's side of a session: packets in, replies out, with backpressure.

Reading goes on while a query runs, so that a client that disconnects is noticed at once and pipelined
commands are kept; a bounded queue stops a client that sends without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mysql_mimic.types import Capabilities

from shard.errors import SkyError
from shard.wire import rows
from shard.wire.packets import MAX_PAYLOAD, Eof, Err, Ok, lenenc_int, packet, packet_count

_QUEUED = 64


class ClientGone(Exception):  # noqa: N818 - it is what happened
    """The client closed the connection."""


class ClientStream:
    """One client connection.

    Attributes
    ----------
    started : bool
        Something of the current reply has been sent.
    gone : asyncio.Event
        Set when the client has disconnected.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._packets: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(_QUEUED)
        self.gone = asyncio.Event()
        self.capabilities = 0
        self.seq = 0
        self.started = False
        self.bytes_sent = 0
        self._task = asyncio.create_task(self._read(), name="client reader")

    async def _read(self) -> None:
        buffer = bytearray()
        try:
            while data := await self._reader.read(1 << 18):
                buffer += data
                at = 0
                while len(buffer) - at >= 4:
                    length = int.from_bytes(buffer[at : at + 3], "little")
                    if len(buffer) - at < 4 + length:
                        break
                    await self._packets.put((buffer[at + 3], bytes(buffer[at + 4 : at + 4 + length])))
                    at += 4 + length
                del buffer[:at]
        except (ConnectionError, OSError):
            pass
        self.gone.set()
        await self._packets.put(None)

    async def raw_packet(self) -> tuple[int, bytes]:
        """Return (sequence number, payload) of the next single packet."""
        item = await self._packets.get()
        if item is None:
            raise ClientGone
        return item

    async def command(self) -> bytes:
        """Return the next whole payload and begin a new reply."""
        payload = b""
        while True:
            seq, piece = await self.raw_packet()
            payload += piece
            if len(piece) < MAX_PAYLOAD:
                break
        self.seq = (seq + 1) & 255
        self.started = False
        return payload

    async def raw(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes of a relayed reply as they are."""
        self.started = True
        self.bytes_sent += len(data)
        self.writer.write(data)
        await self._drain()

    async def _drain(self) -> None:
        try:
            await self.writer.drain()
        except (ConnectionError, OSError) as error:
            raise ClientGone from error

    async def packet(self, payload: bytes) -> None:
        """Send a payload, framed and numbered."""
        data = packet(payload, self.seq)
        self.seq = (self.seq + packet_count(len(payload))) & 255
        await self.raw(data)

    async def rows(self, block: bytes) -> None:
        """Send whole row packets, numbered anew."""
        numbered = bytearray(block)
        self.seq = rows.renumber(numbered, self.seq)
        await self.raw(numbered)

    @property
    def deprecate_eof(self) -> bool:
        """Whether this client wants OK packets in place of EOF."""
        return bool(self.capabilities & Capabilities.CLIENT_DEPRECATE_EOF)

    async def columns(self, definitions: Sequence[bytes], status: int = 2) -> None:
        """Send the head of a result set."""
        await self.packet(lenenc_int(len(definitions)))
        for payload in definitions:
            await self.packet(payload)
        if not self.deprecate_eof:
            await self.packet(Eof(0, status).encode())

    async def end(self, warnings: int = 0, status: int = 2) -> None:
        """Send the end of a result set; no affected rows, whatever the number of rows."""
        if self.deprecate_eof:
            await self.packet(Ok(0, 0, status, warnings).encode(0xFE))
        else:
            await self.packet(Eof(warnings, status).encode())

    async def ok(self, status: int = 2) -> None:
        """Send OK."""
        await self.packet(Ok(status=status).encode())

    async def error(self, error: SkyError) -> None:
        """Send an ERR packet, also in the middle of rows."""
        await self.packet(Err(error.errno, error.sqlstate, error.message).encode())

    async def close(self) -> None:
        """Close the connection and end the reader."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, OSError):
            return
