"""A MariaDB connection that hands out raw row packets.

Nothing is decoded on the way: a result is its column definitions' payloads and blocks of whole row
packets. Reading pauses when nobody takes the blocks, so memory stays bounded whatever the size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence

from backend.address import Address
from backend.result import BLOCK_BYTES, Replies, Result
from backend.row_blocks import RowBlock, Small
from backend.takeover import Taken, take
from backend.wire import ConnectionLost, Wire
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import Eof, Ok, PacketError, packet
from shard.wire.protocol import Command, StatusFlag
from shard.wire.replies import (
    ColumnsEvent,
    ErrEvent,
    Event,
    LocalInfile,
    OkEvent,
    ReplyKind,
    ReplyScanner,
)  # fmt: skip

KILL_TIMEOUT_S = 5.0
"""Seconds a server has for killing a statement."""
_LAST_PREPARED = 0xFFFFFFFF
"""MariaDB's number for the statement that was prepared last."""
_CLOSE_LAST = bytes((Command.STMT_CLOSE,)) + _LAST_PREPARED.to_bytes(4, "little")
_FILE_PIECE = 1 << 20
_SETTINGS = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, SESSION autocommit=1"

__all__ = ["BLOCK_BYTES", "Address", "ConnectionLost", "RawConnection", "Result", "RowBlock", "Small"]


class RawConnection:
    """One connection; one statement at a time, or several that are sent together.

    A statement whose reply was not read to its end leaves the connection `busy`: it can only be closed.

    Attributes
    ----------
    in_transaction : bool
        Whether what `run` has run last has left a transaction open.
    """

    def __init__(self, taken: Taken, wire: Wire) -> None:
        self.wire = wire
        self._taken = taken
        self._transport = taken.transport
        self.thread_id = taken.thread_id
        self._unread = 0
        self._given: int | None = None
        self._deferred: list[bytes] = []
        self._closed = False
        self.in_transaction = False

    @staticmethod
    async def open(address: Address, database: str | None = None) -> RawConnection:
        """Connect and log in: utf8mb4 and autocommit, whatever the server's defaults are.

        Raises
        ------
        ConnectionLost
            If the server cannot be reached, or does not answer in time.
        ServerError
            If it refuses the account or the database.
        """
        wire = Wire()
        connection = RawConnection(await take(address, database, wire), wire)
        try:
            await connection.run(_SETTINGS)
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def closed(self) -> bool:
        """Whether the connection is closed or lost."""
        return self._closed or self.wire.lost is not None

    @property
    def lost(self) -> bool:
        """Whether the server, or what is between, has ended the connection."""
        return not self._closed and self.wire.lost is not None

    @property
    def busy(self) -> bool:
        """Whether a reply has not been read to its end."""
        return self._unread > 0

    def finished(self, replies: int = 1) -> None:
        """Note that a reply, or several, have been read to their end."""
        self._unread -= replies

    def unread(self) -> None:
        """Note that what `ended_by` has read will be read again."""
        self._unread += 1 if self._given is None else 2

    def desynchronised(self, reason: str) -> ConnectionLost:
        """Close the connection, whose bytes can no longer be told apart; return the error to raise."""
        self.abort()
        return ConnectionLost(reason)

    def _begin(self, *payloads: bytes, after: tuple[bytes, ...] = ()) -> None:
        """Send commands, and `after` them some that have no reply."""
        if self.closed:
            raise ConnectionLost(self.wire.lost or "closed")
        if self._unread:
            raise RuntimeError("the last reply was not read to its end")
        if self.wire.size:  # what nobody asked for: the server says goodbye
            raise self.desynchronised("closed by the server")
        self._unread = len(payloads)
        self._transport.write(b"".join([packet(payload, 0) for payload in (*payloads, *after)]))

    async def receive(self, scanner: ReplyScanner) -> list[Event]:
        """Wait for bytes and return what they complete of a reply."""
        return self.scan(scanner, await self.wire.take())

    def scan(self, scanner: ReplyScanner, data: bytes) -> list[Event]:
        """Return what received bytes complete of a reply."""
        try:
            events = scanner.feed(data)
        except PacketError as error:
            raise self.desynchronised("malformed reply") from error
        if scanner.consumed != len(data):
            raise self.desynchronised("bytes after a reply")
        return events

    def _scanner(self, kind: ReplyKind, times: int = 1) -> ReplyScanner:
        return ReplyScanner(kind, self._taken.deprecate_eof, [kind] * (times - 1))

    async def query(self, sql: bytes) -> Result:
        """Run a statement of text protocol and return its result.

        Raises
        ------
        ServerError
            If the server refuses it.
        ConnectionLost
            If the server goes away.
        """
        return await (await self._after_deferred(sql)).next()

    async def small(self, sql: bytes) -> Small | Result:
        """Run a statement whose reply may be small: return all of it, if it comes at once, else its result."""
        self.begin(sql)
        return await self.end()

    def begin(self, sql: bytes, parameters: Sequence[Parameter] | None = None) -> None:
        """Send a statement; `end` or `ended_by` reads its reply.

        With parameters it is prepared, executed and closed at once: binary rows.
        """
        if parameters is None:
            self._given = None
            self._begin(bytes((Command.QUERY,)) + sql)
            return
        self._given = len(parameters)
        execute = execute_payload(_LAST_PREPARED, parameters)
        self._begin(bytes((Command.STMT_PREPARE,)) + sql, execute, after=(_CLOSE_LAST,))

    async def end(self) -> Small | Result:
        """Return the reply of the statement that was sent by `begin`."""
        data = await self.wire.take()
        found = self.ended_by(data)
        if found is not None:
            return found
        if self._given is None:
            scanner = self._scanner(ReplyKind.QUERY)
            return await Result(self, scanner, None, deque(self.scan(scanner, data))).open()
        scanner = ReplyScanner(ReplyKind.PREPARE, self._taken.deprecate_eof, [ReplyKind.QUERY])
        replies = Replies(self, scanner, binary=True, closed=True, events=self.scan(scanner, data))
        return await replies.next(self._given)

    def ended_by(self, data: bytes) -> Small | None:
        """Return the reply that received bytes are, if they are the whole of a small one."""
        if self._given is not None:
            head = rows.prepared_reply(data, self._taken.deprecate_eof)
            if head is None or head[1] != self._given:
                return None
            data = data[head[2] :]
        found = rows.small_reply(data, self._taken.deprecate_eof)
        if found is None:
            return None
        tails, block, count, end = found
        last = Ok.decode(end) if self._taken.deprecate_eof else Eof.decode(end)
        if last.status & StatusFlag.MORE_RESULTS:
            raise self.desynchronised("several results")
        self._unread = 0
        return Small(tails, RowBlock(block, count), last.warnings)

    def defer(self, sql: str | bytes) -> None:
        """Send a statement without rows together with the next one; if it is refused, the next one raises.

        The next one has run nevertheless, and the connection must then be closed.
        """
        self._deferred.append(sql.encode() if isinstance(sql, str) else sql)

    async def _after_deferred(self, *statements: bytes) -> Replies:
        """Send statements behind those that were deferred, whose replies are read."""
        deferred, self._deferred = self._deferred, []
        replies = self.ask([*deferred, *statements])
        for _ in deferred:
            await (await replies.next()).drain()
        return replies

    async def flush(self) -> None:
        """Run what is deferred."""
        if self._deferred:
            await self._after_deferred()

    def ask(
        self,
        statements: Sequence[bytes],
        parameters: Sequence[Parameter] | None = None,
        cursor: bool = False,
    ) -> Replies:
        """Send several statements at once; the server runs them one after another.

        A statement costs a fifth of one that waits for the reply before it. Each is still a packet of its
        own, so that no text can be taken for two statements.

        Parameters
        ----------
        parameters : sequence of Parameter or None
            None: text protocol; else every statement is prepared and executed with these: binary rows.
        cursor : bool
            Their rows stay at the server, in cursors that nobody reads.
        """
        if parameters is None:
            head = bytes((Command.QUERY,))
            self._begin(*[head + sql for sql in statements])
            return Replies(self, self._scanner(ReplyKind.QUERY, len(statements)), binary=False)
        execute = execute_payload(_LAST_PREPARED, parameters, cursor)
        head = bytes((Command.STMT_PREPARE,))
        self._begin(*[payload for sql in statements for payload in (head + sql, execute)])
        kinds = [ReplyKind.PREPARE, ReplyKind.QUERY] * len(statements)
        scanner = ReplyScanner(kinds[0], self._taken.deprecate_eof, kinds[1:])
        return Replies(self, scanner, binary=True)

    async def run_all(self, statements: Sequence[str | bytes]) -> None:
        """Run statements without rows, sent at once; if one is refused, those behind it have run nevertheless.

        Raises
        ------
        ServerError
            The first refusal.
        """
        if not statements:
            return
        replies = self.ask([sql.encode() if isinstance(sql, str) else sql for sql in statements])
        refused: ServerError | None = None
        for _ in statements:
            try:
                await (await replies.next()).drain()
            except ServerError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    async def run(self, sql: str | bytes) -> Ok:
        """Run a statement and forget its rows."""
        result = await self.query(sql.encode() if isinstance(sql, str) else sql)
        ok = await result.drain()
        self.in_transaction = bool(ok.status & StatusFlag.IN_TRANSACTION)
        return ok

    async def fetch(self, sql: str | bytes) -> list[list[bytes | None]]:
        """Return all rows of a small result, as text fields."""
        text = sql.encode() if isinstance(sql, str) else sql
        result = await (self.query(text) if self._deferred else self.small(text))
        if isinstance(result, Small):
            return rows.split(result.block.data)
        out: list[list[bytes | None]] = []
        async for block in result.blocks():
            out += rows.split(block.data)
        return out

    async def fetch_texts(self, sql: str | bytes) -> list[list[str]]:
        """Return all rows of a small result as Unicode texts; NULL is an empty one."""
        return [
            ["" if value is None else value.decode("utf-8", "replace") for value in row]
            for row in await self.fetch(sql)
        ]

    async def execute(self, sql: bytes, parameters: Sequence[Parameter], cursor: bool = False) -> Result:
        """Prepare, execute and close a statement: binary rows; none if they are for a `cursor`.

        Raises
        ------
        PacketError
            If the statement wants another number of parameters.
        """
        await self.flush()
        return await self.ask([sql], parameters, cursor).next(len(parameters))

    def close_statement(self, statement_id: int) -> None:
        """Send COM_STMT_CLOSE, which has no reply."""
        if not self.closed:
            self._transport.write(
                packet(bytes((Command.STMT_CLOSE,)) + statement_id.to_bytes(4, "little"), 0)
            )

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL with its text from memory, cut anywhere.

        If `pieces` fails or the task is cancelled, the connection is closed: the server would load a
        text that was cut short, or take the next statement for its end.

        Raises
        ------
        ServerError
            If the server refuses the statement or the text.
        ConnectionLost
            If the server goes away.
        """
        last: Event | None = None
        try:
            replies = await self._after_deferred(sql)
            while not isinstance(last, OkEvent | ErrEvent | ColumnsEvent):
                last = await replies.event()
                if isinstance(last, LocalInfile):
                    await self._send_file(pieces)
        except BaseException:
            self.abort()
            raise
        if isinstance(last, ColumnsEvent):
            self.abort()
            raise ValueError("load was given a statement with rows")  # noqa: TRY004 - what it is, not its type
        self.finished()
        if isinstance(last, ErrEvent):
            raise ServerError(last.err.errno, last.err.sqlstate, last.err.message)
        return last.ok

    async def _send_file(self, pieces: AsyncIterator[bytes]) -> None:
        seq = 2
        async for piece in pieces:
            for start in range(0, len(piece), _FILE_PIECE):
                part = piece[start : start + _FILE_PIECE]
                self._transport.writelines([len(part).to_bytes(3, "little") + bytes((seq & 255,)), part])
                seq += 1
                await self.wire.drain()
        self._transport.write(b"\0\0\0" + bytes((seq & 255,)))

    async def kill(self, address: Address) -> None:
        """End all that was sent, and the session, from a second connection.

        Raises
        ------
        ConnectionLost
            If the server cannot be reached.
        TimeoutError
            If it does not answer in time.
        """
        async with asyncio.timeout(KILL_TIMEOUT_S):
            other = await RawConnection.open(address)
            try:
                with contextlib.suppress(ServerError):
                    await other.run(f"KILL CONNECTION {self.thread_id}")
            finally:
                await other.close()

    async def reset(self) -> None:
        """Send COM_RESET_CONNECTION: variables, temporary tables and settings go; the database stays.

        The server would go on with its own default character set, so ours is set again.
        """
        self._begin(bytes((Command.RESET_CONNECTION,)))
        await Result(self, self._scanner(ReplyKind.SIMPLE)).open()
        await self.run(_SETTINGS)

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._transport.abort()

    async def close(self) -> None:
        """Say goodbye and close."""
        if not self.closed and not self._unread:
            self._transport.write(packet(bytes((Command.QUIT,)), 0))
            self._transport.close()
        else:
            self._transport.abort()
        self._closed = True


def execute_payload(statement_id: int, parameters: Sequence[Parameter], cursor: bool = False) -> bytes:
    """Return COM_STMT_EXECUTE: with a read-only cursor or none, types bound, values as given."""
    head = (
        bytes((Command.STMT_EXECUTE,))
        + statement_id.to_bytes(4, "little")
        + bytes((cursor,))
        + (1).to_bytes(4, "little")
    )
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
