"""A session's own connection to the home server.

It is opened before the client is greeted: the home server's scramble, thread id and authentication
packets are relayed, so the home server itself authenticates, and the connection has exactly the
capabilities that the client negotiated. Replies are relayed byte for byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mysql_mimic.types import Capabilities

from backend.address import Address
from proxy.session.client import ClientStream
from shard.catalog.traps import is_trap_error
from shard.errors import HOME_DOWN, ServerError, SkyError, not_supported
from shard.wire import rows
from shard.wire.packets import Ok, packet
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

C = Capabilities
IMPLEMENTED = (
    C.CLIENT_PROTOCOL_41 | C.CLIENT_SECURE_CONNECTION | C.CLIENT_PLUGIN_AUTH | C.CLIENT_CONNECT_WITH_DB
    | C.CLIENT_LONG_FLAG | C.CLIENT_FOUND_ROWS | C.CLIENT_CONNECT_ATTRS
    | C.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA | C.CLIENT_DEPRECATE_EOF | C.CLIENT_SESSION_TRACK
    | 0x80 | 0x400 | 0x2000 | 0x10000 | 0x20000 | 0x40000 | 0x10 | 0x100
)  # fmt: skip
"""0x80 LOCAL_FILES, 0x400 INTERACTIVE, 0x2000 TRANSACTIONS, 0x10000 MULTI_STATEMENTS, 0x20000
MULTI_RESULTS, 0x40000 PS_MULTI_RESULTS, 0x10 NO_SCHEMA, 0x100 IGNORE_SPACE: flags that the library lacks
or that only the home server heeds."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the home server's first packet says."""

    thread_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Table:
    """A small result: raw column definitions and text fields."""

    columns: tuple[bytes, ...]
    rows: list[list[bytes | None]]


def limited_greeting(payload: bytes) -> Greeting:
    """Return the greeting with the capabilities that this proxy implements."""
    end = payload.index(0, 1)
    thread_id = int.from_bytes(payload[end + 1 : end + 5], "little")
    low = end + 1 + 4 + 8 + 1
    mask = int(IMPLEMENTED).to_bytes(4, "little")
    out = bytearray(payload)
    out[low] &= mask[0]
    out[low + 1] &= mask[1]
    out[low + 5] &= mask[2]
    out[low + 6] &= mask[3]
    out[low + 14 : low + 18] = b"\0\0\0\0"  # MariaDB's extended capabilities: none is implemented
    return Greeting(thread_id, bytes(out))


class HomeLink:
    """The connection; one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._left = b""
        self.thread_id = 0
        self.status = 2
        self.deprecate_eof = False

    @staticmethod
    async def open(address: Address) -> HomeLink:
        """Connect, without authenticating.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        try:
            async with asyncio.timeout(5):
                if address.socket is not None:
                    streams = await asyncio.open_unix_connection(address.socket, limit=1 << 20)
                else:
                    streams = await asyncio.open_connection(address.host, address.port or 3306, limit=1 << 20)
        except (OSError, TimeoutError) as error:
            raise SkyError(HOME_DOWN) from error
        return HomeLink(*streams)

    async def _packet(self) -> tuple[int, bytes]:
        try:
            head = await self._reader.readexactly(4)
            return head[3], await self._reader.readexactly(int.from_bytes(head[:3], "little"))
        except (asyncio.IncompleteReadError, ConnectionError, OSError) as error:
            raise SkyError(HOME_DOWN) from error

    async def authenticate(self, client: ClientStream) -> bytes | None:
        """Relay the handshake; return the client's response, or None if it was refused."""
        _, payload = await self._packet()
        if payload[:1] == b"\xff":
            await client.raw(packet(payload, 0))
            return None
        greeting = limited_greeting(payload)
        self.thread_id = greeting.thread_id
        await client.raw(packet(greeting.payload, 0))
        seq, response = await client.raw_packet()
        if len(response) < 32:
            return None
        client.capabilities = int.from_bytes(response[:4], "little") & int(IMPLEMENTED)
        self.deprecate_eof = client.deprecate_eof
        await self.send(
            packet(
                client.capabilities.to_bytes(4, "little") + response[4:28] + b"\0\0\0\0" + response[32:], seq
            )
        )
        accepted = await self.finish_authentication(client)
        return response if accepted else None

    async def finish_authentication(self, client: ClientStream) -> bool:
        """Relay authentication packets until OK or ERR; return whether it was OK."""
        while True:
            seq, payload = await self._packet()
            await client.raw(packet(payload, seq))
            if payload[:1] == b"\x00":
                self.status = Ok.decode(payload).status
                return True
            if payload[:1] == b"\xff":
                return False
            seq, answer = await client.raw_packet()
            await self.send(packet(answer, seq))

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (ConnectionError, OSError) as error:
            raise SkyError(HOME_DOWN) from error

    async def _receive(self) -> bytes:
        try:
            data = await self._reader.read(1 << 18)
        except (ConnectionError, OSError) as error:
            raise SkyError(HOME_DOWN) from error
        if not data:
            raise SkyError(HOME_DOWN)
        return data

    async def relay(
        self, payload: bytes, kind: ReplyKind, client: ClientStream, more: bool = False
    ) -> list[Event]:
        """Send a command and relay its reply byte for byte; return the last packets' events.

        `more` marks a reply that another statement's follows (status flag MORE_RESULTS).
        """
        await self.send(packet(payload, 0))
        scanner = ReplyScanner(kind, self.deprecate_eof)
        seen: list[Event] = []
        other: list[Event]
        while not scanner.done:
            data = await self._receive()
            events = scanner.feed(data)
            other = [event for event in events if not isinstance(event, RowsEvent)]
            seen = [*seen, *other][-4:]
            trapped = next(
                (e for e in events if isinstance(e, ErrEvent) and is_trap_error(e.err.errno, e.err.message)),
                None,
            )
            if trapped is None:
                await client.raw(data)
            elif not client.started:
                raise Trapped
            else:  # the columns are out: the error packet is the last one and keeps its number
                client.seq = data[-(len(trapped.err.message.encode()) + 10)]
                await client.error(trap_error())
            for event in events:
                if isinstance(event, LocalInfile):
                    await self._relay_file(client)
                elif isinstance(event, (OkEvent, EndEvent)):
                    self.status = event.ok.status
        del more
        return seen

    async def _relay_file(self, client: ClientStream) -> None:
        while True:
            seq, piece = await client.raw_packet()
            await self.send(len(piece).to_bytes(3, "little") + bytes((seq,)) + piece)
            if not piece:
                return

    async def _reply(self, payload: bytes, kind: ReplyKind) -> list[Event]:
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

    async def check(self, sql: bytes) -> None:
        """Let the home server check names, syntax and privileges: PREPARE and CLOSE.

        Raises
        ------
        ServerError
            MariaDB's own error.
        """
        for event in await self._reply(b"\x16" + sql, ReplyKind.PREPARE):
            if isinstance(event, PreparedEvent):
                await self.send(packet(b"\x19" + event.statement_id.to_bytes(4, "little"), 0))

    async def wait_closed(self) -> None:
        """Return when the home server has closed an idle connection."""
        while not self._reader.at_eof():
            await asyncio.sleep(0.25)

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, OSError):
            return


class Trapped(Exception):  # noqa: N818 - it is what happened
    """A statement that went home read a sharded table's trap; nothing has been sent to the client."""


def trap_error() -> SkyError:
    """Return the error for a read of a sharded table that cannot be distributed."""
    return not_supported(
        "a read from a view, routine, trigger, variable assignment or dynamic SQL", "write the SELECT itself"
    )
