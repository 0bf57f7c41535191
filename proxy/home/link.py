"""Relays a client's commands to the home server, and its replies byte for byte where nothing has to be changed in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backend.connection import execute_payload
from backend.tasks import to_the_end
from proxy.home.conversation import QUERY, STMT_CLOSE, Block, Conversation, Table
from proxy.session.client import ClientGone, ClientStream
from shard.catalog.traps import is_trap_error
from shard.errors import LOCAL_DISABLED, SkyError, not_supported
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import MAX_PAYLOAD, Eof, Ok, packet
from shard.wire.protocol import StatusFlag
from shard.wire.replies import (
    ColumnsEvent,
    EndEvent,
    ErrEvent,
    Event,
    LocalInfile,
    OkEvent,
    ReplyKind,
    ReplyScanner,
    RowsEvent,
)  # fmt: skip

_SMALL_BYTES = 1 << 16
_HEAD_BYTES = 1 << 21
"""Bytes of column definitions that are held until the first row comes, or a trap's error."""

__all__ = ["Block", "HomeLink", "Table", "Trapped", "trap_error"]


class HomeLink(Conversation):
    """A session's connection to the home server, as its client uses it."""

    async def relay(self, payload: bytes, kind: ReplyKind, client: ClientStream) -> list[Event]:
        """Send a command and relay its reply byte for byte; return the last packets' events.

        Raises
        ------
        Trapped
            If it read a sharded table's trap, and did nothing before.
        """
        await self.send(packet(payload, 0))
        first = await self.receive()
        if kind is ReplyKind.QUERY and self._is_whole(first):
            await client.raw(first)
            return []
        scanner = ReplyScanner(kind, self.deprecate_eof)
        seen: list[Event] = []
        head: list[bytes] | None = []
        while not scanner.done:
            data, first = first or await self.receive(), b""
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
                await client.relayed(data, scanner.cut)
            else:
                if not client.started and all(isinstance(event, ColumnsEvent | ErrEvent) for event in events):
                    raise Trapped
                await self._spring(trapped, data, client)
            for event in events:
                if isinstance(event, LocalInfile):
                    await self._relay_file(client, None)
                elif isinstance(event, (OkEvent, EndEvent)):
                    self.note(event.ok.status)
        return seen

    def _is_whole(self, data: bytes) -> bool:
        """Whether received bytes are a whole reply with rows; its status is noted then."""
        found = rows.small_reply(data, self.deprecate_eof) if len(data) <= _SMALL_BYTES else None
        if found is None:
            return False
        end = found[3]
        status = Ok.decode(end).status if self.deprecate_eof else Eof.decode(end).status
        if status & (StatusFlag.MORE_RESULTS | StatusFlag.CURSOR_EXISTS):
            return False
        self.note(status)
        return True

    async def _spring(self, trapped: ErrEvent, data: bytes, client: ClientStream) -> None:
        """Put an explanation in the place of a trap's own error, which is the last packet of `data`."""
        size = 4 + len(trapped.err.encode())
        if size > len(data):  # its first bytes are out
            raise ClientGone
        if size < len(data):
            await client.relayed(data[:-size], cut=False)
        client.seq = data[-size + 3]
        await client.error(trap_error())

    async def relay_part(self, sql: bytes, client: ClientStream, more: bool) -> bool:
        """Relay the answer of one statement of several, numbered anew; return whether it succeeded.

        `more` says that another statement's answer follows.
        """
        return await self._relay_reply(QUERY + sql, client, more)

    async def _relay_reply(self, payload: bytes, client: ClientStream, more: bool) -> bool:
        await self.send(packet(payload, 0))
        scanner = ReplyScanner(ReplyKind.QUERY, self.deprecate_eof)
        try:
            return await self._resend_all(scanner, client, StatusFlag.MORE_RESULTS if more else 0)
        except SkyError:  # too many rows for the client's user
            await self.read_on(scanner)
            raise

    async def _resend_all(self, scanner: ReplyScanner, client: ClientStream, flag: int) -> bool:
        while not scanner.done:
            for event in scanner.feed(await self.receive()):
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
            await client.rows(event.block, not event.whole)
        elif isinstance(event, EndEvent):
            self.note(event.ok.status)
            ok = replace(event.ok, status=event.ok.status | flag)
            eof = Eof(ok.warnings, ok.status)
            await client.packet(ok.encode(0xFE) if self.deprecate_eof else eof.encode())
        elif isinstance(event, OkEvent):
            self.note(event.ok.status)
            await client.packet(replace(event.ok, status=event.ok.status | flag).encode())
        elif isinstance(event, LocalInfile):
            await client.packet(b"\xfb" + event.filename)
            await self._relay_file(client, 2)

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
        payload = QUERY + sql if number is None else execute_payload(number, parameters or ())
        self.asking = True
        try:
            async with self._turn:
                await self._end_watch()
                await self._relay_reply(payload, client, client.more)
                client.ended = True
                if number is not None:
                    await self.send(packet(STMT_CLOSE + number.to_bytes(4, "little"), 0))
        finally:
            self.asking = False

    async def _refuse_file(self, scanner: ReplyScanner, client: ClientStream) -> None:
        """Give the home server an empty file in the name of a client that sends none."""
        await self.send(b"\0\0\0\x02")
        await self.read_on(scanner)
        await client.error(SkyError(LOCAL_DISABLED))

    async def _relay_file(self, client: ClientStream, number: int | None) -> None:
        """Relay a file to the home server; packets are numbered from `number` if that is given."""
        before = 0
        while True:
            seq, piece = await client.raw_packet()
            if number is not None:
                seq, number = number & 255, number + 1
            await self.send(len(piece).to_bytes(3, "little") + bytes((seq,)) + piece)
            if not piece and before < MAX_PAYLOAD:  # else it only ends the packet before
                return
            before = len(piece)


class Trapped(Exception):  # noqa: N818 - it is what happened
    """A statement that went home read a sharded table's trap, and nothing else; nothing has been sent to the client."""


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
