"""Cursors over distributed results: rows are kept aside and handed out by COM_STMT_FETCH.

As in MariaDB the statement runs to its end when it is executed, and its rows wait in a temporary file (the
first megabyte in memory), so a cursor holds no worker, no connection and little memory.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence

from proxy.session.client import ClientStream
from shard.errors import LIMIT_EXCEEDED, SkyError
from shard.wire.packets import MAX_PAYLOAD, packet
from shard.wire.protocol import StatusFlag

IN_MEMORY = 1 << 20
_READ = 256 << 10


class Cursor:
    """The rows of one executed statement; takes the place of the client while it runs.

    Parameters
    ----------
    limit : int
        Bytes of rows it may keep.
    others : int
        Bytes of that which the session's other cursors keep.

    Attributes
    ----------
    definitions, shown : tuple of bytes
        The columns that the rows have, and as the home server defines them for a cursor, if that is known.
    """

    def __init__(self, limit: int, others: int = 0) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._limit, self._others = limit, others
        self.size = self._at = 0
        self._rest = b""
        self.definitions: tuple[bytes, ...] = ()
        self.shown: tuple[bytes, ...] = ()
        self.warnings = 0
        self.started = self.ended = False

    async def columns(self, definitions: Sequence[bytes], status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Keep the head of the result set."""
        del status
        self.started = True
        self.definitions = tuple(definitions)

    async def packet(self, payload: bytes) -> None:
        """Keep a row's payload."""
        await self.rows(packet(payload, 0))

    async def rows(self, block: bytes | bytearray, more: bool = False) -> None:
        """Keep whole row packets, which may end within a row."""
        del more
        self.size += len(block)
        if self._others + self.size > self._limit:
            raise SkyError(
                LIMIT_EXCEEDED,
                limit="size of a session's cursors",
                value=f"{self._limit} bytes",
                setting="cursor_bytes",
            )
        if self.size > IN_MEMORY:
            await asyncio.to_thread(self._file.write, block)
        else:
            self._file.write(block)

    async def end(self, warnings: int = 0, status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Keep how the result ended."""
        del status
        self.warnings, self.ended = warnings, True

    async def open(self, client: ClientStream, status: int) -> None:
        """Send the answer to COM_STMT_EXECUTE: columns, then that there is a cursor."""
        status |= StatusFlag.CURSOR_EXISTS
        await client.columns(self.shown or self.definitions, status)
        if client.deprecate_eof:  # else the EOF after the columns is the whole end
            await client.end(self.warnings, status)
        self._file.seek(0)

    async def fetch(self, client: ClientStream, wanted: int, status: int) -> bool:
        """Send up to `wanted` rows, and whether they were the last; return whether there may be more.

        As in MariaDB the end is told by the fetch that meets it, which may be one without rows.
        """
        left = wanted
        while left:
            block, count, more = await self._next(left)
            if not block:
                break
            left -= count
            await client.rows(block, more)
        await client.end(0, status | (StatusFlag.LAST_ROW_SENT if left else StatusFlag.CURSOR_EXISTS))
        return not left

    async def _next(self, wanted: int) -> tuple[bytes, int, bool]:
        """Return packets of at most `wanted` rows, how many rows end in them, and whether the last goes on."""
        while True:
            end, count, more = _whole_packets(self._rest, self._at, wanted)
            if end > self._at:
                block, self._at = self._rest[self._at : end], end
                return block, count, more
            rest = self._rest[self._at :]
            read = await asyncio.to_thread(self._file.read, max(_READ, len(rest)))
            if not read:
                return b"", 0, False
            self._rest, self._at = rest + read, 0

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()


def _whole_packets(data: bytes, at: int, wanted: int) -> tuple[int, int, bool]:
    """Return where whole packets from `at` end, of `wanted` rows at most, how many rows that are, and whether one goes on."""
    count, more = 0, False
    while count < wanted and at + 4 <= len(data):
        length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        if at + 4 + length > len(data):
            break
        at += 4 + length
        more = length == MAX_PAYLOAD
        count += not more
    return at, count, more
