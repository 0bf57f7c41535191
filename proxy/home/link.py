"""A session's own connection to the home server.

It is opened before the client is greeted, so that the home server's scramble and thread id are the
session's and the home server itself authenticates; the connection has exactly the capabilities that the
client negotiated. Replies are relayed byte for byte where nothing has to be changed in them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from backend.address import Address
from backend.connection import execute_payload
from backend.keepalive import keep_alive
from backend.pool import Pool
from backend.tasks import to_the_end
from backend.wire import ConnectionLost, Wire
from proxy.session.client import ClientGone, ClientStream
from shard.catalog.traps import is_trap_error
from shard.errors import HOME_DOWN, LOCAL_DISABLED, ServerError, SkyError, not_supported
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import STATUS_MORE_RESULTS, Eof, Ok, packet
from shard.wire.replies import (
    CURSOR_EXISTS,
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

STATUS_KEPT = 0x2203
"""Status flags of the session itself: in transaction, autocommit, backslash escapes, read-only transaction."""

_CONNECT_S = 5.0
_KILL_AGAIN_S = 0.02
_FILE_PIECE = 1 << 20
_SMALL_BYTES = 1 << 16
_HEAD_BYTES = 1 << 21
"""Bytes of column definitions that are held until the first row comes, or a trap's error."""

WATCH = "SET STATEMENT max_statement_time=0 FOR DO SLEEP(31536000)"
"""What a session runs at home while a distributed query of its runs for long."""


@dataclass(frozen=True, slots=True)
class Table:
    """A small result: raw column definitions and text fields."""

    columns: tuple[bytes, ...]
    rows: list[list[bytes | None]]


@dataclass(frozen=True, slots=True)
class Block:
    """A result that is not taken apart: raw column definitions, row packets, and how many rows they are."""

    columns: tuple[bytes, ...]
    data: bytes
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


class HomeLink:
    """The connection; one command at a time.

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
        self._left = b""
        self.thread_id = 0
        self.status = 2
        self.deprecate_eof = False
        self.asking = False
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[list[Event]] | None = None
        self._pool: Pool | None = None

    @staticmethod
    async def open(address: Address) -> HomeLink:
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
        return HomeLink(wire, transport)

    async def packet(self) -> tuple[int, bytes]:
        """Return (sequence number, payload) of the next single packet."""
        while len(self._left) < 4 or len(self._left) < 4 + int.from_bytes(self._left[:3], "little"):
            self._left += await self._receive()
        end = 4 + int.from_bytes(self._left[:3], "little")
        found, self._left = self._left[:end], self._left[end:]
        return found[3], found[4:]

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        if self.closed:
            raise SkyError(HOME_DOWN)
        self._transport.write(data)
        try:
            await self._wire.drain()
        except ConnectionLost as error:
            raise SkyError(HOME_DOWN) from error

    async def _receive(self) -> bytes:
        try:
            return await self._wire.take()
        except ConnectionLost as error:
            raise SkyError(HOME_DOWN) from error

    def unasked(self) -> bytes:
        """Return what the home server sent without being asked: its goodbye."""
        data = self._left + b"".join(self._wire.pieces)
        self._left = b""
        self._wire.pieces.clear()
        return data

    def _note(self, status: int) -> None:
        self.status = status & STATUS_KEPT

    # relaying ------------------------------------------------------------------------------------

    async def relay(self, payload: bytes, kind: ReplyKind, client: ClientStream) -> list[Event]:
        """Send a command and relay its reply byte for byte; return the last packets' events.

        Raises
        ------
        Trapped
            If it read a sharded table's trap and nothing was sent to the client yet.
        """
        await self.send(packet(payload, 0))
        first = await self._receive()
        if kind is ReplyKind.QUERY and self._is_whole(first):
            await client.raw(first)
            return []
        scanner = ReplyScanner(kind, self.deprecate_eof)
        seen: list[Event] = []
        head: list[bytes] | None = []
        while not scanner.done:
            data, first = first or await self._receive(), b""
            events = scanner.feed(data)
            seen = [*seen, *(event for event in events if not isinstance(event, RowsEvent))][-4:]
            if head is not None:
                # Many columns come in several pieces, and only then does the first read meet a trap.
                head.append(data)
                if (
                    all(isinstance(event, ColumnsEvent) for event in events)
                    and sum(map(len, head)) < _HEAD_BYTES
                ):
                    continue
                data, head = b"".join(head), None
            if not client.local_files and any(isinstance(event, LocalInfile) for event in events):
                await self._refuse_file(scanner, client)
                return seen
            trapped = _trapped(events)
            if trapped is None:
                await client.raw(data)
            else:
                await self._spring(trapped, data, client)
            for event in events:
                if isinstance(event, LocalInfile):
                    await self._relay_file(client, None)
                elif isinstance(event, (OkEvent, EndEvent)):
                    self._note(event.ok.status)
        return seen

    def _is_whole(self, data: bytes) -> bool:
        """Whether received bytes are a whole reply with rows; its status is noted then."""
        found = rows.small_reply(data, self.deprecate_eof) if len(data) <= _SMALL_BYTES else None
        if found is None:
            return False
        end = found[3]
        status = Ok.decode(end).status if self.deprecate_eof else Eof.decode(end).status
        if status & (STATUS_MORE_RESULTS | CURSOR_EXISTS):
            return False
        self._note(status)
        return True

    async def _spring(self, trapped: ErrEvent, data: bytes, client: ClientStream) -> None:
        """Put an explanation in the place of a trap's own error, which is the last packet of `data`."""
        if not client.started:
            raise Trapped
        size = 4 + len(trapped.err.encode())
        if size > len(data):  # its first bytes are out
            raise ClientGone
        if size < len(data):
            await client.raw(data[:-size])
        client.seq = data[-size + 3]
        await client.error(trap_error())

    async def relay_part(self, sql: bytes, client: ClientStream, more: bool) -> bool:
        """Relay the answer of one statement of several, numbered anew; return whether it succeeded.

        `more` says that another statement's answer follows.
        """
        return await self._relay_reply(b"\x03" + sql, client, more)

    async def _relay_reply(self, payload: bytes, client: ClientStream, more: bool) -> bool:
        await self.send(packet(payload, 0))
        scanner = ReplyScanner(ReplyKind.QUERY, self.deprecate_eof)
        flag = STATUS_MORE_RESULTS if more else 0
        while not scanner.done:
            for event in scanner.feed(await self._receive()):
                if isinstance(event, ErrEvent):
                    if is_trap_error(event.err.errno, event.err.message):
                        raise trap_error()
                    await client.packet(event.err.encode())
                    return False
                if isinstance(event, LocalInfile) and not client.local_files:
                    await self._refuse_file(scanner, client)
                    return False
                await self._resend(event, client, flag)
        return True

    async def _resend(self, event: Event, client: ClientStream, flag: int) -> None:
        if isinstance(event, ColumnsEvent):
            await client.columns(event.definitions, self.status | flag)
        elif isinstance(event, RowsEvent):
            await client.rows(event.block)
        elif isinstance(event, EndEvent):
            self._note(event.ok.status)
            ok = replace(event.ok, status=event.ok.status | flag)
            eof = Eof(ok.warnings, ok.status)
            await client.packet(ok.encode(0xFE) if self.deprecate_eof else eof.encode())
        elif isinstance(event, OkEvent):
            self._note(event.ok.status)
            await client.packet(replace(event.ok, status=event.ok.status | flag).encode())
        elif isinstance(event, LocalInfile):
            await client.packet(b"\xfb" + event.filename)
            await self._relay_file(client, 2)

    async def _refuse_file(self, scanner: ReplyScanner, client: ClientStream) -> None:
        """Give the home server an empty file in the name of a client that sends none."""
        await self.send(b"\0\0\0\x02")
        await self._read_on(scanner)
        await client.error(SkyError(LOCAL_DISABLED))

    async def _relay_file(self, client: ClientStream, number: int | None) -> None:
        """Relay a file to the home server; packets are numbered from `number` if that is given."""
        while True:
            seq, piece = await client.raw_packet()
            client.seq = (seq + 1) & 255
            if number is not None:
                seq, number = number & 255, number + 1
            await self.send(len(piece).to_bytes(3, "little") + bytes((seq,)) + piece)
            if not piece:
                return

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
        scanner = ReplyScanner(kind, self.deprecate_eof)
        out: list[Event] = []
        while not scanner.done:
            out += scanner.feed(await self._receive())
        for event in out:
            if isinstance(event, ErrEvent):
                raise ServerError(event.err.errno, event.err.sqlstate, event.err.message)
        return out

    async def table(self, sql: bytes) -> Table:
        """Run a statement of the proxy's own on this connection and return its small result."""
        columns: tuple[bytes, ...] = ()
        found: list[list[bytes | None]] = []
        for event in await self._reply(b"\x03" + sql, ReplyKind.QUERY):
            if isinstance(event, ColumnsEvent):
                columns = event.definitions
            elif isinstance(event, RowsEvent):
                found += rows.split(event.block)
        return Table(columns, found)

    async def block(self, sql: bytes) -> Block:
        """Run a statement of the proxy's own and return its rows as they came."""
        columns: tuple[bytes, ...] = ()
        pieces: list[bytes] = []
        count = 0
        for event in await self._reply(b"\x03" + sql, ReplyKind.QUERY):
            if isinstance(event, ColumnsEvent):
                columns = event.definitions
            elif isinstance(event, RowsEvent):
                pieces.append(bytes(event.block))
                count += event.rows
        return Block(columns, b"".join(pieces), count)

    async def stream(self, sql: bytes, parameters: Sequence[Parameter] | None) -> AsyncIterator[Event]:
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
        statement, payload = None, b"\x03" + sql
        if parameters is not None:
            for event in await self._reply(b"\x16" + sql, ReplyKind.PREPARE):
                if isinstance(event, PreparedEvent):
                    statement = event.statement_id
            payload = execute_payload(statement or 0, parameters)
        async with self._asked(payload) as scanner:
            while not scanner.done:
                for event in scanner.feed(await self._receive()):
                    if isinstance(event, ErrEvent):
                        raise ServerError(event.err.errno, event.err.sqlstate, event.err.message)
                    yield event
        if statement is not None:
            await self.send(packet(b"\x19" + statement.to_bytes(4, "little"), 0))

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL with its text from memory; if `pieces` fails, the text ends there."""
        last: Event | None = None
        async with self._asked(b"\x03" + sql) as scanner:
            while not scanner.done:
                for event in scanner.feed(await self._receive()):
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
                await self.send(packet(payload, 0))
                scanner = ReplyScanner(ReplyKind.QUERY, self.deprecate_eof)
                try:
                    yield scanner
                finally:
                    if not scanner.done:
                        await to_the_end(self._read_on(scanner))
        finally:
            self.asking = False

    async def _read_on(self, scanner: ReplyScanner) -> None:
        while not scanner.done:
            scanner.feed(await self._receive())

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

    async def run(
        self, sql: bytes, client: ClientStream, parameters: Sequence[Parameter] | None = None
    ) -> None:
        """Run a statement and relay its reply to the end.

        Parameters
        ----------
        parameters : sequence of Parameter or None
            None: text protocol; else the statement is prepared and its rows are binary.
        """
        await to_the_end(self._run(sql, client, parameters))

    async def _run(self, sql: bytes, client: ClientStream, parameters: Sequence[Parameter] | None) -> None:
        number = None if parameters is None else await self.prepare(sql)
        payload = b"\x03" + sql if number is None else execute_payload(number, parameters or ())
        self.asking = True
        try:
            async with self._turn:
                await self._end_watch()
                await self._relay_reply(payload, client, client.more)
                client.ended = True
                if number is not None:
                    await self.send(packet(b"\x19" + number.to_bytes(4, "little"), 0))
        finally:
            self.asking = False

    async def check(self, sql: bytes) -> tuple[bytes, ...]:
        """Let the home server check names, syntax and privileges (PREPARE and CLOSE); return the columns.

        Raises
        ------
        ServerError
            MariaDB's own error.
        """
        return await to_the_end(self._check(sql))

    async def _check(self, sql: bytes) -> tuple[bytes, ...]:
        columns: tuple[bytes, ...] = ()
        for event in await self._reply(b"\x16" + sql, ReplyKind.PREPARE):
            if isinstance(event, PreparedEvent):
                await self.send(packet(b"\x19" + event.statement_id.to_bytes(4, "little"), 0))
            elif isinstance(event, ColumnsEvent):
                columns = event.definitions
        return columns

    async def prepare(self, sql: bytes) -> int:
        """Prepare a statement and return its number; it is the caller's to close."""
        for event in await self._reply(b"\x16" + sql, ReplyKind.PREPARE):
            if isinstance(event, PreparedEvent):
                return event.statement_id
        raise SkyError(HOME_DOWN)

    async def killed(self, pool: Pool) -> bool:
        """Whether a KILL has come from elsewhere while nothing ran here: it would be lost with the next statement."""
        async with pool.lease() as connection:
            found = await connection.fetch(
                f"SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = {self.thread_id}"
            )
        return found == [[b"Killed"]]

    async def watch(self, sql: bytes, pool: Pool) -> bool:
        """Run a statement that only KILL ends, in the name of a distributed one.

        Returns
        -------
        bool
            Whether it was killed. Cancelling, and every other use of this connection, ends it too.
        """
        note = b" /* " + sql.replace(b"*/", b"* /") + b" */"
        async with self._turn:
            self._pool = pool
            ask = self._ask(b"\x03" + WATCH.encode() + note, ReplyKind.QUERY)
            task = self._watching = asyncio.ensure_future(ask)
        try:
            await asyncio.wait({task})
            return self._watching is task
        finally:
            await to_the_end(self._unwatch())

    async def _unwatch(self) -> None:
        async with self._turn:
            await self._end_watch()

    async def _end_watch(self) -> None:
        """End a watch, and wait until this connection is idle again."""
        task, self._watching = self._watching, None
        if task is None or self._pool is None:
            return
        while not task.done():  # a KILL that comes before the statement has begun is lost
            async with self._pool.lease() as connection:
                with contextlib.suppress(ServerError):
                    await connection.run(f"KILL QUERY {self.thread_id}")
            await asyncio.wait({task}, timeout=_KILL_AGAIN_S)
        if isinstance(task.exception(), ServerError) or task.exception() is None:
            with contextlib.suppress(ServerError):  # a KILL that came too late meets this one
                await self._ask(b"\x03DO 0", ReplyKind.QUERY)

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

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class Trapped(Exception):  # noqa: N818 - it is what happened
    """A statement that went home read a sharded table's trap; nothing has been sent to the client."""


def _trapped(events: list[Event]) -> ErrEvent | None:
    for event in events:
        if isinstance(event, ErrEvent) and is_trap_error(event.err.errno, event.err.message):
            return event
    return None


def trap_error() -> SkyError:
    """Return the error for a read of a sharded table that cannot be distributed."""
    return not_supported(
        "a read from a view, routine, trigger, variable assignment or dynamic SQL", "write the SELECT itself"
    )
