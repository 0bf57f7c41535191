"""A session's own connection to the home server: commands, and the proxy's own questions between them.

It is opened before the client is greeted, so that the home server's scramble and thread id are the
session's and the home server itself authenticates; the connection has exactly the capabilities that the
client negotiated. `link` relays the client's commands over it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from backend.address import Address
from backend.agent_tls import SHUTDOWN_S
from backend.connection import execute_payload
from backend.keepalive import keep_alive
from backend.pool import Pool
from backend.row_blocks import Cutter
from backend.tasks import to_the_end
from backend.wire import ConnectionLost, Wire
from proxy.home.watch_locks import WatchLocks
from shard.errors import HOME_DOWN, ServerError, SkyError
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import Err, Ok, packet
from shard.wire.protocol import Command, StatusFlag
from shard.wire.replies import (
    ColumnsEvent,
    ErrEvent,
    Event,
    LocalInfile,
    OkEvent,
    PreparedEvent,
    ReplyKind,
    ReplyScanner,
    RowsEvent,
)  # fmt: skip

QUERY, STMT_PREPARE, STMT_CLOSE = (
    bytes((code,)) for code in (Command.QUERY, Command.STMT_PREPARE, Command.STMT_CLOSE)
)
"""What the packets of these commands begin with."""
STATUS_KEPT = (
    StatusFlag.IN_TRANSACTION
    | StatusFlag.AUTOCOMMIT
    | StatusFlag.NO_BACKSLASH_ESCAPES
    | StatusFlag.IN_READ_ONLY_TRANSACTION
    | StatusFlag.ANSI_QUOTES
)
"""Status flags of the session itself."""

_CONNECT_S = 5.0
_LOST_S = 1.0
"""Seconds in which the server sees that a lock's holder is gone, or the connection that waits for it is closed."""
_FILE_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A small result: raw column definitions and text fields."""

    columns: tuple[bytes, ...]
    rows: list[list[bytes | None]]


@dataclass(frozen=True, slots=True)
class Watch:
    """A statement that waits for a lock, by which a session is seen at home meanwhile."""

    name: str
    locks: WatchLocks
    task: asyncio.Task[list[Event]]


@dataclass(frozen=True, slots=True)
class Block:
    """A result that is not taken apart: raw column definitions, row packets (None: too many), and how many rows."""

    columns: tuple[bytes, ...]
    data: bytes | None
    rows: int


class _Wire(Wire):
    """Tells the session when the home server has closed the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()
        self.on_lost: Callable[[], None] | None = None

    def _note(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            if self.on_lost is not None:
                self.on_lost()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._note()

    def eof_received(self) -> bool:
        super().eof_received()
        self._note()
        return False


class Conversation:
    """The connection, and what the proxy itself asks over it; one command at a time.

    Attributes
    ----------
    status : int
        The session's status flags, as the home server last sent them.
    asking : bool
        A question of the proxy's own is under way.
    """

    def __init__(self, wire: _Wire, transport: asyncio.Transport) -> None:
        self._wire, self._transport = wire, transport
        wire.transport = transport
        self._left = self._owed = self._passing = b""
        self._promises = self._awaited = 0
        self.thread_id = 0
        self.status = StatusFlag.AUTOCOMMIT
        self.deprecate_eof = False
        self.asking = False
        self._turn = asyncio.Lock()
        self._watch: Watch | None = None

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect, without authenticating.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                if address.socket is not None:
                    transport, wire = await loop.create_unix_connection(_Wire, address.socket)
                else:
                    transport, wire = await loop.create_connection(
                        _Wire, address.host or "localhost", address.port or 3306
                    )
        except (OSError, TimeoutError) as error:
            raise SkyError(HOME_DOWN) from error
        keep_alive(transport)
        return cls(wire, transport)

    async def packet(self) -> tuple[int, bytes]:
        """Return (sequence number, payload) of the next single packet."""
        while len(self._left) < 4 or len(self._left) < 4 + int.from_bytes(self._left[:3], "little"):
            self._left += await self.receive()
        end = 4 + int.from_bytes(self._left[:3], "little")
        found, self._left = self._left[:end], self._left[end:]
        return found[3], found[4:]

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        if self.closed:
            raise SkyError(HOME_DOWN)
        owed, self._owed = self._owed, b""
        self._awaited, self._promises = self._awaited + self._promises, 0
        self._transport.write(owed + data if owed else data)
        try:
            await self._wire.drain()
        except ConnectionLost as error:
            raise SkyError(HOME_DOWN) from error

    async def start_tls(self, request: bytes, context: ssl.SSLContext) -> None:
        """Go on with TLS, before anything but a greeting has been said.

        Parameters
        ----------
        request : bytes
            The packet that says so.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        await self.send(request)
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self._wire,
                context,
                ssl_handshake_timeout=_CONNECT_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as error:
            raise SkyError(HOME_DOWN) from error
        if transport is None:
            raise SkyError(HOME_DOWN)
        self._transport = self._wire.transport = transport

    async def receive(self) -> bytes:
        """Return the bytes that came."""
        try:
            data = await self._wire.take()
            return await self._past_promises(data) if self._awaited else data
        except ConnectionLost as error:
            raise SkyError(HOME_DOWN) from error

    def promise(self, payload: bytes, status: int) -> None:
        """Keep a command that is surely answered with OK, and these status flags, to be sent before the next."""
        self._owed += packet(payload, 0)
        self._promises += 1
        self.note(status)

    async def _past_promises(self, data: bytes) -> bytes:
        """Return what follows the OKs that have been promised."""
        self._passing += data
        while self._awaited:
            found = self._passing
            while len(found) < 4 or len(found) < 4 + int.from_bytes(found[:3], "little"):
                found = self._passing = found + await self._wire.take()
            end = 4 + int.from_bytes(found[:3], "little")
            self._passing = found[end:]
            self._awaited -= 1
            if found[4] != 0:  # what was sent behind it ran in another session than the client thinks
                self.abort()
                refused = Err.decode(found[4:end])
                raise ServerError(refused.errno, refused.sqlstate, refused.message)
        data, self._passing = self._passing, b""
        return data or await self._wire.take()

    def unasked(self) -> bytes:
        """Return what the home server sent without being asked: its goodbye."""
        data = self._left + self._passing + b"".join(self._wire.pieces)
        self._left = self._passing = b""
        self._wire.pieces.clear()
        for _ in range(self._awaited):  # those have been answered
            data = data[4 + int.from_bytes(data[:3], "little") :]
        return data

    def note(self, status: int) -> None:
        """Keep the session's flags of a reply."""
        self.status = status & STATUS_KEPT

    # the proxy's own questions -------------------------------------------------------------------

    async def _reply(self, payload: bytes, kind: ReplyKind) -> list[Event]:
        return await to_the_end(self._whole_reply(payload, kind))

    async def _whole_reply(self, payload: bytes, kind: ReplyKind) -> list[Event]:
        self.asking = True
        try:
            async with self._turn:
                await self._end_watch()
                return await self._ask(payload, kind)
        finally:
            self.asking = False

    async def _ask(self, payload: bytes, kind: ReplyKind) -> list[Event]:
        await self.send(packet(payload, 0))
        return _accepted((await self._whole(kind, b""))[0])

    async def table(self, sql: bytes) -> Table:
        """Run a statement of the proxy's own on this connection and return its small result."""
        return _table(await self._reply(QUERY + sql, ReplyKind.QUERY))

    async def table_and_check(self, sql: bytes, statement: bytes) -> tuple[Table, tuple[bytes, ...] | None]:
        """Do what `table` does, and `check` with a statement, both in one exchange; None: that was refused."""
        table, prepared = await to_the_end(self._two_replies(sql, statement))
        return table, None if _refusal(prepared) is not None else self._prepared_columns(prepared)

    async def _two_replies(self, sql: bytes, statement: bytes) -> tuple[Table, list[Event]]:
        self.asking = True
        try:
            async with self._turn:
                await self._end_watch()
                await self.send(packet(QUERY + sql, 0) + packet(STMT_PREPARE + statement, 0))
                found, rest = await self._whole(ReplyKind.QUERY, b"")
                prepared, _ = await self._whole(ReplyKind.PREPARE, rest)
                return _table(_accepted(found)), prepared
        finally:
            self.asking = False

    async def _whole(self, kind: ReplyKind, data: bytes) -> tuple[list[Event], bytes]:
        """Return the events of a whole reply that begins with `data`, and the bytes behind it."""
        scanner = ReplyScanner(kind, self.deprecate_eof)
        out = scanner.feed(data)
        while not scanner.done:
            data = await self.receive()
            out += scanner.feed(data)
        return out, data[scanner.consumed :]

    async def done(self, sql: bytes) -> Ok:
        """Run a statement of the client's own that has no rows, and return how it ended."""
        event = (await self._reply(QUERY + sql, ReplyKind.QUERY))[-1]
        if isinstance(event, OkEvent):
            self.note(event.ok.status)
            return event.ok
        raise ValueError("done was given a statement with rows")

    async def block(self, sql: bytes, most: int) -> Block:
        """Run a statement of the proxy's own and return its rows as they came, if they are `most` bytes at most."""
        columns: tuple[bytes, ...] = ()
        pieces: list[bytes] = []
        size = count = 0
        async for event in self.stream(sql, None):
            if isinstance(event, ColumnsEvent):
                columns = event.definitions
            elif isinstance(event, RowsEvent):
                size, count = size + len(event.block), count + event.rows
                if size <= most:
                    pieces.append(bytes(event.block))
                else:  # the rest is read, and forgotten
                    pieces.clear()
        return Block(columns, b"".join(pieces) if size <= most else None, count)

    async def stream(self, sql: bytes, parameters: Sequence[Parameter] | None) -> AsyncGenerator[Event, None]:
        """Run a statement of the proxy's own and yield the events of its reply.

        Parameters
        ----------
        parameters : sequence of Parameter or None
            None: text protocol; else the statement is prepared and its rows are binary.

        Raises
        ------
        ServerError
            MariaDB's error, at any point.
        """
        statement, payload = None, QUERY + sql
        if parameters is not None:
            for event in await self._reply(STMT_PREPARE + sql, ReplyKind.PREPARE):
                if isinstance(event, PreparedEvent):
                    statement = event.statement_id
            payload = execute_payload(statement or 0, parameters)
        try:
            async with self._asked(payload) as scanner:
                while not scanner.done:
                    for event in scanner.feed(await self.receive()):
                        if isinstance(event, ErrEvent):
                            raise ServerError(event.err.errno, event.err.sqlstate, event.err.message)
                        yield event
        finally:
            if statement is not None:
                self._owe_close(statement)

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL with its text from memory; if `pieces` fails, the text ends there."""
        last: Event | None = None
        async with self._asked(QUERY + sql) as scanner:
            while not scanner.done:
                for event in scanner.feed(await self.receive()):
                    last = event
                    if isinstance(event, LocalInfile):
                        await self._send_file(pieces)
        if isinstance(last, ErrEvent):
            raise ServerError(last.err.errno, last.err.sqlstate, last.err.message)
        if isinstance(last, OkEvent):
            return last.ok
        raise ValueError("load was given a statement with rows")

    @asynccontextmanager
    async def _asked(self, payload: bytes) -> AsyncIterator[ReplyScanner]:
        """Send a command whose reply is read in the block; whatever happens there, it is read to its end."""
        self.asking = True
        try:
            async with self._turn:
                await to_the_end(self._end_watch())
                scanner = ReplyScanner(ReplyKind.QUERY, self.deprecate_eof)
                try:
                    await self.send(packet(payload, 0))  # all of it is on its way, even if this is cancelled
                    yield scanner
                finally:
                    if not scanner.done:
                        await to_the_end(self.read_on(scanner))
        finally:
            self.asking = False

    async def read_on(self, scanner: ReplyScanner) -> None:
        """Read a reply to its end, and forget it; the server that asks for a file gets an empty one, or both would wait."""
        while not scanner.done:
            for event in scanner.feed(await self.receive()):
                if isinstance(event, LocalInfile):
                    await self.send(b"\0\0\0\x02")

    async def _send_file(self, pieces: AsyncIterator[bytes]) -> None:
        number = 2
        try:
            async for piece in pieces:
                for start in range(0, len(piece), _FILE_PIECE):
                    part = piece[start : start + _FILE_PIECE]
                    await self.send(len(part).to_bytes(3, "little") + bytes((number & 255,)) + part)
                    number += 1
        finally:
            await to_the_end(self.send(b"\0\0\0" + bytes((number & 255,))))

    async def check(self, sql: bytes) -> tuple[bytes, ...]:
        """Let the home server check names, syntax and privileges (PREPARE and CLOSE); return the columns.

        Raises
        ------
        ServerError
            MariaDB's own error.
        """
        return await to_the_end(self._check(sql))

    async def _check(self, sql: bytes) -> tuple[bytes, ...]:
        return self._prepared_columns(await self._reply(STMT_PREPARE + sql, ReplyKind.PREPARE))

    def _prepared_columns(self, events: list[Event]) -> tuple[bytes, ...]:
        """Return the columns of what was prepared to be checked, which is not wanted any more."""
        columns: tuple[bytes, ...] = ()
        for event in events:
            if isinstance(event, PreparedEvent):
                self._owe_close(event.statement_id)
            elif isinstance(event, ColumnsEvent):
                columns = event.definitions
        return columns

    def _owe_close(self, statement: int) -> None:
        """Close a prepared statement with the next command: COM_STMT_CLOSE has no reply."""
        self._owed += packet(STMT_CLOSE + statement.to_bytes(4, "little"), 0)

    async def prepare(self, sql: bytes) -> int:
        """Prepare a statement and return its number; it is the caller's to close."""
        for event in await self._reply(STMT_PREPARE + sql, ReplyKind.PREPARE):
            if isinstance(event, PreparedEvent):
                return event.statement_id
        raise SkyError(HOME_DOWN)

    async def killed(self, pool: Pool) -> bool:
        """Whether a KILL has come from elsewhere that what runs here does not heed, or that met nothing here."""
        async with pool.lease() as connection:
            found = await connection.fetch(
                f"SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = {self.thread_id}"
            )
        return found == [[b"Killed"]]

    async def watch(self, sql: bytes, locks: WatchLocks) -> bool:
        """Run a statement that waits for a lock of ours, in the name of a distributed one.

        Returns
        -------
        bool
            Whether it was killed. Cancelling, and every other use of this connection, ends it too.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        while True:
            name, watch = locks.name(), None
            try:
                await locks.take(name)
                if self.asking:  # since then the session uses the connection, perhaps for long
                    return False
                async with self._turn:
                    ask = self._ask(QUERY + locks.statement(name, sql), ReplyKind.QUERY)
                    watch = self._watch = Watch(name, locks, asyncio.ensure_future(ask))
                await asyncio.wait({watch.task})
                if self._watch is not watch:  # who needs the connection has ended it, and has its turn
                    return False
                # DO forgets that it was killed: then the lock is still held.
                if watch.task.exception() is not None or await locks.holds(name):
                    return True
            finally:  # after the loss of the lock, too, which is no KILL: the next one is taken
                if watch is None:
                    await locks.let_go(name)
                elif self._watch is watch:
                    await to_the_end(self._unwatch())

    async def _unwatch(self) -> None:
        async with self._turn:
            await self._end_watch()

    async def _end_watch(self) -> None:
        """End a watch, and wait until this connection is idle again."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        if not await watch.locks.let_go(watch.name):
            await asyncio.wait({watch.task}, timeout=_LOST_S)
            if not watch.task.done():
                self.abort()  # the server may not know for long that the lock's holder is gone
        await asyncio.wait({watch.task})
        watch.task.exception()  # seen: a KILL that came meanwhile

    async def wait_closed(self) -> None:
        """Return when the home server has closed the connection."""
        await self._wire.ended.wait()

    @property
    def on_lost(self) -> Callable[[], None] | None:
        """Called when the home server closes the connection."""
        return self._wire.on_lost

    @on_lost.setter
    def on_lost(self, call: Callable[[], None] | None) -> None:
        self._wire.on_lost = call

    @property
    def in_transaction(self) -> bool:
        """Whether the session has an open transaction."""
        return bool(self.status & StatusFlag.IN_TRANSACTION)

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._wire.lost is not None or self._transport.is_closing()

    @property
    def greeted(self) -> bool:
        """Whether the home server has sent its greeting, and waits for an answer."""
        first = self._wire.pieces[0] if self._wire.pieces else b""
        return not self.closed and len(first) > 4 and first[4] != 0xFF

    def abort(self) -> None:
        """Close at once; whoever waits for a reply gets HOME_DOWN."""
        self._transport.abort()

    def leave(self) -> None:
        """Say goodbye and close; nothing may be under way.

        Without the goodbye (COM_QUIT) MariaDB counts and logs an aborted client; and where TLS is spoken, the thread
        keeps the error, and refuses the next connection's COM_CHANGE_USER for it.
        """
        if not self.closed:
            self._transport.write(packet(bytes((Command.QUIT,)), 0))
            self._transport.close()

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _refusal(events: list[Event]) -> ErrEvent | None:
    return next((event for event in events if isinstance(event, ErrEvent)), None)


def _accepted(events: list[Event]) -> list[Event]:
    """Return a reply's events; raises the error in it."""
    refusal = _refusal(events)
    if refusal is not None:
        raise ServerError(refusal.err.errno, refusal.err.sqlstate, refusal.err.message)
    return events


def _table(events: list[Event]) -> Table:
    """Return the small result that a reply is."""
    columns: tuple[bytes, ...] = ()
    found: list[list[bytes | None]] = []
    cutter = Cutter(pieces=False)
    for event in events:
        if isinstance(event, ColumnsEvent):
            columns = event.definitions
        elif isinstance(event, RowsEvent):
            for block in cutter.feed(event):
                found += rows.split(block.data)
    return Table(columns, found)
