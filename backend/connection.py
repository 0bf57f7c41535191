"""A MariaDB connection that hands out raw row packets.

Nothing is decoded on the way: a result is its column definitions' payloads and blocks of whole row
packets. Reading pauses when nobody takes the blocks, so memory stays bounded whatever the size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from backend.address import Address
from backend.takeover import ConnectionLost, Taken, take
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import Err, Ok, PacketError, packet
from shard.wire.replies import (
    ColumnsEvent,
    EndEvent,
    ErrEvent,
    Event,
    LocalInfile,
    OkEvent,
    PreparedEvent,
    ReplyKind,
    ReplyScanner,
    RowsEvent,
)  # fmt: skip

COM_QUIT, COM_QUERY, COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_CLOSE, COM_RESET = 1, 3, 22, 23, 25, 31
HIGH_WATER = 1 << 20
"""Bytes received and not yet taken, past which reading pauses."""
BLOCK_BYTES = 256 << 10

__all__ = ["Address", "ConnectionLost", "RawConnection", "Result", "RowBlock"]


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Whole row packets and how many rows they are."""

    data: bytes
    rows: int


class _Wire(asyncio.Protocol):
    """The receiving side: bytes pile up here until the current reply's reader takes them."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.lost: str | None = None
        self.transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._paused = False
        self._full = False

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size > HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = str(exc) if exc else "closed by the server"
        self._wake()
        self.resume_writing()

    def eof_received(self) -> bool:
        self.lost = "closed by the server"
        self._wake()
        return False

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def take(self) -> bytes:
        """Return what has been received, waiting for the first byte."""
        while not self.pieces:
            if self.lost is not None:
                raise ConnectionLost(self.lost)
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self.pieces.popleft() if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        self.size = 0
        if self._paused and self.transport is not None and self.lost is None:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def drain(self) -> None:
        """Wait until the transport takes more bytes."""
        while self._full and self.lost is None:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        if self.lost is not None:
            raise ConnectionLost(self.lost)


class Result:
    """One statement's answer: `columns` and blocks, or `ok`."""

    def __init__(self, connection: RawConnection, scanner: ReplyScanner, prepared: int | None = None) -> None:
        self._connection = connection
        self._scanner = scanner
        self._events: deque[Event] = deque()
        self._prepared = prepared
        self.columns: tuple[bytes, ...] = ()
        self.ok: Ok | None = None
        self.end: Ok | None = None

    async def _next(self) -> Event | None:
        while not self._events:
            if self._scanner.done:
                return None
            self._events.extend(self._scanner.feed(await self._connection.wire.take()))
        return self._events.popleft()

    async def open(self) -> Result:
        """Read up to the columns or the OK."""
        event = await self._next()
        if isinstance(event, OkEvent):
            self.ok = self.end = event.ok
            await self._finish()
        elif isinstance(event, ColumnsEvent):
            self.columns = event.definitions
        elif isinstance(event, ErrEvent):
            await self._fail(event.err)
        else:
            raise ConnectionLost("unexpected reply")
        return self

    async def _finish(self) -> None:
        self._connection.finished(self)
        if self._prepared is not None:
            self._connection.close_statement(self._prepared)

    async def _fail(self, err: Err) -> None:
        await self._finish()
        raise ServerError(err.errno, err.sqlstate, err.message)

    async def blocks(self) -> AsyncIterator[RowBlock]:
        """Yield the rows; after the last block `end` is set.

        Raises
        ------
        ServerError
            If the statement fails in the middle.
        ConnectionLost
            If the server goes away.
        """
        held: list[bytes] = []
        size = count = 0
        while self.end is None:
            if not self._events and size and (size >= BLOCK_BYTES or not self._connection.wire.pieces):
                yield RowBlock(b"".join(held), count)
                held, size, count = [], 0, 0
            event = await self._next()
            if isinstance(event, RowsEvent):
                held.append(event.block)
                size += len(event.block)
                count += event.rows
            elif isinstance(event, EndEvent):
                self.end = event.ok
                await self._finish()
            elif isinstance(event, ErrEvent):
                await self._fail(event.err)
            else:
                raise ConnectionLost("unexpected packet among rows")
        if size:
            yield RowBlock(b"".join(held), count)

    async def drain(self) -> Ok:
        """Read and forget what is left."""
        async for _ in self.blocks():
            pass
        if self.end is None:
            raise ConnectionLost("reply did not end")
        return self.end


class RawConnection:
    """One connection; one statement at a time."""

    def __init__(self, taken: Taken, wire: _Wire) -> None:
        self.wire = wire
        self._taken = taken
        self._transport = taken.transport
        self.thread_id = taken.thread_id
        self._open: Result | None = None
        self._closed = False

    @staticmethod
    async def open(
        address: Address, database: str | None = None, charset_id: int = 45, flags: int = 0
    ) -> RawConnection:
        """Connect; utf8mb4, autocommit as the server has it."""
        del charset_id, flags  # text is utf8mb4 until SET NAMES says otherwise
        wire = _Wire()
        taken = await take(address, database, wire)
        wire.transport = taken.transport
        return RawConnection(taken, wire)

    @property
    def closed(self) -> bool:
        """Whether the connection is closed or lost."""
        return self._closed or self.wire.lost is not None

    @property
    def busy(self) -> bool:
        """Whether a result is unread."""
        return self._open is not None

    def finished(self, result: Result) -> None:
        """Note that a result has been read to its end."""
        if self._open is result:
            self._open = None

    def _send(self, payload: bytes) -> None:
        if self.closed:
            raise ConnectionLost(self.wire.lost or "closed")
        if self._open is not None:
            raise ConnectionLost("the last result was not read")
        self._transport.write(packet(payload, 0))

    async def query(self, sql: bytes) -> Result:
        """Run a statement of text protocol and return its result."""
        self._send(bytes((COM_QUERY,)) + sql)
        return await self._result(ReplyKind.QUERY)

    async def _result(self, kind: ReplyKind, prepared: int | None = None) -> Result:
        result = Result(self, ReplyScanner(kind, self._taken.deprecate_eof), prepared)
        self._open = result
        return await result.open()

    async def run(self, sql: str | bytes) -> Ok:
        """Run a statement and forget its rows."""
        result = await self.query(sql.encode() if isinstance(sql, str) else sql)
        return await result.drain()

    async def fetch(self, sql: str | bytes) -> list[list[bytes | None]]:
        """Return all rows of a small result, as text fields."""
        result = await self.query(sql.encode() if isinstance(sql, str) else sql)
        out: list[list[bytes | None]] = []
        async for block in result.blocks():
            out += rows.split(block.data)
        return out

    async def execute(self, sql: bytes, parameters: Sequence[Parameter]) -> Result:
        """Prepare, execute and close a statement: binary rows."""
        self._send(bytes((COM_STMT_PREPARE,)) + sql)
        scanner = ReplyScanner(ReplyKind.PREPARE, self._taken.deprecate_eof)
        header: PreparedEvent | None = None
        while not scanner.done:
            for event in scanner.feed(await self.wire.take()):
                if isinstance(event, ErrEvent):
                    raise ServerError(event.err.errno, event.err.sqlstate, event.err.message)
                if isinstance(event, PreparedEvent):
                    header = event
        if header is None:
            raise ConnectionLost("no PREPARE reply")
        if header.parameters != len(parameters):
            self.close_statement(header.statement_id)
            raise PacketError(f"{header.parameters} parameters wanted, {len(parameters)} given")
        self._send(execute_payload(header.statement_id, parameters))
        return await self._result(ReplyKind.QUERY, header.statement_id)

    def close_statement(self, statement_id: int) -> None:
        """Send COM_STMT_CLOSE, which has no reply."""
        if not self.closed:
            self._transport.write(packet(bytes((COM_STMT_CLOSE,)) + statement_id.to_bytes(4, "little"), 0))

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL with its text from memory.

        If `pieces` fails, the connection is closed, because a cut file would be loaded.
        """
        self._send(bytes((COM_QUERY,)) + sql)
        scanner = ReplyScanner(ReplyKind.QUERY, self._taken.deprecate_eof)
        sent = False
        try:
            while not scanner.done:
                for event in scanner.feed(await self.wire.take()):
                    if isinstance(event, LocalInfile) and not sent:
                        sent = True
                        await self._send_file(pieces)
                    elif isinstance(event, ErrEvent):
                        raise ServerError(event.err.errno, event.err.sqlstate, event.err.message)  # noqa: TRY301
                    elif isinstance(event, OkEvent):
                        return event.ok
        except ServerError:
            raise
        except BaseException:
            self.abort()
            raise
        raise ConnectionLost("LOAD DATA was not answered")

    async def _send_file(self, pieces: AsyncIterator[bytes]) -> None:
        seq = 2
        async for piece in pieces:
            for start in range(0, len(piece), 1 << 20):
                part = piece[start : start + (1 << 20)]
                self._transport.writelines([len(part).to_bytes(3, "little") + bytes((seq & 255,)), part])
                seq += 1
                await self.wire.drain()
        self._transport.write(b"\0\0\0" + bytes((seq & 255,)))

    async def kill_query(self, address: Address) -> None:
        """Interrupt the running statement from a second connection."""
        other = await RawConnection.open(address)
        try:
            with contextlib.suppress(ServerError):
                await other.run(f"KILL QUERY {self.thread_id}")
        finally:
            await other.close()

    async def reset(self) -> None:
        """Send COM_RESET_CONNECTION: variables, temporary tables and settings go."""
        self._send(bytes((COM_RESET,)))
        result = await self._result(ReplyKind.SIMPLE)
        if result.ok is None:
            raise ConnectionLost("reset was not answered")

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._transport.abort()

    async def close(self) -> None:
        """Say goodbye and close."""
        if not self.closed and self._open is None:
            self._transport.write(packet(bytes((COM_QUIT,)), 0))
            self._transport.close()
        else:
            self._transport.abort()
        self._closed = True


def execute_payload(statement_id: int, parameters: Sequence[Parameter]) -> bytes:
    """Return COM_STMT_EXECUTE: no cursor, types bound, values as given."""
    head = bytes((COM_STMT_EXECUTE,)) + statement_id.to_bytes(4, "little") + b"\0" + (1).to_bytes(4, "little")
    if not parameters:
        return head
    nulls = bytearray((len(parameters) + 7) // 8)
    types, values = bytearray(), bytearray()
    for index, parameter in enumerate(parameters):
        types += bytes((parameter.type, 0x80 if parameter.unsigned else 0))
        if parameter.value is None:
            nulls[index // 8] |= 1 << (index % 8)
        else:
            values += parameter.value
    return head + bytes(nulls) + b"\x01" + bytes(types) + bytes(values)
